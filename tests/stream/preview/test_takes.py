"""Laws of takes: frames survive unchanged, the producer never waits, budgets hold."""

from __future__ import annotations

import io
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.errors import LongtakeError
from longtake.stream.lazy.frame_chunk import to_pictures
from longtake.stream.preview.album import Album
from longtake.stream.preview.frame_encoder import FrameEncoder, halve, halvings
from longtake.stream.preview.jpeg import pack_frames
from longtake.stream.preview.messages import (
    CHUNK_EVENT,
    TAKE_EVENT,
    Ending,
    Origin,
    Plan,
    Shot,
    TakeFile,
    TakeStats,
)
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Limits, Takes
from longtake.tests.support.numbered_frames import number_in, numbered_frames
from longtake.tests.support.player_server import FakeControls

Event = tuple[str, dict[str, Any]]
SHOT = Shot(16.0, 64, 48, 24)


def unpack(packed: bytes) -> list[Image.Image]:
    """Read the pictures of a chunk as the player does."""
    magic, width, height, count = struct.unpack(">4sHHI", packed[:12])
    sizes = struct.unpack(f">{count}I", packed[12 : 12 + 4 * count])
    assert magic == b"LTF1" and 12 + 4 * count + sum(sizes) == len(packed)
    place, pictures = 12 + 4 * count, []
    for size in sizes:
        pictures.append(Image.open(io.BytesIO(packed[place : place + size])))
        place += size
    assert all(picture.size == (width, height) for picture in pictures)
    return pictures


class Bench:
    """A store of takes over a folder, and the events it sent."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.now = 0.0
        self.takes = Takes(lambda: folder, clock=lambda: self.now, **settings)

    def open(self, node: str = "7", controls: Any = None, shot: Shot = SHOT) -> Take:
        """A new take of a node."""
        origin = Origin(node, node.split(".")[0], "prompt", "canvas", "page")
        return self.takes.create(shot, origin, lambda *event: self.events.append(event), controls)

    def files(self) -> list[Path]:
        """Chunks that are on disk."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def open_bench(**settings: Any) -> Bench:
        benches.append(Bench(tmp_path, **settings))
        return benches[-1]

    yield open_bench
    for bench in benches:
        bench.takes.reset()


def fill(take: Take, chunks: int, *, end: str | None = "done", prompt: str = "a red ball") -> None:
    """Put chunks of 12 numbered frames into a take."""
    for first in range(0, 12 * chunks, 12):
        take.show(numbered_frames(first, 12, 64, 48), first, prompt, TakeStats())
    if end:
        take.finish(Ending(end))  # type: ignore[arg-type]
        take.join()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for the encoder's thread; pytest's time limit ends the wait."""
    while not true():
        time.sleep(0.001)


def numbers(take: Take) -> list[int]:
    """Read the numbers drawn into all available frames of a take."""
    blobs = [take.blob(chunk["seq"]) for chunk in take.manifest()["chunks"] if chunk["bytes"]]
    contents = [blob.read() for blob in blobs if blob]
    return [
        number_in(np.asarray(picture)) for content in contents for picture in unpack(content or b"")
    ]


def test_every_frame_comes_out_as_it_went_in(opened: Callable[..., Bench]) -> None:
    take = opened().open()
    fill(take, 3)
    assert numbers(take) == list(range(36))
    blob = take.blob(1)
    first = np.asarray(unpack((blob and blob.read()) or b"")[0]).astype(int)
    sent = to_pictures(numbered_frames(12, 1, 64, 48))[0].astype(int)
    assert abs(first - sent).mean() < 3  # JPEG at quality 85


def test_the_manifest_lists_all_chunks(opened: Callable[..., Bench]) -> None:
    plan = Plan(24, 1.5, 2, 10, 20, True, "24 frames")
    take = opened().open("12:3.0.1", shot=Shot(16.0, 64, 48, 24, plan))
    take.show(numbered_frames(0, 9, 64, 48), 0, "a red ball", TakeStats(first_frame_s=0.5))
    take.show(numbered_frames(9, 12, 64, 48), 9, "a blue ball", TakeStats(eta_s=float("inf")))
    take.finish(Ending("interrupted", None, 1.3125))
    take.join()
    take.add_file(TakeFile("clip.mp4", "longtake", "output", "video"))
    known = take.manifest()
    assert (known["node_id"], known["display_node_id"]) == ("12:3.0.1", "12:3")
    assert [(c["seq"], c["first_frame"], c["count"], c["prompt"]) for c in known["chunks"]] == [
        (0, 0, 9, 0), (1, 9, 12, 1),
    ]  # fmt: skip
    assert [(c["frame"], c["text"]) for c in known["prompt_changes"]] == [
        (0, "a red ball"), (9, "a blue ball"),
    ]  # fmt: skip
    assert (known["frames"], known["total_frames"], known["state"]) == (21, 24, "interrupted")
    assert (known["resume_at_s"], known["stats"]["eta_s"]) == (1.3125, None)
    assert known["plan"]["text"] == "24 frames"
    file = {"filename": "clip.mp4", "subfolder": "longtake", "type": "output", "role": "video"}
    assert known["files"] == [file]
    assert set(known) == {
        "v", "take", "node_id", "display_node_id", "prompt_id", "workflow_id", "control_rev",
        "state", "fps", "width", "height", "total_frames", "frames", "chunks", "prompt_changes",
        "edits", "live", "stats", "resume_at_s", "message", "plan", "files", "drive", "wish",
        "fork_seed", "refines", "refined",
    }  # fmt: skip


def test_what_a_chunk_recalled_is_in_the_manifest_and_its_event(
    opened: Callable[..., Bench],
) -> None:
    bench, spans = opened(), ((0, 5), (9, 13))
    take = bench.open()
    fill(take, 2, end=None)
    take.show(numbered_frames(24, 12, 64, 48), 24, "", TakeStats(), recalled=spans)
    take.finish(Ending("done"))
    take.join()
    listed = [chunk.get("recalled") for chunk in take.manifest()["chunks"]]
    events = [message.get("recalled") for event, message in bench.events if event == CHUNK_EVENT]
    assert listed == events == [None, None, [[0, 5], [9, 13]]]


def test_events_announce_each_chunk_and_finally_the_end(opened: Callable[..., Bench]) -> None:
    bench = opened()
    fill(bench.open(), 2)
    told = [(name, data.get("seq", data.get("state"))) for name, data in bench.events]
    assert told == [
        (TAKE_EVENT, "waiting"), (CHUNK_EVENT, 0), (TAKE_EVENT, "running"), (CHUNK_EVENT, 1),
        (TAKE_EVENT, "done"),
    ]  # fmt: skip
    assert all(data["take"] and data["node_id"] == "7" for _, data in bench.events)


def test_a_take_can_be_found_when_its_first_event_arrives(tmp_path: Path) -> None:
    found: list[bool] = []
    takes = Takes(lambda: tmp_path)
    takes.create(SHOT, Origin("7", "7", "p"), lambda _, data: found.append(
        takes.get(data["take"]) is not None
    ))  # fmt: skip
    takes.reset()
    assert found[0] is True


class SlowEncoder:
    """Encodes only when released."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.sizes: list[tuple[int, int]] = []
        self.numbers: list[int] = []

    def __call__(self, pictures: Any) -> bytes:
        self.gate.acquire()
        self.sizes.append(pictures.shape[1:3])
        self.numbers.append(int(pictures[0, 0, 0, 0]))
        return pack_frames(pictures)


def handed_over(encoder: FrameEncoder, chunks: int) -> list[int]:
    """Put chunks of (2, 3, 96, 128), as bright as their number; return the waiting bytes."""
    waited = []
    for number in range(chunks):
        encoder.put(torch.full((2, 3, 96, 128), number / 255), lambda packed: None)
        waited.append(encoder.waiting_bytes)
    return waited


def test_an_encoder_that_falls_behind_shrinks_pictures_and_drops_none() -> None:
    """That `put` returns while nothing is encoded proves that sampling never waits."""
    slow = SlowEncoder()
    encoder = FrameEncoder(lambda error: None, encode=slow, budget_bytes=1)
    chunk = 4 * 2 * 3 * 96 * 128
    waited = handed_over(encoder, 40)
    smallest = chunk // 4**2  # 24x32 cannot be halved again
    assert waited[2] == 3 * chunk and max(waited) < 4 * chunk + 40 * smallest
    slow.gate.release(40)
    encoder.close(lambda: None)
    encoder.join()
    assert slow.numbers == list(range(40)) and encoder.waiting_bytes == 0
    assert slow.sizes[:4] == [(96, 128), (96, 128), (96, 128), (48, 64)]
    assert slow.sizes == sorted(slow.sizes, reverse=True) and slow.sizes[-1] == (24, 32)


def test_pictures_have_full_size_again_after_catching_up() -> None:
    slow = SlowEncoder()
    encoder = FrameEncoder(lambda error: None, encode=slow, budget_bytes=1)
    handed_over(encoder, 5)
    slow.gate.release(100)
    wait_until(lambda: not encoder.waiting_bytes)
    handed_over(encoder, 1)
    encoder.close(lambda: None)
    encoder.join()
    assert slow.sizes[4] < (96, 128) and slow.sizes[5] == (96, 128)


def test_many_small_pictures_may_wait() -> None:
    """The demo's 96x64 frames arrive from the journal faster than a thread wakes up."""
    encoder = FrameEncoder(lambda error: None)
    handed_over(encoder, 100)
    encoder.close(lambda: None)
    encoder.join()
    assert halvings(100 * 12 * 3 * 64 * 96 * 4, 256 * 2**20) == 0


@pytest.mark.parametrize(("taken", "times"), [(0, 0), (50, 0), (51, 1), (75, 1), (76, 2), (88, 3)])
def test_halvings_by_definition(taken: int, times: int) -> None:
    assert halvings(taken, 100) == times
    assert halvings(100, 100) == halvings(10**9, 100) >= 7


def test_halving_averages(opened: Callable[..., Bench]) -> None:
    frames = torch.rand(2, 3, 64, 96)
    expected = frames.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    torch.testing.assert_close(halve(frames, 2), expected)
    assert halve(frames, 9).shape == (2, 3, 16, 24) and halve(frames, 0) is frames


def test_memory_and_disk_budgets_hold_at_all_times(opened: Callable[..., Bench]) -> None:
    size = len(pack_frames(to_pictures(numbered_frames(0, 12, 64, 48))))
    bench = opened(limits=Limits(ram_bytes=3 * size, disk_bytes=5 * size))
    seen: list[tuple[int, int]] = []
    take = bench.takes.create(
        SHOT, Origin("7", "7", "p"),
        lambda *_: seen.append((bench.takes.ram_bytes, bench.takes.disk_bytes)),
    )  # fmt: skip
    fill(take, 20)
    assert max(ram for ram, _ in seen) <= 3 * size and max(disk for _, disk in seen) <= 5 * size
    assert sum(path.stat().st_size for path in bench.files()) == bench.takes.disk_bytes > 3 * size
    known = take.manifest()
    gone = [chunk["seq"] for chunk in known["chunks"] if chunk["bytes"] == 0]
    assert gone == list(range(len(gone))) and 10 <= len(gone) <= 16  # the oldest
    assert known["frames"] == 240 and len(known["chunks"]) == 20
    assert numbers(take) == list(range(12 * len(gone), 240))
    assert f"{12 * len(gone)} earlier frames can be seen in saved files only" in known["message"]


def test_a_full_disk_costs_only_old_frames_and_is_reported(
    opened: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = opened(limits=Limits(ram_bytes=20_000))
    (tmp_path / "longtake").write_text("in the way of the folder")
    take = bench.open()
    fill(take, 20)
    assert "The temp folder cannot be used (" in take.manifest()["message"]
    assert numbers(take)[-1] == 239 and bench.takes.disk_bytes == 0


def test_takes_leave_nothing_behind(opened: Callable[..., Bench]) -> None:
    bench = opened(limits=Limits(ram_bytes=1))
    take = bench.open()
    fill(take, 3)
    assert len(bench.files()) == 3
    threads = threading.active_count()
    bench.open()  # still running
    bench.takes.reset()
    assert bench.files() == [] and list((bench.folder / "longtake").iterdir()) == []
    assert threading.active_count() == threads and bench.takes.get(take.token) is None


def test_the_oldest_finished_takes_are_dropped(opened: Callable[..., Bench]) -> None:
    bench = opened(limits=Limits(takes=3))
    over = [bench.open(str(node)) for node in (1, 2, 3)]
    for take in over:
        fill(take, 1)
    bench.open("4")
    kept = [bench.takes.get(take.token) is not None for take in over]
    assert kept == [False, True, True]


def test_a_finished_take_expires(opened: Callable[..., Bench]) -> None:
    bench = opened(limits=Limits(finished_s=60))
    running, over = bench.open("1"), bench.open("2")
    fill(over, 1)
    bench.now = 61
    assert bench.takes.get(over.token) is None and bench.takes.get(running.token) is running
    assert bench.takes.of_client("page") == [running]
    bench.open("3")
    assert bench.takes.ram_bytes == 0


def test_a_page_finds_the_newest_take_of_each_of_its_nodes(opened: Callable[..., Bench]) -> None:
    bench = opened()
    old, other, new = bench.open("7"), bench.open("12:3"), bench.open("7")
    assert {take.token for take in bench.takes.of_client("page")} == {new.token, other.token}
    assert bench.takes.of_client("another page") == [] and old.token != new.token


def test_controls_obey_each_request_once_and_in_order(opened: Callable[..., Bench]) -> None:
    controls = FakeControls()
    bench = opened()
    take = bench.open(controls=controls)
    asked: list[int] = []
    obeyed = [
        take.controls.obey(rev, lambda _, r=rev: asked.append(r)) for rev in (1, 1, 5, 3, 5, 6)
    ]
    assert obeyed == [True, False, True, False, False, True] and asked == [1, 5, 6]
    take.controls.obey(7, lambda c: c.pause())
    assert take.state == "paused" and bench.events[-1][1]["state"] == "paused"
    fill(take, 1, end="stopped")
    assert take.state == "stopped" and not take.controls.obey(8, lambda c: c.resume())


def test_edits_are_announced_and_mark_their_prompt_change(
    opened: Callable[..., Bench],
) -> None:
    controls = FakeControls()
    take = opened().open(controls=controls)
    fill(take, 1, end=None)
    take.controls.obey(1, lambda c: c.set_prompt("a blue ball"))
    assert take.manifest()["edits"][0]["status"] == "queued"
    text = controls.apply(12, 16.0)
    take.show(numbered_frames(12, 12, 64, 48), 12, text or "", TakeStats())
    controls.notify("The picture drifts.")
    take.finish(Ending("done"))
    take.join()
    controls.notify("Nobody hears this.")
    known = take.manifest()  # the rollout and its controls may be gone by now
    assert [c["edited"] for c in known["prompt_changes"]] == [False, True]
    assert known["edits"][0]["line"] == "0.750: a blue ball"
    assert known["message"] == "The picture drifts."


def test_a_finished_take_no_longer_listens_to_the_controls(
    opened: Callable[..., Bench],
) -> None:
    controls = FakeControls()
    bench = opened()
    fill(bench.open(controls=controls), 1)
    told = len(bench.events)
    controls.notify("The next run of the same frames has begun.")
    assert len(bench.events) == told


def test_files_reach_earlier_and_later_takes_of_the_same_prompt(
    opened: Callable[..., Bench],
) -> None:
    bench, album = opened(), Album()
    early, late = bench.open("1"), bench.open("2")
    album.add_take(early)
    album.add_file(TakeFile("clip.mp4", "longtake", "output", "video"), "prompt")
    album.add_take(late)
    names = [[file["filename"] for file in take.summary()["files"]] for take in (early, late)]
    assert names == [["clip.mp4"], ["clip.mp4"]]
    album.add_file(TakeFile("edited.mp4", "longtake", "output", "video"), "another prompt")
    assert len(early.summary()["files"]) == len(late.summary()["files"]) == 1


def test_a_failed_encoder_is_reported_to_page_and_producer(opened: Callable[..., Bench]) -> None:
    def broken(pictures: Any) -> bytes:
        raise ValueError("no room for a picture")

    take = opened(encode=broken).open()
    fill(take, 1, end=None)
    wait_until(lambda: take.state == "error")
    with pytest.raises(LongtakeError, match="cannot encode frames .no room"):
        fill(take, 1)
    fill(take, 0)
    assert take.manifest()["message"] == "The preview cannot encode frames (no room for a picture)."
