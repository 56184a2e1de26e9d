"""A host that caches what a preview returned must run the node again once its take is too old."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.stream.preview.messages import Ending, Origin, Shot, TakeStats
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Earlier, Limits, Takes
from longtake.tests.support.numbered_frames import numbered_frames

LIMITS = Limits(takes=3, finished_s=100.0)


class Store:
    """A store of takes of two chunks, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.takes = Takes(lambda: folder, LIMITS, clock=lambda: self.now)

    def begin(self, node: str) -> Take:
        """A run of a node that has nothing yet."""
        origin = Origin(node, node, "prompt", "canvas", "page")
        earlier = Earlier(str, 1)
        return self.takes.create(Shot(16.0, 64, 48, 24), origin, lambda *_: None, None, earlier)

    def run(self, node: str) -> Take:
        """A run of a node that has ended."""
        take = self.begin(node)
        for chunk in range(take.first_new, 2):
            frames = numbered_frames(12 * chunk, 12, 64, 48)
            take.show(frames, 12 * chunk, "a red ball", TakeStats(), str(chunk))
        take.finish(Ending("done"))
        take.join()
        return take


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.takes.reset()


def test_takes_that_are_there_or_went_for_newer_ones_have_not_expired(store: Store) -> None:
    for node in ("7", "7", "8", "9", "10", "7"):
        store.run(node)
    assert store.takes.expirations == 0, "else the host would run previews again and again"


def test_takes_that_run_cost_no_finished_one(store: Store) -> None:
    """The newest of them had only just ended, and its page could not fetch its last frames."""
    running = [store.begin(str(node)) for node in range(5)]
    ended = store.run("5")
    store.begin("6")
    assert all(store.takes.get(take.token) is take for take in (*running, ended))


def test_a_take_that_became_too_old_is_counted_once_and_for_ever(store: Store) -> None:
    take = store.run("7")
    store.now = 101.0
    assert store.takes.get(take.token) is None and store.takes.expirations == 1
    assert store.run("7").first_new == 1, "it goes on with the old take's chunk"
    assert store.takes.expirations == 1, "0 would name the first result again"
    store.now = 202.0
    assert store.takes.expirations == 2


def test_an_old_take_that_its_node_replaced_is_not_counted(store: Store) -> None:
    store.run("7")
    store.now = 50.0
    store.run("7")
    store.now = 120.0
    assert store.takes.expirations == 0
