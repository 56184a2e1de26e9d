"""Leases that end while their worker is away: the row goes on elsewhere, and only there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longtake.headless.batch.record import DONE
from longtake.headless.leases.driver import driver, service
from longtake.headless.leases.worker import link, worker
from longtake.headless.leases.worker.link import Link, Task
from longtake.headless.leases.worker.worker import Worker
from longtake.tests.support.headless.lease_batches import (
    LIMIT_S,
    Batch,
    Clock,
    FakeEngine,
    check_whole,
)
from longtake.tests.support.stream.live_servers import wait_until

pytestmark = pytest.mark.usefixtures("quickly")
Join = Callable[..., Worker]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every driver."""
    made = Clock()
    monkeypatch.setattr(driver, "time", made)
    monkeypatch.setattr(service, "time", made)
    return made


def started(folder: Path, count: int) -> Batch:
    batch = Batch(folder / "out", count)
    batch.out.mkdir()
    batch.start()
    return batch


def test_the_row_of_a_dead_worker_goes_to_another(tmp_path: Path, join: Join, clock: Clock) -> None:
    batch, engine = started(tmp_path, 3), FakeEngine()
    dead = join(batch, FakeEngine(), "dead")
    lost = dead.loop.wait(dead.link.take("dead"))
    assert lost is not None
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(join(batch, engine, "alive").run)
        wait_until(lambda: [one.state for one in batch.records()][1:] == [DONE, DONE], LIMIT_S)
        assert engine.seeds == [2, 3]
        clock.end_leases()
        assert running.result(LIMIT_S) == 3
    batch.join()
    assert engine.seeds[-1] == 1
    check_whole(batch)
    assert [record.attempt for record in batch.records()] == [2, 1, 1]


def test_a_worker_whose_answer_was_lost_gets_its_row_again(tmp_path: Path, join: Join) -> None:
    """Else the row would wait for the end of a lease that nobody knows of."""
    batch = started(tmp_path, 3)
    unlucky, namesake = (join(batch, FakeEngine(), "w") for _ in range(2))
    ask = unlucky.link.take
    first = unlucky.loop.wait(ask("w"))
    assert first is not None and unlucky.loop.wait(ask("w")) == first
    other = namesake.loop.wait(namesake.link.take("w"))
    assert other is not None and other.lease != first.lease
    unlucky.loop.wait(unlucky.link.release(first))
    again = unlucky.loop.wait(ask("w"))
    assert again is not None and (again.row, again.number) == (first.row, 2)
    namesake.loop.wait(namesake.link.release(other))
    assert unlucky.run() == 3
    batch.join()
    check_whole(batch)


def test_a_worker_that_comes_too_late_changes_nothing(
    tmp_path: Path, join: Join, clock: Clock
) -> None:
    batch = started(tmp_path, 1)
    late = join(batch, FakeEngine(), "late")
    task = late.loop.wait(late.link.take("late"))
    assert task is not None
    clock.end_leases()
    other = join(batch, FakeEngine(), "other")
    held = other.loop.wait(other.link.take("other"))
    assert held is not None
    stray = tmp_path / "stray"
    stray.write_text("of the old lease")
    requests = (
        late.link.send(task, stray, "a.png"),
        late.link.end(task, {"seconds": 1, "files": []}),
        late.link.renew(task, 1, 2),
    )
    for request in requests:
        with pytest.raises(link.LeaseEnded):
            late.loop.wait(request)
    assert list(batch.out.rglob("a.png")) == []
    other.loop.wait(other.link.release(held))
    assert join(batch, FakeEngine(), "third").run() == 1
    batch.join()
    check_whole(batch)


def test_a_worker_stops_a_row_that_another_has_taken(
    tmp_path: Path, join: Join, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, slow = started(tmp_path, 1), FakeEngine()
    slow.act = lambda _: slow.stopped.wait(LIMIT_S) if len(slow.seeds) == 1 else None
    renew, renewals = Link.renew, list[Task]()

    async def unheard(self: Link, task: Task, done: int | None, total: int | None) -> None:
        renewals.append(task)
        if len(renewals) == 1:
            clock.end_leases()
        await renew(self, task, done, total)

    monkeypatch.setattr(Link, "renew", unheard)
    monkeypatch.setattr(worker, "BEATS", 1000)
    assert join(batch, slow).run() == 1  # it lost the row, and then took it again
    batch.join()
    assert slow.seeds == [1, 1]
    check_whole(batch)
