"""Laws of the journal: entries are complete or absent, one run at a time, keys by content."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from longtake.errors import BadInput, StorageError
from longtake.machine.temporary_files import temporary_name
from longtake.stream.journal.journal import Journal, next_key, root_key
from longtake.tests.support.stream.small_disk import small_disk

ROOT = Path(__file__).resolve().parents[3]
META = {"device": "cpu", "torch": "2"}
posix = pytest.mark.skipif(os.name != "posix", reason="kill -9 and lock files as on POSIX")


def example_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 2, 3, 5, generator=generator)
    return {
        "latents": latents,
        "half": latents.to(torch.bfloat16)[:, :, 1],  # not contiguous
        "same": latents,
        "steps": torch.tensor(4),
        "none": torch.empty(0, 2),
    }


def assert_same(read: dict[str, Tensor] | None, written: dict[str, Tensor]) -> None:
    assert read is not None and read.keys() == written.keys()
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)


def python(script: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start a process with this checkout bound to `longtake`."""
    bind = f"import runpy; runpy.run_path({str(ROOT / 'tests' / 'conftest.py')!r})\n"
    command = [sys.executable, "-c", bind + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_entries_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    journal, tensors = Journal(tmp_path / "new" / "folder"), example_tensors()
    assert journal.read("a") is None and "a" not in journal
    journal.write("a", tensors, META)
    assert "a" in journal and journal.read_meta("a") == META
    assert_same(journal.read("a"), tensors)
    assert [path.name for path in journal.folder.iterdir()] == ["a.safetensors"]


def test_inference_tensors_can_be_stored(tmp_path: Path) -> None:
    with torch.inference_mode():
        Journal(tmp_path).write("a", {"x": torch.ones(2)}, {})
    assert_same(Journal(tmp_path).read("a"), {"x": torch.ones(2)})


def test_a_second_write_replaces_the_entry(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("a", {"x": torch.zeros(2)}, {})
    journal.write("a", {"x": torch.ones(2)}, {})
    assert_same(journal.read("a"), {"x": torch.ones(2)})


def test_every_truncation_and_every_flipped_bit_is_detected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed file may be read only if its content equals the original."""
    journal, tensors = Journal(tmp_path), {"x": torch.arange(6.0).reshape(2, 3)}
    journal.write("a", tensors, META)
    path = tmp_path / "a.safetensors"
    whole = path.read_bytes()
    flips = (
        whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :] for i in range(len(whole))
    )
    cuts = (whole[:i] for i in range(0, len(whole), 7))
    for damaged in (*flips, *cuts):
        path.write_bytes(damaged)
        read = journal.read("a")
        if read is not None:
            assert_same(read, tensors)
            assert journal.read_meta("a") == META
    path.write_bytes(whole[:-1])
    caplog.clear()
    assert journal.read("a") is None
    assert "a.safetensors is damaged" in caplog.text and "a.damaged" in caplog.text
    assert not path.exists() and (tmp_path / "a.damaged").read_bytes() == whole[:-1]


def test_a_chunk_under_another_chunk_s_name_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path)
    journal.write("a", {"x": torch.ones(2)}, META)
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert journal.read("b") is None and journal.read_meta("a") == META
    assert "b.safetensors is damaged (it is the chunk a under another name)" in caplog.text
    assert (tmp_path / "b.damaged").exists() and not (tmp_path / "b.safetensors").exists()


@posix
@pytest.mark.parametrize("version", [3, 1])
def test_a_chunk_of_another_format_is_refused_and_can_be_replaced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: int,
) -> None:
    journal = Journal(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("longtake.stream.journal.journal.VERSION", version)
        journal.write("a", example_tensors(), META)
    assert journal.read("a") is None and "a" in journal  # it stays for the Longtake that wrote it
    assert f"has format {version} and this Longtake reads format 2; use the" in caplog.text
    journal.write("a", example_tensors(), META)
    assert journal.read("a") is not None


def test_a_killed_writer_leaves_only_complete_entries(tmp_path: Path) -> None:
    """Kills the writer at many points, including the middle of a write."""
    writer = python(
        "import sys, torch; from pathlib import Path\n"
        "from longtake.stream.journal.journal import Journal\n"
        "journal, i = Journal(Path(sys.argv[1])), 0\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    journal.write(f'k{i % 7}', {'x': torch.full((200_000,), float(i % 7))}, {})\n"
        "    i += 1\n",
        tmp_path,
    )
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    journal, torn = Journal(tmp_path), 0
    for _ in range(20):  # read while it is being written
        for number in range(7):
            read = journal.read(f"k{number}")
            torn += read is not None and not torch.all(read["x"] == number)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert torn == 0 and not list(tmp_path.glob("*.damaged"))
    for path in tmp_path.glob("*.safetensors"):
        assert journal.read(path.stem) is not None
    journal.lock("r").release()
    assert not list(tmp_path.glob("*.tmp")), "the next run must remove the killed writer's leftover"


@posix
def test_temporary_files_of_running_processes_stay(tmp_path: Path) -> None:
    living, dead = (
        tmp_path / temporary_name(name, process)
        for name, process in (("a", os.getpid()), ("b", _dead_process()))
    )
    foreign = tmp_path / "foreign.tmp"
    for path in (living, dead, foreign):
        path.touch()
    Journal(tmp_path).lock("r").release()
    assert living.exists() and foreign.exists() and not dead.exists()


def _dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_leaves_no_partial_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    journal = Journal(tmp_path)
    journal.write("old", {"x": torch.ones(2)}, {})
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: object) -> None:
        raise full

    def write_half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise full

    if call == "write":
        monkeypatch.setattr(Path, "write_bytes", write_half)
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match="No space left on device.*run again") as caught:
        journal.write("new", {"x": torch.ones(2)}, {})
    assert str(tmp_path) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]
    assert journal.read("old") is not None and journal.read("new") is None


def test_entries_synced_behind_are_readable_at_once_and_on_disk_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, plain, go_on, forced = Journal(tmp_path), os.fsync, threading.Event(), []

    def slow(descriptor: int) -> None:
        assert go_on.wait(60)
        plain(descriptor)
        forced.append(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with journal.sync_behind() as to_disk:
        journal.write("a", {"x": torch.ones(2)}, {}, to_disk)
        assert journal.read("a") is not None and not forced
        go_on.set()
        journal.write("b", {"x": torch.ones(2)}, {}, to_disk)
        assert forced  # one waits at the most
    assert len(forced) == (2 if sys.platform == "win32" else 4)


@pytest.mark.parametrize("more", [True, False])
def test_a_failed_sync_is_raised_at_the_next_entry_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    journal = Journal(tmp_path)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(StorageError, match="Input/output error.*run again"),
        journal.sync_behind() as to_disk,
    ):
        journal.write("a", {"x": torch.ones(2)}, {}, to_disk)
        if more:
            journal.write("b", {"x": torch.ones(2)}, {}, to_disk)
            raise AssertionError("the second was kept in silence")
    assert journal.read("a") is None  # what the system still shows of it may not be on the disk


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "tiny", "256k") as folder:
        yield folder


def test_a_file_system_that_is_full(tiny_disk: Path) -> None:
    journal = Journal(tiny_disk)
    with pytest.raises(StorageError, match="free some space"):
        for index in range(10):
            journal.write(f"k{index}", {"x": torch.ones(20_000)}, {})
    kept = sorted(path.name for path in tiny_disk.iterdir())
    assert kept == [f"k{index}.safetensors" for index in range(3)]
    assert all(journal.read(f"k{index}") is not None for index in range(3))


def test_an_unusable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "journal")
    with pytest.raises(StorageError, match="choose"):
        journal.write("a", {}, {})
    with pytest.raises(StorageError, match="choose a writable one"):
        journal.lock("r")


def test_reading_from_another_thread_while_writing(tmp_path: Path) -> None:
    journal, wrong, stop = Journal(tmp_path), list[float](), threading.Event()

    def read() -> None:
        while not stop.is_set():
            entry = journal.read("a")
            if entry is not None and entry["x"].unique().numel() != 1:
                wrong.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for value in range(30):
        journal.write("a", {"x": torch.full((1000,), float(value))}, {})
    stop.set()
    reader.join()
    assert not wrong and not list(tmp_path.glob("*.damaged"))


def test_a_second_run_of_the_same_rollout_is_refused_by_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.lock("r"):
        with pytest.raises(
            BadInput, match=f"Rollout r is already running in process {os.getpid()}"
        ):
            journal.lock("r")
        journal.lock("other").release()
    journal.lock("r").release()


@posix
def test_the_lock_works_between_processes_and_ends_with_its_owner(tmp_path: Path) -> None:
    owner = python(
        "import sys, time; from pathlib import Path\n"
        "from longtake.stream.journal.journal import Journal\n"
        "lock = Journal(Path(sys.argv[1])).lock('r')\n"
        "print('locked', flush=True); time.sleep(60)",
        tmp_path,
    )
    assert owner.stdout is not None and owner.stdout.readline() == "locked\n"
    with pytest.raises(BadInput, match=f"process {owner.pid}"):
        Journal(tmp_path).lock("r")
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    with Journal(tmp_path).lock("r"):
        assert (tmp_path / "r.lock").read_text() == f"{os.getpid()}\n"


@dataclass(frozen=True)
class FullHistory:
    pass


@dataclass(frozen=True)
class Window:
    frames: int
    sink: int = 0


FIELDS: dict[str, object] = {
    "model": "abc",
    "seed": 1,
    "size": (64, 96),
    "levels": [1.0, 0.5],
    "cache": Window(16),
    "embedding": torch.ones(2, 3),
}
CHANGES: dict[str, object] = {
    "model": "abd",
    "seed": 2,
    "size": (96, 64),
    "levels": [1.0, 0.5000000001],
    "cache": Window(16, sink=1),
    "embedding": torch.ones(3, 2),
}


@given(order=st.permutations(sorted(FIELDS)))
@settings(max_examples=20)
def test_a_key_does_not_depend_on_the_order_of_fields(order: list[str]) -> None:
    shuffled = {name: FIELDS[name] for name in order}
    assert root_key(shuffled) == root_key(FIELDS)
    assert next_key("k", shuffled) == next_key("k", FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_key_depends_on_every_field(name: str) -> None:
    changed = {**FIELDS, name: CHANGES[name]}
    missing = {other: value for other, value in FIELDS.items() if other != name}
    assert len({root_key(fields) for fields in (FIELDS, changed, missing)}) == 3
    assert len({next_key("k", fields) for fields in (FIELDS, changed, missing)}) == 3


def test_settings_of_different_types_with_the_same_fields_give_different_keys() -> None:
    assert root_key({"cache": FullHistory()}) != root_key({"cache": {}})
    assert root_key({"a": 1}) != next_key("", {"a": 1})


def test_key_chains_share_their_beginning_at_any_length() -> None:
    def chain(prompts: str) -> list[str]:
        keys = [root_key(FIELDS)]
        for prompt in prompts:
            keys.append(next_key(keys[-1], {"prompt": prompt}))
        return keys

    short, long, edited = chain("aab"), chain("aabba"), chain("acb")
    assert long[: len(short)] == short and len({*long}) == len(long)
    assert edited[:2] == short[:2] and not {*edited[2:]} & {*long}


def test_length_is_refused_in_a_root_key() -> None:
    with pytest.raises(ValueError, match="length"):
        root_key({**FIELDS, "length": 100})


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_values_that_cannot_be_hashed_are_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        root_key({"value": value})


def test_a_key_is_the_same_in_every_process_and_version() -> None:
    """Pinned: another value would orphan every journal on disk."""
    pinned = hashlib.sha256(b'{"root":{"cache":{"frames":16,"is":"Window","sink":0},"seed":1}}')
    assert root_key({"seed": 1, "cache": Window(16)}) == pinned.hexdigest()
