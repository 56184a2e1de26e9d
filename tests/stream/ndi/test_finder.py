"""Which NDI source a name means, and when that is known. NDI itself is not needed."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace

import pytest

from longtake.errors import BadInput
from longtake.stream.ndi.finder import find, matches
from longtake.tests.support.stream.ndi_stand_in import Network

SEEN = ["CAM (Left)", "PC (OBS)", "PC (OBS preview)", "pc2 (obs)"]


@pytest.mark.parametrize(("name", "fitting"), [
    ("PC (OBS)", ["PC (OBS)"]),
    ("pc (obs)", ["PC (OBS)"]),
    ("OBS", ["PC (OBS)", "pc2 (obs)"]),
    ("obs preview", ["PC (OBS preview)"]),
    ("cam", ["CAM (Left)"]),
    ("right", []),
])  # fmt: skip
def test_a_name_is_a_whole_one_or_that_in_brackets_or_a_part(name: str, fitting: list[str]) -> None:
    assert matches(name, SEEN) == fitting


class Looks(Event):
    """An event that nobody sets, and a clock that goes on while it is waited for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 0.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        patch.setattr("longtake.stream.ndi.finder.time", clock)

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return False


def test_a_whole_name_is_taken_at_once_and_a_part_when_no_other_one_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Looks(monkeypatch)
    Network([], ["PC (OBS)"]).install(monkeypatch)
    assert find("PC (OBS)", 10.0, looks).name == "PC (OBS)" and looks.now == pytest.approx(0.1)
    Network([], ["PC (OBS)"]).install(monkeypatch)
    assert find("obs", 10.0, looks).name == "PC (OBS)" and looks.now == pytest.approx(1.2)


def test_a_part_that_soon_fits_another_source_too_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Network(*[["PC (OBS)"]] * 5, ["A (OBS)", "PC (OBS)"]).install(monkeypatch)
    reason = r"name obs fits 2 NDI sources: A \(OBS\), PC \(OBS\); give the whole name of one\."
    with pytest.raises(BadInput, match=reason):
        find("obs", 10.0, Looks(monkeypatch))


def test_sources_that_come_and_go_do_not_make_the_search_endless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Looks(monkeypatch)
    Network(*[["A (OBS)"], ["B (OBS)"]] * 60).install(monkeypatch)
    assert find("obs", 5.0, looks).name and looks.now == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize(("seen", "reason"), [
    ([], "called OBS was there for 10 s, and no other one is seen either; .* sends, and let NDI"),
    (["PC (vMix)\x1b[2J"], r"those seen are PC \(vMix\)\[2J; .* give one of these names"),
    ([f"PC (Cam {i})" for i in range(10, 22)], r"Cam 10\), .* PC \(Cam 19\) and 2 more; start"),
])  # fmt: skip
def test_without_the_source_those_that_are_seen_are_listed(
    seen: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(seen).install(monkeypatch)
    with pytest.raises(BadInput, match=reason):
        find("OBS", 10.0, Looks(monkeypatch))


def test_the_end_of_the_reading_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Event()
    ended.set()
    Network([]).install(monkeypatch)
    with pytest.raises(BadInput):
        find("OBS", 1e9, ended)
