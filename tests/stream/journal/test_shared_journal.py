"""Laws of a journal that machines share: the same bits anywhere, whatever the store does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import StorageError
from longtake.samplers.loop import Chunk
from longtake.stream.journal.cleanup import usage
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import find_record, records
from longtake.stream.journal.shared_files import SharedFiles
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.stream.store.sharing import RowLease
from longtake.tests.support.stream.rollouts import MODEL, Words, cut_after
from longtake.tests.support.stream.stores import FaultyStore, machine, store_of_kind
from longtake.tests.support.tiny_model import settings

CHUNKS = 4


@pytest.fixture(params=["folder", "memory", "S3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultyStore]:
    with store_of_kind(request.param, tmp_path) as opened:
        yield FaultyStore(opened)


@pytest.fixture
def fast_store(tmp_path: Path) -> Iterator[FaultyStore]:
    with store_of_kind("folder", tmp_path) as opened:
        yield FaultyStore(opened)


def rollout(journal: Journal, **changes: Any) -> Rollout:
    made = settings(**{"length": 12, **changes})
    return Rollout(RolloutSpec(made, MODEL, "model", journal, prompter=Words()))


def latents(chunks: list[Chunk]) -> torch.Tensor:
    return torch.cat([chunk.latents for chunk in chunks], 1)


def finish(made: Rollout) -> torch.Tensor:
    """Make or read a whole shot, and wait until the store has it."""
    chunks = list(made.chunks)
    files = made.spec.journal.files
    if isinstance(files, SharedFiles):
        files.sharing.settle()
    return latents(chunks)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return latents(list(rollout(Journal(tmp_path_factory.mktemp("alone"))).chunks))


def chunk_names(made: Rollout) -> list[str]:
    return [f"chunks/{made.spec.key(index)}.safetensors" for index in range(CHUNKS)]


def test_another_machine_goes_on_with_the_bits_of_one(
    store: FaultyStore, tmp_path: Path, expected: torch.Tensor
) -> None:
    first, _ = machine(tmp_path / "one", store)
    cut_after(rollout(first), 2)
    first.files.sharing.settle()
    second, _ = machine(tmp_path / "two", store)
    there = rollout(second)
    assert there.spec.stored_chunks() == 2
    assert torch.equal(finish(there), expected)
    assert there.run.resumed_from == 2
    third = rollout(machine(tmp_path / "three", store)[0])
    assert torch.equal(finish(third), expected)
    assert third.run.resumed_from is None and third.spec.stored_chunks() == CHUNKS


def test_the_store_has_chunks_and_records_and_no_cache_of_keys(
    fast_store: FaultyStore, tmp_path: Path
) -> None:
    journal, sharing = machine(tmp_path / "one", fast_store)
    made = Rollout(RolloutSpec(settings(length=12), MODEL, "model", journal, snapshot_chunks=1))
    finish(made)
    assert list((tmp_path / "one").glob("*.state.safetensors"))
    assert set(fast_store.inner.times("chunks")) == set(chunk_names(made))
    assert set(fast_store.inner.times("records")) == {f"records/{made.id}.{sharing.writer}.rollout"}


def test_what_was_made_before_there_was_a_store_gets_there(
    fast_store: FaultyStore, tmp_path: Path, expected: torch.Tensor
) -> None:
    finish(rollout(Journal(tmp_path / "one")))
    finish(rollout(machine(tmp_path / "one", fast_store)[0]))
    journal, _ = machine(tmp_path / "two", fast_store)
    there = rollout(journal)
    assert there.spec.stored_chunks() == CHUNKS
    assert [len(record.keys) for record in records(journal)] == [CHUNKS]
    assert torch.equal(finish(there), expected)


def test_two_machines_at_once_make_one_shot(
    store: FaultyStore, tmp_path: Path, expected: torch.Tensor
) -> None:
    store.hidden = lambda name: name.startswith("chunks/")  # so that both make every chunk
    shots = [rollout(machine(tmp_path / name, store)[0]) for name in ("one", "two")]
    pairs = list(zip(*(shot.chunks for shot in shots), strict=True))
    for shot in shots:
        shot.spec.journal.files.sharing.settle()
    assert all(torch.equal(latents(list(chunks)), expected) for chunks in zip(*pairs, strict=True))
    assert all(store.written.count(name) >= 2 for name in chunk_names(shots[0]))
    store.hidden = lambda name: False
    later, _ = machine(tmp_path / "later", store)
    assert torch.equal(finish(rollout(later)), expected)
    assert len(records(later)) == 1 and len(store.inner.times("records")) >= 2


@pytest.mark.parametrize("spoil", [lambda content: content[: len(content) // 2],
                                   lambda content: content[:-1] + bytes([content[-1] ^ 1]),
                                   lambda content: b""],
                         ids=["torn", "flipped", "empty"])  # fmt: skip
def test_a_damaged_chunk_in_the_store_is_named_and_made_again(
    spoil: Any, fast_store: FaultyStore, tmp_path: Path, expected: torch.Tensor,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    made = rollout(machine(tmp_path / "one", fast_store)[0])
    victim = chunk_names(made)[1]
    fast_store.spoil = lambda name, content: spoil(content) if name == victim else content
    finish(made)
    fast_store.spoil = lambda _, content: content
    with caplog.at_level(logging.WARNING, "longtake"):
        there = rollout(machine(tmp_path / "two", fast_store)[0])
        assert torch.equal(finish(there), expected)
    assert sum("is damaged" in text and "stored again" in text for text in caplog.messages) == 1
    caplog.clear()
    third = rollout(machine(tmp_path / "three", fast_store)[0])
    assert torch.equal(finish(third), expected) and not caplog.messages
    assert third.run.resumed_from is None


def test_a_damaged_file_of_this_machine_comes_back_from_the_store(
    fast_store: FaultyStore, tmp_path: Path, expected: torch.Tensor
) -> None:
    made = rollout(machine(tmp_path / "one", fast_store)[0])
    finish(made)
    path = tmp_path / "one" / f"{made.spec.key(1)}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    again = rollout(machine(tmp_path / "one", fast_store)[0])
    assert torch.equal(finish(again), expected)
    assert again.run.resumed_from is None and path.with_suffix(".damaged").exists()


def test_a_damaged_file_of_this_machine_is_not_sent(
    fast_store: FaultyStore, tmp_path: Path
) -> None:
    made = rollout(Journal(tmp_path / "one"))
    finish(made)
    path = tmp_path / "one" / f"{made.spec.key(1)}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    journal, sharing = machine(tmp_path / "one", fast_store)
    assert journal.read(made.spec.key(1)) is None
    sharing.close()
    assert fast_store.inner.times("chunks") == {}


def test_stale_listings_lose_nothing(
    store: FaultyStore, tmp_path: Path, expected: torch.Tensor
) -> None:
    store.unlisted = lambda name: True
    first, _ = machine(tmp_path / "one", store)
    cut_after(rollout(first), 2)
    first.files.sharing.settle()
    second, _ = machine(tmp_path / "two", store)
    there = rollout(second)
    assert records(second) == []
    assert torch.equal(finish(there), expected) and there.run.resumed_from == 2
    store.unlisted = lambda name: False
    [record] = records(machine(tmp_path / "three", store)[0])
    assert len(record.keys) == CHUNKS


def test_a_store_that_falls_silent_stops_no_run_and_gets_all_later(
    fast_store: FaultyStore, tmp_path: Path, expected: torch.Tensor,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    journal, sharing = machine(tmp_path / "one", fast_store)
    made = rollout(journal)
    chunks = iter(made.chunks)
    first = next(chunks)
    sharing.settle()
    fast_store.is_lost = True
    with caplog.at_level(logging.WARNING, "longtake"):
        assert torch.equal(latents([first, *chunks]), expected)
        sharing.settle()
        sharing.close()
    for part in ("are on this machine", "chunks are not in the store"):
        assert sum(part in text for text in caplog.messages) == 1
    fast_store.is_lost = False
    again, later = machine(tmp_path / "one", fast_store)
    finish(rollout(again))
    later.close()
    assert set(fast_store.inner.times("chunks")) == set(chunk_names(made))
    [record] = records(machine(tmp_path / "two", fast_store)[0])
    assert len(record.keys) == CHUNKS
    sent = fast_store.written.copy()
    finish(rollout(machine(tmp_path / "one", fast_store)[0]))
    assert fast_store.written == sent


def test_a_store_that_answers_again_gets_what_waited(
    fast_store: FaultyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal, sharing = machine(tmp_path / "one", fast_store)
    made = rollout(journal)
    chunks = iter(made.chunks)
    sharing.settle()
    fast_store.is_lost = True
    next(chunks)
    next(chunks)
    fast_store.is_lost = False
    with caplog.at_level(logging.WARNING, "longtake"):
        list(chunks)
        sharing.settle()
    assert any("answers again" in text for text in caplog.messages)
    assert set(fast_store.inner.times("chunks")) == set(chunk_names(made))


def test_a_worker_that_wakes_after_its_lease_is_fenced(
    store: FaultyStore, tmp_path: Path, expected: torch.Tensor
) -> None:
    slow, slow_sharing = machine(tmp_path / "slow", store)
    slow_sharing.hold(RowLease("row", 1))
    sleeper = iter(rollout(slow).chunks)
    begun = [next(sleeper), next(sleeper)]
    slow_sharing.settle()
    quick, quick_sharing = machine(tmp_path / "quick", store)
    quick_sharing.hold(RowLease("row", 2))
    there = rollout(quick)
    assert torch.equal(finish(there), expected) and there.run.resumed_from == 2
    before = len(store.written)
    with pytest.raises(StorageError, match="Lease 1 of this row has ended"):
        list(sleeper)
        slow_sharing.settle()
    assert len(store.written) == before
    assert torch.equal(latents(begun), expected[:, : 2 * begun[0].latents.shape[1]])


def test_a_lease_of_another_batch_fences_nobody(fast_store: FaultyStore, tmp_path: Path) -> None:
    machine(tmp_path / "one", fast_store)[1].hold(RowLease("row of another batch", 9))
    journal, sharing = machine(tmp_path / "two", fast_store)
    sharing.hold(RowLease("row", 1))
    assert len(list(rollout(journal).chunks)) == CHUNKS


def test_a_fence_holds_though_the_store_was_silent_when_it_was_raised(
    fast_store: FaultyStore, tmp_path: Path
) -> None:
    """The marks go before anything else that the new holder sends."""
    old, old_sharing = machine(tmp_path / "old", fast_store)
    old_sharing.hold(RowLease("row", 1))
    fast_store.is_lost = True
    new, new_sharing = machine(tmp_path / "new", fast_store)
    new_sharing.hold(RowLease("row", 3))
    fast_store.is_lost = False
    finish(rollout(new))
    assert fast_store.written.index("leases/row.1") < min(
        fast_store.written.index(name) for name in chunk_names(rollout(new))
    )
    with pytest.raises(StorageError, match="Lease 1"):
        finish(rollout(old, length=15))


def test_records_of_two_machines_are_one_rollout(fast_store: FaultyStore, tmp_path: Path) -> None:
    first, _ = machine(tmp_path / "one", fast_store)
    made = rollout(first)
    cut_after(made, 1)
    first.files.sharing.settle()
    second, _ = machine(tmp_path / "two", fast_store)
    longer = rollout(second, length=15)
    finish(longer)
    for folder in ("one", "two", "elsewhere"):
        journal, _ = machine(tmp_path / folder, fast_store)
        record = find_record(journal, made.id)
        assert record.keys == tuple(longer.spec.key(index) for index in range(5))
        assert len(usage(journal).records) == 1


def test_a_torn_record_of_another_machine_hides_nothing(
    fast_store: FaultyStore, tmp_path: Path
) -> None:
    made = rollout(machine(tmp_path / "one", fast_store)[0])
    finish(made)
    [name] = fast_store.inner.times("records")
    content = fast_store.inner.read(name)
    fast_store.inner.write(name, content[:-20])
    journal, _ = machine(tmp_path / "two", fast_store)
    [record] = records(journal)
    assert record.id == made.id and len(record.keys) == CHUNKS - 1
    fast_store.inner.write(name, b"x" + content[1:])
    other, _ = machine(tmp_path / "three", fast_store)
    assert records(other) == [] and usage(other).unusable == 1


def test_a_record_is_not_sent_whole_for_each_chunk(fast_store: FaultyStore, tmp_path: Path) -> None:
    journal, sharing = machine(tmp_path / "one", fast_store)
    made = rollout(journal, length=150)
    slow = threading.Event()
    fast_store.spoil = lambda _, content: content if slow.wait(60) else b""
    for _ in made.chunks:
        pass
    slow.set()
    finish(made)
    sent = sum(name.startswith("records/") for name in fast_store.written)
    assert sent < 30 < made.chunk_count
    [record] = records(machine(tmp_path / "two", fast_store)[0])
    assert len(record.keys) == made.chunk_count


def test_a_reader_who_goes_away_waits_for_no_store(fast_store: FaultyStore, tmp_path: Path) -> None:
    """The garbage collector may close a shot on any thread, that of the sender too."""
    journal, sharing = machine(tmp_path / "one", fast_store)
    chunks = iter(rollout(journal).chunks)
    next(chunks)
    sharing.settle()
    answer = threading.Event()
    fast_store.spoil = lambda _, content: content if answer.wait(60) else b""
    next(chunks)
    del chunks
    answer.set()
    sharing.settle()
    assert len(fast_store.inner.times("chunks")) == 2
