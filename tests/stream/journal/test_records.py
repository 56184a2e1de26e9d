"""Laws of records: they say which chunks belong to a rollout, forks form a tree, and cleanup never
removes a chunk that a kept rollout needs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from longtake.errors import BadInput, StorageError
from longtake.headless.cli import main
from longtake.headless.commands.rollouts import size_bytes
from longtake.samplers.guidance import cfg
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import pyramid
from longtake.stream.journal import cleanup
from longtake.stream.journal.cleanup import collect, usage
from longtake.stream.journal.fork_tree import fork_tree, render_tree
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.record_lines import sealed_line
from longtake.stream.journal.records import SUFFIX, find_record, read, records
from longtake.stream.rollout.fork import Fork, extend
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.stream.rollouts import MODEL, Words, edit_fork
from longtake.tests.support.tiny_model import settings
from longtake.units import byte_size

SOURCE = settings(length=12, guidance=cfg(2.0))


def made(folder: Path, given: Any = SOURCE) -> Rollout:
    """Make a rollout with all its chunks in the journal."""
    rollout = Rollout(RolloutSpec(given, MODEL, "model", Journal(folder), prompter=Words()))
    assert len(list(rollout.chunks)) == rollout.chunk_count
    return rollout


def aged(folder: Path, *rollouts: Rollout) -> None:
    """Set the times of last use in this order."""
    for number, rollout in enumerate(rollouts):
        os.utime(folder / f"{rollout.id}{SUFFIX}", (1000 + number, 1000 + number))


def test_a_record_names_every_chunk_in_order(tmp_path: Path) -> None:
    rollout = made(tmp_path)
    [record] = records(rollout.spec.journal)
    assert record.id == rollout.id and record.keys == tuple(rollout.spec.key(i) for i in range(4))
    assert record.latent_frames == 12 and record.start(2) == 6
    assert record.facts["prompts"] == [[0, "prompt 0"], [3, "prompt 3"]]
    assert record.facts["seeds"] == [[0, 5]] and record.facts["fps"] == 16


def test_a_fork_has_a_record_with_what_it_shares(tmp_path: Path) -> None:
    source, fork = made(tmp_path), made(tmp_path, edit_fork(6).apply(SOURCE))
    found = {record.id: record for record in records(source.spec.journal)}
    assert found[fork.id].keys[:2] == found[source.id].keys[:2]
    assert found[fork.id].facts["seeds"] == [[0, 5], [6, 11]]


def test_a_live_edit_has_a_record_of_its_own(tmp_path: Path) -> None:
    rollout = Rollout(RolloutSpec(SOURCE, MODEL, "model", Journal(tmp_path), prompter=Words()))
    chunks = iter(rollout.chunks)
    next(chunks)
    rollout.controls.set_prompt("77")
    assert len(list(chunks)) == 3
    found = {record.id: record for record in records(rollout.spec.journal)}
    assert len(found[rollout.id].keys) == 1
    [edited] = found.keys() - {rollout.id}
    assert len(found[edited].keys) == 4 and found[edited].lock == rollout.id


def test_a_torn_record_is_read_up_to_the_tear_and_extended(tmp_path: Path) -> None:
    rollout = made(tmp_path)
    path = tmp_path / f"{rollout.id}{SUFFIX}"
    whole, expected = path.read_bytes(), read(path)
    assert expected is not None
    first_line = whole.index(b"\n") + 1
    for at in range(first_line, len(whole), 13):
        path.write_bytes(whole[:at])
        torn = read(path)
        assert torn is not None and torn.keys == expected.keys[: len(torn.keys)]
        (tmp_path / f"{rollout.spec.key(3)}.safetensors").unlink()
        made(tmp_path)  # makes the last chunk again, and notes all
        again = read(path)
        assert again is not None and again.keys == expected.keys


def test_every_flipped_bit_of_a_record_is_noticed_and_harms_no_other_shot(tmp_path: Path) -> None:
    """Cleanup keeps what the record may name, and its shot's next run rebuilds it."""
    rollout, other = made(tmp_path), made(tmp_path, settings(length=6, seed=99))
    path, journal = tmp_path / f"{rollout.id}{SUFFIX}", rollout.spec.journal
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        assert read(path) is None, at
        assert [record.id for record in records(journal)] == [other.id]
    assert collect(journal, 0, dry_run=True).chunks == 2
    (tmp_path / f"{rollout.spec.key(3)}.safetensors").unlink()
    made(tmp_path)
    rebuilt = read(path)
    assert rebuilt is not None and len(rebuilt.keys) == 4
    assert path.with_suffix(".damaged").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../../poetry"}, {"lock": "../../../poetry"}, {"lock": 7}, {"longtake": "2"},
        {"fps": 0}, {"fps": 10**400}, {"fps": float("nan")}, {"fps": "16"}, {"rows": 0},
        {"columns": None}, {"prompts": [[0]]}, {"seeds": []}, {"guidance": {}}, {"channels": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_foreign_first_line_is_not_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Not even with a right seal: nothing in a record becomes a path."""
    rollout = made(tmp_path / "longtake" / ".rollouts")
    path = rollout.spec.journal.folder / f"{rollout.id}{SUFFIX}"
    head, rest = path.read_text("utf-8").split("\n", 1)
    path.write_text(sealed_line(json.loads(head.rpartition(" ")[0]) | changes) + rest, "utf-8")
    assert records(rollout.spec.journal) == []
    assert collect(rollout.spec.journal, 0).chunks == 0
    for words in (["list"], ["gc", "--keep", "0"]):
        done = CliRunner().invoke(main, ["rollouts", *words, "--out", str(tmp_path)])
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("damage", ["flip", "empty", "gone"])
def test_a_run_that_makes_nothing_rebuilds_the_record(tmp_path: Path, damage: str) -> None:
    rollout = made(tmp_path)
    path = tmp_path / f"{rollout.id}{SUFFIX}"
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else whole[:60] + b"?" + whole[61:])
    made(tmp_path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [["a", "b", 3], [0, "b", 3], [9, "0" * 64, 3], [-1, "0" * 64, 3]])
def test_a_foreign_chunk_line_is_not_taken(tmp_path: Path, line: list[Any]) -> None:
    rollout = made(tmp_path)
    with (tmp_path / f"{rollout.id}{SUFFIX}").open("a") as file:
        file.write(sealed_line(line))
    assert records(rollout.spec.journal) == []


def test_a_record_that_cannot_be_opened_keeps_its_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rollout, plain = made(tmp_path), os.open

    def fail(path: Any, *given: Any) -> int:
        if str(path).endswith(SUFFIX):
            raise OSError(errno.EIO, "Input/output error")
        return plain(path, *given)

    monkeypatch.setattr(os, "open", fail)
    assert collect(rollout.spec.journal, 0).chunks == 0
    assert "cannot be opened (Input/output error); check the disk" in caplog.text
    assert rollout.spec.stored_chunks() == 4


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_records_and_locks_are_never_followed_through_a_link(tmp_path: Path) -> None:
    journal, outside = tmp_path / "journal", tmp_path / "poetry"
    rollout = made(journal)
    outside.write_text("a poem")
    for name in (f"{rollout.id}{SUFFIX}", f"{rollout.id}.lock"):
        (journal / name).unlink()
        (journal / name).symlink_to(outside)
        (journal / f"{rollout.spec.key(3)}.safetensors").unlink()
        with contextlib.suppress(StorageError):
            made(journal)
        assert records(rollout.spec.journal) == [] or name.endswith("lock")
        assert outside.read_text() == "a poem"
        (journal / name).unlink()
        made(journal)


def test_a_record_that_is_deleted_in_mid_run_is_written_again_from_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rollout = Rollout(RolloutSpec(SOURCE, MODEL, "model", Journal(tmp_path), prompter=Words()))
    for chunk in rollout.chunks:
        if chunk.index in (0, 2):
            (tmp_path / f"{rollout.id}{SUFFIX}").unlink()
    [record] = records(rollout.spec.journal)
    assert record.keys == tuple(rollout.spec.key(i) for i in range(4)) and not caplog.records


def test_a_record_without_its_first_line_is_rebuilt_by_the_next_run(tmp_path: Path) -> None:
    rollout = made(tmp_path)
    record = tmp_path / f"{rollout.id}{SUFFIX}"
    before = record.read_bytes()
    record.write_bytes(before.partition(b"\n")[2])
    assert records(rollout.spec.journal) == []
    made(tmp_path)
    assert record.read_bytes() == before


def test_a_file_with_a_pattern_as_its_name_removes_nothing_else(tmp_path: Path) -> None:
    rollout = made(tmp_path)
    (tmp_path / "*.safetensors").write_bytes(b"x" * 1_000)
    before = usage(rollout.spec.journal).total_bytes
    assert collect(rollout.spec.journal, before).chunks == 0
    assert rollout.spec.stored_chunks() == 4


def test_a_regenerated_tail_replaces_the_old_one(tmp_path: Path) -> None:
    """A longer pyramid makes its old end again, where fewer frames were active before."""
    short = settings(schedule=pyramid(flow_ladder(3, 3.0)), length=5)
    before, after = made(tmp_path, short), made(tmp_path, extend(short, 5, 3))
    assert before.id == after.id
    [record] = records(after.spec.journal)
    assert record.keys == tuple(after.spec.key(i) for i in range(8))
    assert {before.spec.key(4), after.spec.key(4)} <= record.owned
    assert usage(after.spec.journal).unknown == frozenset()
    _, line = render_tree(fork_tree([record], record))
    assert line == f"  ~ {record.replaced} chunks replaced, still on disk"


def test_forks_form_a_tree(tmp_path: Path) -> None:
    source = made(tmp_path)
    early = made(tmp_path, Fork(3, seed=9).apply(SOURCE))
    late_settings = Fork(6, guidance=cfg(3.0)).apply(SOURCE)
    late = made(tmp_path, late_settings)
    twig = made(tmp_path, Fork(9, seed=8).apply(late_settings))
    made(tmp_path, settings(length=3, seed=99))  # begins otherwise
    found = records(source.spec.journal)
    [root] = [record for record in found if record.id == twig.id]  # whichever record is the root
    assert [line.rstrip() for line in render_tree(fork_tree(found, root), late.id)] == [
        f"- {source.id[:8]}  0:02.8  prompt 0",
        f"  - {early.id[:8]}  0:02.8  from 0:00.6: prompt prompt 3, seed 9",
        f"  * {late.id[:8]}  0:02.8  from 0:01.3: guidance 3 x all; -2 x all, negative prompt",
        f"    - {twig.id[:8]}  0:02.8  from 0:02.1: seed 8",
    ]


def test_cleanup_removes_the_least_recently_used_and_keeps_shared_chunks(tmp_path: Path) -> None:
    source, fork = made(tmp_path), made(tmp_path, edit_fork(6).apply(SOURCE))
    other = made(tmp_path, settings(length=6, seed=99))
    aged(tmp_path, source, other, fork)  # the source is the oldest
    before = usage(source.spec.journal)
    chunk = before.total_bytes // 8
    planned = collect(source.spec.journal, before.total_bytes - 1, dry_run=True)
    freed = collect(source.spec.journal, before.total_bytes - 1)
    assert planned == freed and [record.id for record in freed.removed] == [source.id]
    assert freed.chunks == 2 and usage(source.spec.journal).total_bytes == freed.left_bytes
    again = Rollout(RolloutSpec(edit_fork(6).apply(SOURCE), MODEL, "model", Journal(tmp_path)))
    assert again.spec.stored_chunks() == 4
    freed = collect(source.spec.journal, int(4.5 * chunk))
    assert [record.id for record in freed.removed] == [other.id]
    freed = collect(source.spec.journal, 0)
    assert freed.left_bytes == 0 and usage(source.spec.journal).chunks == {}


def test_chunks_without_a_record_go_first(tmp_path: Path) -> None:
    source, other = made(tmp_path), made(tmp_path, settings(length=6, seed=99))
    (tmp_path / f"{other.id}{SUFFIX}").unlink()
    freed = collect(source.spec.journal, usage(source.spec.journal).total_bytes - 1)
    assert (freed.removed, freed.chunks) == ((), 2) and source.spec.stored_chunks() == 4


def test_a_rollout_in_production_is_kept(tmp_path: Path) -> None:
    source, other = made(tmp_path), made(tmp_path, settings(length=6, seed=99))
    with source.spec.journal.lock(source.id):
        freed = collect(source.spec.journal, 0)
    assert [record.id for record in freed.in_use] == [source.id]
    assert [record.id for record in freed.removed] == [other.id]
    assert source.spec.stored_chunks() == 4 and other.spec.stored_chunks() == 0


def test_a_rollout_that_is_read_is_kept(tmp_path: Path) -> None:
    """By several readers at once; its small lock files go with it."""
    source, other = made(tmp_path), made(tmp_path, settings(length=6, seed=99))
    journal = source.spec.journal
    with journal.reading(source.id), journal.reading(source.id):
        freed = collect(journal, 0)
        assert [record.id for record in freed.in_use] == [source.id]
        assert source.spec.stored_chunks() == 4 and other.spec.stored_chunks() == 0
    assert len(collect(journal, 0).removed) == 1
    assert os.name != "posix" or list(tmp_path.iterdir()) == []


def test_a_rollout_cannot_be_read_while_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, plain = made(tmp_path), cleanup._remove

    def remove(journal: Journal, *given: Any) -> None:
        with pytest.raises(BadInput, match="already running"):
            journal.reading(source.id)
        plain(journal, *given)

    monkeypatch.setattr(cleanup, "_remove", remove)
    assert len(collect(source.spec.journal, 0).removed) == 1


def test_the_command_lists_shows_and_cleans_up(tmp_path: Path) -> None:
    folder = tmp_path / "longtake" / ".rollouts"
    source, fork = made(folder), made(folder, edit_fork(6).apply(SOURCE))
    aged(folder, source, fork)
    out = ["--out", str(tmp_path)]

    def said(*words: str) -> str:
        narrow = {"COLUMNS": "30"}  # which cuts no id
        done = CliRunner().invoke(main, ["rollouts", *words, *out], env=narrow)
        assert done.exit_code == 0, done.output
        return done.output

    lines = {line[:16]: line for line in said("list").splitlines()}
    assert "; from 0:01.3: prompt 77, seed 11" in lines[fork.id]
    assert lines[source.id].endswith("; from 0:00.6: prompt prompt 3")
    listed = json.loads(said("list", "--json"))
    assert [record["id"] for record in listed] == [fork.id, source.id]
    assert 0 < listed[0]["own_bytes"] < listed[0]["bytes"]
    assert "seed 11" in said("show", fork.id[:6]) + said("show", source.id[:6])
    assert json.loads(said("show", source.id, "--json"))["chunks"] == 4
    assert "Would remove 2 rollouts" in said("gc", "--keep", "0", "--dry-run")
    assert json.loads(said("gc", "--keep", "0", "--json"))["left_bytes"] == 0
    assert said("list") == f"There are no rollouts in {tmp_path}.\n"


@pytest.mark.parametrize(("said", "factor"), [({}, 8), ({"channels": 48}, 16), (None, 8)])
def test_sizes_follow_the_latents_of_the_model(
    tmp_path: Path, said: dict[str, int] | None, factor: int
) -> None:
    """Also for records without the number of channels."""
    rollout = made(tmp_path / "longtake" / ".rollouts")
    path = tmp_path / "longtake" / ".rollouts" / f"{rollout.id}{SUFFIX}"
    head, *chunks = path.read_text("utf-8").splitlines()
    facts = json.loads(head.rpartition(" ")[0])
    assert facts.pop("channels") == MODEL.config.out_channels
    if said is not None:
        facts |= {"channels": MODEL.config.out_channels} | said
    path.write_text(sealed_line(facts) + "\n".join([*chunks, ""]), "utf-8")
    words = ["rollouts", "list", "--json", "--out", str(tmp_path)]
    [listed] = json.loads(CliRunner().invoke(main, words).output)
    assert listed["width"] == SOURCE.columns * factor and listed["height"] == SOURCE.rows * factor


def test_the_command_refuses_in_one_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["rollouts", "show", "x", "--out", str(tmp_path)])
    assert done.exit_code == 1 and "There is no rollout 'x'" in done.output
    done = CliRunner().invoke(main, ["rollouts", "gc", "--keep", "much", "--out", str(tmp_path)])
    assert done.exit_code == 2 and "'much' is not a size" in done.output
    nowhere = ["--out", str(tmp_path / "nowhere")]
    for words in (["list"], ["gc", "--keep", "0"]):
        done = CliRunner().invoke(main, ["rollouts", *words, *nowhere])
        assert done.exit_code == 1 and "There is no folder" in done.output


@pytest.mark.parametrize(
    ("written", "size"),
    [("20GB", 20 * 2**30), ("1.5m", 1_572_864), ("0", 0), ("2 TiB", 2 * 2**40), ("7B", 7)],
)
def test_sizes_are_parsed_as_people_write_them(written: str, size: int) -> None:
    assert size_bytes(written) == size


def test_the_size_that_the_list_shows_is_the_size_to_keep() -> None:
    assert size_bytes(byte_size(3 * 2**30)) == 3 * 2**30


def test_names_must_be_unambiguous(tmp_path: Path) -> None:
    made(tmp_path), made(tmp_path, settings(length=6, seed=99))
    with pytest.raises(BadInput, match="2 rollouts have an id beginning with"):
        find_record(Journal(tmp_path), "")


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    folder = tmp_path / "longtake" / ".rollouts"
    folder.parent.mkdir()
    folder.write_text("not a folder")
    for command in (["list"], ["show", "2c"], ["gc", "--keep", "0"]):
        result = CliRunner().invoke(main, ["rollouts", *command, "--out", str(tmp_path)])
        assert result.exit_code == 1, result.output
        assert f"The folder of rollouts {folder} cannot be read" in result.output
    with pytest.raises(StorageError, match="cannot be read"):
        usage(Journal(folder))


def test_a_chunk_whose_size_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    loop = tmp_path / f"{'a' * 64}.safetensors"
    try:
        loop.symlink_to(loop.name)
    except OSError:
        pytest.skip("this system makes no symbolic links")
    with pytest.raises(StorageError, match="cannot be read"):
        usage(Journal(tmp_path))
