"""A host that caches what a preview returned must run the node again once its take is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.stream.preview.messages import Ending, Origin, Shot
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Limits, Takes

LIMITS = Limits(takes=3, finished_s=100.0)


class Store:
    """A store of takes without frames, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.takes = Takes(lambda: folder, LIMITS, clock=lambda: self.now)

    def run(self, node: str, page: str = "page") -> Take:
        """A run of a node that has ended."""
        origin = Origin(node, node, "prompt", "canvas", page)
        take = self.takes.create(Shot(16.0, 64, 48, 24), origin, lambda *_: None)
        take.finish(Ending("done"))
        take.join()
        return take


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.takes.reset()


def test_a_take_that_is_there_is_not_lost(store: Store) -> None:
    take = store.run("7")
    store.run("8")
    assert store.takes.get(take.token) is take and store.takes.times_lost("7") == 0


def test_a_node_learns_that_its_take_expired_and_never_unlearns_it(store: Store) -> None:
    take = store.run("7")
    store.now = 101.0
    assert store.takes.get(take.token) is None
    assert store.takes.times_lost("7") == 1 and store.takes.times_lost("8") == 0
    store.run("7")  # the host runs it again
    assert store.takes.times_lost("7") == 1, "0 would name the first result again"
    store.now = 202.0
    assert store.takes.times_lost("7") == 2


def test_a_node_learns_that_its_take_went_for_newer_ones(store: Store) -> None:
    store.run("7")
    for node in ("8", "9", "10"):
        store.run(node)
    assert store.takes.times_lost("7") == 1


def test_a_take_that_a_newer_one_of_its_node_replaced_is_no_loss(store: Store) -> None:
    for _ in range(8):
        store.run("7")
    assert store.takes.times_lost("7") == 0, "else the host would run the node every time"


def test_two_pages_with_one_node_each_lose_their_own(store: Store) -> None:
    store.run("7", page="one")
    for _ in range(3):
        store.run("7", page="another")
    assert store.takes.times_lost("7") == 1
