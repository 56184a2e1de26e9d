"""The preview's drive route: one page drives, its lines can be read, bad bodies have no effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longtake.samplers.camera.keys import KeyState, Push
from longtake.stream.drive.drive import Steer
from longtake.stream.preview.messages import Ending
from longtake.stream.preview.steer_request import read_steer
from longtake.tests.support.stream.take_site import JSON, Site, served


async def steer(site: Site, body: object, **headers: str) -> tuple[int, Any]:
    """Post to the take's drive route."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with site.page.post(
        f"{site.path}/drive", data=data, headers={**JSON, **headers}
    ) as answer:
        return answer.status, await answer.json()


async def read(site: Site, path: str) -> Any:
    async with site.page.get(f"{site.path}{path}") as answer:
        assert answer.status == 200
        return await answer.json()


def test_everything_that_a_page_says_is_read() -> None:
    body = {
        "driver": "a", "number": 3, "keys": ["w", "shift"], "sticks": [0, 0.5, -1, 0, 0],
        "look": [4, -2.5], "mode": "history", "shown": 7, "take_over": True, "leave": True,
    }  # fmt: skip
    state = KeyState(frozenset(["w", "shift"]), Push((0.0, 0.5, -1.0, 0.0, 0.0)))
    expected = Steer("a", 3, state, (4.0, -2.5), "history", 7, take_over=True, leave=True)
    assert read_steer(json.dumps(body).encode()) == expected
    assert read_steer(b'{"driver": "a", "number": 1}') == Steer("a", 1)


def test_one_page_drives_the_other_is_told_and_lines_stay_after_the_end(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert (await steer(site, {"driver": "a", "number": 1}))[1]["answer"] == "no camera"
        assert (await read(site, ""))["drive"] is None
        drive = site.controls.drive
        drive.open(16.0)
        body = {"driver": "a", "number": 2, "keys": ["w"]}
        assert await steer(site, body) == (200, {"answer": "drives", "motion": "forward 0.5"})
        status, answer = await steer(site, {"driver": "b", "number": 1, "keys": ["s"]})
        assert (status, answer["answer"]) == (200, "other")
        assert "Another tab drives" in answer["error"]
        drive.note(0, drive.read(3, 0.25) or ())
        shown = (await read(site, ""))["drive"]
        assert (shown["driver"], shown["motion"], shown["number"]) == ("a", "forward 0.5", 2)
        site.take.finish(Ending("done"))
        site.take.join()
        assert (await steer(site, {**body, "number": 3}))[1]["answer"] == "ended"
        assert await read(site, "/drive") == {"lines": ["0.00: forward 0.5"]}
        assert (await read(site, ""))["drive"]["motion"] == "forward 0.5"

    served(tmp_path, test)


GOOD: dict[str, Any] = {"driver": "a", "number": 1}


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", {"number": 1}, {"driver": "", "number": 1}, {"driver": "a"},
    {"driver": "x" * 257, "number": 1}, {**GOOD, "number": 0}, {**GOOD, "number": True},
    {**GOOD, "number": 2**53},
    {**GOOD, "keys": "w"}, {**GOOD, "keys": ["x"]}, {**GOOD, "keys": [["w"]]},
    {**GOOD, "sticks": [0, 0, 0, 0]}, {**GOOD, "sticks": [0, 0, 0, 0, 1.5]},
    {**GOOD, "sticks": [0, 0, 0, 0, True]}, {**GOOD, "look": [1]}, {**GOOD, "look": [1, 2e5]},
    b'{"driver": "a", "number": 1, "look": [NaN, 0]}', {**GOOD, "look": [10**400, 0]},
    {**GOOD, "mode": "fast"}, {**GOOD, "mode": ["hold"]}, {**GOOD, "shown": -1},
    {**GOOD, "shown": 1.5}, {**GOOD, "leave": 1}, {**GOOD, "op": "stop"},
])  # fmt: skip
def test_a_bad_body_is_400_with_one_sentence_and_no_effect(tmp_path: Path, body: object) -> None:
    async def test(site: Site) -> None:
        site.controls.drive.open(16.0)
        status, answer = await steer(site, body)
        assert status == 400 and answer["error"].endswith(".")
        assert site.controls.drive.read(1, 0.25) is None

    served(tmp_path, test)


def test_another_site_cannot_drive(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.controls.drive.open(16.0)
        status, _ = await steer(site, GOOD, Origin="http://evil.example")
        assert status == 403

    served(tmp_path, test)
