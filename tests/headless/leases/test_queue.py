"""The lease queue against a model that knows all that ever happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtake.errors import StorageError
from longtake.headless.batch.record import DONE, FAILED, QUEUED, WAITING, Record, Records
from longtake.headless.batch.row import Row
from longtake.headless.leases.queue import MAX_LOSSES, Ending, Lease, LeaseQueue

LEASE_S = 10.0


def rows_of(count: int) -> list[Row]:
    return [
        Row(Record(number, f"key{number}", "w.json", {}, f"{number:03}-w"), dict)
        for number in range(1, count + 1)
    ]


def open_queue(out: Path, count: int, now: float = 0.0) -> LeaseQueue:
    """A driver's queue over the records in `out`, also after a restart."""
    out.mkdir(exist_ok=True)
    records, rows = Records(out), rows_of(count)
    records.resume()
    records.merge_rows(row.record for row in rows)
    return LeaseQueue(rows, records, LEASE_S, now)


def take(queue: LeaseQueue, worker: str = "w", now: float = 0.0) -> Lease:
    queue.expire(now)
    lease = queue.take(worker, now)
    assert lease is not None
    return lease


def test_a_row_goes_to_one_worker_until_its_lease_ends(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, 1)
    first = take(queue, "first")
    assert queue.take("second", LEASE_S - 0.1) is None
    assert queue.renew(first.id, LEASE_S - 0.1)
    assert queue.expire(LEASE_S + 1) == []
    second = take(queue, "second", 2 * LEASE_S)
    assert second.row.record.number == first.row.record.number
    assert second.number > first.number
    assert not queue.renew(first.id, 2 * LEASE_S)
    assert not queue.end(first.id, Ending(1), 0)
    assert queue.end(second.id, Ending(1), 0)
    assert queue.unfinished == 0


def test_every_lease_that_ends_by_itself_is_told_once(tmp_path: Path) -> None:
    """The service removes its files and its line; a renewal of another must not hide it."""
    queue = open_queue(tmp_path, 2)
    dead, alive = take(queue, "dead"), take(queue, "alive", LEASE_S / 2)
    assert queue.renew(alive.id, LEASE_S + 1)
    assert not queue.renew(dead.id, LEASE_S + 1)
    assert queue.take("third", LEASE_S + 1) is None
    assert [lease.id for lease in queue.expire(LEASE_S + 1)] == [dead.id]
    assert queue.expire(LEASE_S + 1) == []


def test_a_row_that_is_given_back_comes_next_and_counts_no_loss(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, 2)
    first = take(queue)
    queue.release(first.id)
    again = take(queue)
    assert again.row is first.row
    assert again.row.record.losses == 0


def test_a_driver_that_starts_again_does_not_wait_for_a_row_that_was_given_back(
    tmp_path: Path,
) -> None:
    """A cluster that stops all processes of a job at once stops workers and driver."""
    queue = open_queue(tmp_path, 1)
    first = take(queue)
    queue.release(first.id)
    again = take(open_queue(tmp_path, 1))
    assert again.number == first.number + 1


FAILURE = Ending(2, error="No such file: model.safetensors.")


def failed_with_another_there(out: Path) -> tuple[LeaseQueue, Lease]:
    """A queue whose first row failed at `poor`, and the lease of `rich` on its second."""
    queue = open_queue(out, 2)
    first, second = take(queue, "poor"), take(queue, "rich")
    assert queue.end(first.id, FAILURE, 1)
    assert first.row.record.state == WAITING and queue.unfinished == 2
    assert queue.take("poor", 1) is None
    return queue, second


@pytest.mark.parametrize("ending", [Ending(3), Ending(3, error="It is too large here, too.")])
def test_a_row_that_fails_is_tried_once_by_another_worker(tmp_path: Path, ending: Ending) -> None:
    queue, second = failed_with_another_there(tmp_path)
    assert queue.end(second.id, Ending(1), 2)
    again = take(queue, "rich", 2)
    assert again.row.record.number == 1 and again.number == 2
    assert queue.end(again.id, ending, 5) and queue.unfinished == 0
    record = again.row.record
    assert (record.state, record.error) == (FAILED if ending.error else DONE, ending.error)


def test_a_row_that_fails_at_the_only_worker_has_failed(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, 1)
    lease = take(queue)
    assert queue.end(lease.id, FAILURE, 1)
    assert lease.row.record.state == FAILED and queue.unfinished == 0


@pytest.mark.parametrize("is_told", [True, False])
def test_a_row_does_not_wait_for_a_worker_that_has_gone(tmp_path: Path, *, is_told: bool) -> None:
    queue, second = failed_with_another_there(tmp_path)
    later = 1 if is_told else 3 * LEASE_S
    if is_told:
        queue.release(second.id)
    queue.expire(later)
    own = take(queue, "poor", later)  # the other row
    assert own.row is second.row
    assert queue.take("poor", later) is None
    assert (queue.unfinished, queue.end(own.id, Ending(1), later), queue.unfinished) == (1, True, 0)
    records = Records(tmp_path)
    records.resume()
    assert {row.number: row.error for row in records.rows} == {1: FAILURE.error, 2: None}


def test_a_row_that_brings_every_worker_down_fails(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, 1)
    for turn in range(MAX_LOSSES):
        take(queue, now=turn * LEASE_S)
    queue.expire(MAX_LOSSES * LEASE_S)
    assert queue.take("w", MAX_LOSSES * LEASE_S) is None
    assert queue.unfinished == 0
    records = Records(tmp_path)
    records.resume()
    assert records.rows[0].state == FAILED
    assert records.rows[0].error == "lost with its worker 6 times"


def test_a_new_driver_knows_the_leases_of_the_last(tmp_path: Path) -> None:
    lease = take(open_queue(tmp_path, 2), "alive")
    later = open_queue(tmp_path, 2, now=500)
    assert take(later, "other", 501).row.record.number != lease.row.record.number
    assert later.take("other", 502) is None
    assert later.renew(lease.id, 502)
    assert later.end(lease.id, Ending(3), 0)
    assert later.unfinished == 1


def test_a_disk_that_refuses_loses_no_row_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(tmp_path, 2)
    running = take(queue)

    def refuse(self: Records, row: Record) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(Records, "save", refuse)
        with pytest.raises(StorageError):
            queue.take("w", 0.0)
        with pytest.raises(StorageError):
            queue.end(running.id, Ending(1), 0)
        with pytest.raises(StorageError):
            queue.release(running.id)
    assert queue.unfinished == 2
    assert running.row.record.state == QUEUED
    assert queue.end(running.id, Ending(1), 0)
    waiting = take(queue)
    assert (waiting.row.record.number, waiting.number) == (2, 1)
    assert queue.end(waiting.id, Ending(1), 0)
    assert queue.unfinished == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("take", "renew", "end", "release", "wait", "restart")),
        st.integers(0, 30),
    ),
    max_size=60,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_happens_each_row_ends_once_under_its_newest_lease(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    out = tmp_path_factory.mktemp("batch")
    now, queue = 0.0, open_queue(out, 3)
    given_out: list[tuple[str, int, int]] = []  # lease, row, number
    ended: list[int] = []
    for step, value in steps:
        lease, row, number = given_out[value % len(given_out)] if given_out else ("none", 0, 0)
        newest = max((n for _, r, n in given_out if r == row), default=0)
        if step == "take":
            new = queue.take("w", now)
            if new is not None:
                key = new.row.record.number
                assert new.number > max((n for _, r, n in given_out if r == key), default=0)
                assert key not in ended
                given_out.append((new.id, key, new.number))
        elif step == "renew":
            assert not queue.renew(lease, now) or number == newest
        elif step == "end":
            if queue.end(lease, Ending(1), now):
                assert number == newest
                ended.append(row)
        elif step == "release":
            queue.release(lease)
        elif step == "wait":
            now += value
            queue.expire(now)
        else:
            queue = open_queue(out, 3, now)
    assert len(ended) == len(set(ended))
    records = Records(out)
    records.resume()
    done = {record.number for record in records.rows if record.state == DONE}
    failed = {record.number for record in records.rows if record.state == FAILED}
    assert done == set(ended)
    assert queue.unfinished == 3 - len(done | failed)
