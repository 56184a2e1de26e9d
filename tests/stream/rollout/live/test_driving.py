"""Laws of live keys: a drive equals the lines that it writes, also resumed, forked, rewound."""

from __future__ import annotations

import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from longtake.model.config import Camera
from longtake.samplers.camera.keys import KeyState
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.loop import Chunk
from longtake.stream.drive.drive import Steer
from longtake.stream.drive.input_log import Mode
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import records
from longtake.stream.rollout.fork import Fork
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.run import Run
from longtake.tests.support.stream.driven import (
    BASE,
    CAMERAS,
    SCHEDULES,
    bits,
    keys,
    model,
    press,
    shot,
    spec,
    written,
)
from longtake.tests.support.tiny_model import TINY, randn

KEYS = {0: "w", 1: "w left", 3: ""}  # pressed when that chunk is there


def drive_run(run: Run, keys: dict[int, str], mode: Mode = "hold") -> list[Chunk]:
    """Collect all chunks, with other keys down from after some of them on."""
    chunks = []
    for chunk in run.chunks:
        chunks.append(chunk)
        if chunk.index in keys:
            press(run.controls.drive, chunk.index + 1, keys[chunk.index], mode)
    return chunks


@pytest.mark.each_value
@pytest.mark.parametrize("mode", ["hold", "history"])
@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("camera", CAMERAS)
def test_a_drive_is_bit_for_bit_the_shot_of_its_lines(
    tmp_path: Path, camera: Camera, kind: str, mode: Mode
) -> None:
    engine, changes = model(camera), SCHEDULES[kind]
    run = Rollout(spec(tmp_path / "live", engine, shot(**changes))).run
    live = drive_run(run, KEYS, mode)
    text = written(BASE, run.controls.drive)
    again = spec(tmp_path / "text", engine, shot(text, **changes))
    assert keys(run.state.chain, len(live)) == keys(again.chain, len(live))
    assert torch.equal(bits(live), bits(Rollout(again).chunks))
    ours, texts = run.state.settings.camera, again.settings.camera
    assert ours is not None and texts is not None and ours.starts == texts.starts
    assert torch.equal(ours.steps, texts.steps)
    plain = Rollout(spec(tmp_path / "plain", engine, shot(**changes)))
    assert not torch.allclose(bits(live), bits(plain.chunks), atol=1e-3)


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("camera", CAMERAS)
def test_resumed_forked_and_rewound_drives_have_the_bits_of_the_drive(
    tmp_path: Path, camera: Camera
) -> None:
    engine = model(camera)
    run = Rollout(spec(tmp_path, engine, shot())).run
    live = drive_run(run, KEYS)
    made = shot(written(BASE, run.controls.drive))
    for cut in (2, 4):  # the last chunks are lost, and made again by replay
        for index in range(cut, 5):
            Journal(tmp_path)._path(run.state.chain.key(index)).unlink()
        resumed = Rollout(spec(tmp_path, engine, made))
        assert torch.equal(bits(resumed.chunks), bits(live))
        assert resumed.resumed_from == cut
    rewound = Rollout(spec(tmp_path, engine, made, cut=3))
    assert torch.equal(bits(rewound.chunks), bits(live[:3]))
    assert rewound.resumed_from is None  # nothing was made
    fork = Fork(frame=9, seed=5).apply(made)
    forked = bits(Rollout(spec(tmp_path, engine, fork)).chunks)
    assert torch.equal(forked[:9], bits(live)[:9])
    assert torch.equal(forked, bits(Rollout(spec(tmp_path / "new", engine, fork)).chunks))


def test_a_drive_that_nobody_keeps_leaves_the_shot_as_it_was(tmp_path: Path) -> None:
    engine = model("plucker")
    rollout = Rollout(spec(tmp_path, engine, shot()))
    drive_run(rollout.run, KEYS)
    plain = bits(Rollout(spec(tmp_path, engine, shot())).chunks)
    assert torch.equal(plain, bits(Rollout(spec(tmp_path / "new", engine, shot())).chunks))


def test_a_whole_drive_has_one_record(tmp_path: Path) -> None:
    run = Rollout(spec(tmp_path, model("action"), shot())).run
    live = drive_run(run, {i: key for i, key in enumerate(["w", "a", "s", "d"])})
    [driven, plain] = sorted(records(Journal(tmp_path)), key=lambda record: -len(record.keys))
    assert list(driven.keys) == keys(run.state.chain, len(live))
    assert len(plain.keys) == 1


def calls_of_chunks(run: Run, count: int) -> list[int]:
    """How many functions of Python or C each chunk calls, while each has another key."""
    calls, before = [0], [0]

    def count_call(frame: object, event: str, argument: object) -> None:
        calls[0] += event in ("call", "c_call")

    drive, chunks = run.controls.drive, iter(run.chunks)
    for number in range(count):
        press(drive, number + 1, ("left", "right", "w")[number % 3])
        sys.setprofile(count_call)
        try:
            next(chunks)
        finally:
            sys.setprofile(None)
        before.append(calls[0])
    return [later - earlier for earlier, later in pairwise(before)]


def test_the_work_for_a_chunk_does_not_grow_with_the_drive(tmp_path: Path) -> None:
    engine = model("columns")
    run = Rollout(spec(tmp_path, engine, shot(length=300))).run
    calls = calls_of_chunks(run, 100)
    assert median(calls[90:]) <= 1.005 * median(calls[10:20])


def test_keys_act_from_the_next_chunk_on_and_pages_are_told(tmp_path: Path) -> None:
    engine = model("plucker")
    run = Rollout(spec(tmp_path, engine, shot())).run
    live = drive_run(run, {1: "w left"})
    plain = [*Rollout(spec(tmp_path / "plain", engine, shot())).chunks]
    same = [torch.equal(a.latents, b.latents) for a, b in zip(live, plain, strict=True)]
    assert same == [True, True, False, False, False]
    state = run.controls.drive.state
    assert state is not None and state.start_s == 21 / 16
    assert run.controls.drive.lines == ["1.31: forward 0.5, pan left 22.5"]


def test_chunks_of_an_earlier_run_are_not_driven(tmp_path: Path) -> None:
    run = Rollout(spec(tmp_path, model("plucker"), shot())).run
    run.controls.edit_queue.hold(2)
    press(run.controls.drive, 1, "w")
    for _ in run.chunks:
        pass
    assert run.controls.drive.lines == ["1.31: forward 0.5"]


@pytest.mark.parametrize("changes", [
    {"camera": None},
    {"known_frames": KnownFrames((KnownFrame(9, randn(TINY.out_channels, 4, 6), lookahead=9),))},
])  # fmt: skip
def test_a_shot_whose_path_is_read_ahead_is_not_driven(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = Rollout(spec(tmp_path, model("plucker"), shot(**changes))).run
    assert run.controls.drive.steer(Steer("page", 1)) == "no camera"


def test_a_driver_who_watches_is_waited_for(tmp_path: Path) -> None:
    """The chunk from frame 9 on begins only when its driver has nearly seen the one before it."""
    run = Rollout(spec(tmp_path, model("action"), shot())).run
    drive, forward = run.controls.drive, KeyState(frozenset("w"))
    drive.steer(Steer("page", 1, forward, shown=0))
    indices, arrived = list[int](), threading.Event()

    def read() -> None:
        for chunk in run.chunks:
            indices.append(chunk.index)
            arrived.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert arrived.wait(60)
    reader.join(0.5)
    assert indices == [0] and reader.is_alive()
    drive.steer(Steer("page", 2, forward, shown=8))
    while len(indices) < 2:
        reader.join(0.05)
    run.controls.stop()
    reader.join(60)
    assert indices == [0, 1]


@pytest.mark.parametrize("mode", ["hold", "re-plan"])
def test_a_wait_for_a_driver_is_no_work(
    tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Rollout(spec(tmp_path, model("action"), shot(length=9))).run
    drive, work_s = run.controls.drive, list[float]()

    def wait(_: float) -> None:
        before = run.controls.work_clock()
        time.sleep(0.002)
        work_s.append(run.controls.work_clock() - before)
        press(drive, 2, "w", mode, shown=99)

    monkeypatch.setattr(drive, "wait", wait)
    press(drive, 1, "w", mode, shown=0)
    assert len([*run.chunks]) == 3
    assert work_s == [0.0]
