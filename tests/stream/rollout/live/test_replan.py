"""Laws of re-planning: keys change a made chunk that nobody has seen, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.model.config import Camera
from longtake.model.vae.latent_format import frame_count
from longtake.samplers.camera.keys import KeyState
from longtake.samplers.loop import Chunk
from longtake.stream.drive.drive import Steer
from longtake.stream.drive.input_log import Mode
from longtake.stream.journal.fork_tree import fork_tree, render_tree
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import records
from longtake.stream.rollout.fork import Fork
from longtake.stream.rollout.observer import SilentObserver
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
from longtake.tests.support.stream.rollouts import KINDS, Words

PRESSES = {0: ["w"], 1: ["w left"], 3: ["a", "a right", ""]}  # one for each making of the chunk
MAKINGS = [0, 1, 1, 2, 3, 3, 3, 3, 4]


class Page(SilentObserver):
    """A page that says other keys when a chunk is made; without any more, that it shows it."""

    run: Run

    def __init__(self, presses: dict[int, list[str]], mode: Mode = "re-plan") -> None:
        self.presses = {index: [*texts] for index, texts in presses.items()}
        self.mode: Mode = mode
        self.down, self.number = "", 0
        self.makings: list[int] = []
        self.addresses: list[str] = []

    def on_chunk(self, chunk: Chunk) -> None:
        """Note the chunk, and say what is down now."""
        self.makings.append(chunk.index)
        self.addresses.append(self.run.state.chain.key(chunk.index))
        texts = self.presses.get(chunk.index, [])
        unseen = bool(texts) and chunk.index > 0
        self.down = texts.pop(0) if texts else self.down
        self.number += 1
        shown = 0 if unseen else frame_count(chunk.first_frame)
        press(self.run.controls.drive, self.number, self.down, self.mode, shown)


def driven(
    folder: Path, camera: Camera, presses: dict[int, list[str]] = PRESSES, **changes: Any
) -> tuple[Page, list[Chunk]]:
    """A shot that a page re-plans, and its chunks."""
    page = Page(presses)
    made = spec(folder, model(camera), shot(**changes), prompter=Words())
    rollout = Rollout(made, new_observer=lambda: page)
    page.run = rollout.run
    return page, [*rollout.chunks]


@pytest.mark.some_cases(2)
@pytest.mark.parametrize(("camera", "kind"), [
    *((camera, "chunks") for camera in CAMERAS), ("prope", "rolling"), ("prope", "pipeline"),
])  # fmt: skip
def test_a_replanned_drive_is_bit_for_bit_the_shot_of_its_lines(
    tmp_path: Path, camera: Camera, kind: str
) -> None:
    page, live = driven(tmp_path / "live", camera, **SCHEDULES[kind])
    drive = page.run.controls.drive
    assert page.makings[:3] == [0, 1, 1]
    assert drive.state is not None
    assert drive.state.replanned == len(page.makings) - len(live) > 2
    text = written(BASE, drive)
    again = spec(tmp_path / "text", model(camera), shot(text, **SCHEDULES[kind]))
    assert keys(page.run.state.chain, len(live)) == keys(again.chain, len(live))
    assert torch.equal(bits(live), bits(Rollout(again).chunks))


@pytest.mark.some_cases(4)
@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_made_again_leaves_no_trace_in_any_history(tmp_path: Path, kind: str) -> None:
    page, live = driven(tmp_path / "live", "action", **KINDS[kind])
    assert len(page.makings) > len(live)
    text = written(BASE, page.run.controls.drive)
    again = spec(tmp_path / "text", model("action"), shot(text, **KINDS[kind]), prompter=Words())
    assert torch.equal(bits(live), bits(Rollout(again).chunks))


def test_what_is_thrown_away_stays_in_the_journal_as_a_branch(tmp_path: Path) -> None:
    page, live = driven(tmp_path, "plucker")
    assert page.makings == MAKINGS
    journal, chain = Journal(tmp_path), page.run.state.chain
    final = keys(chain, len(live))
    thrown = [key for key in page.addresses if key not in final]
    assert len({*thrown}) == len(page.makings) - len(live)
    assert all(key in journal for key in thrown)
    [record] = [record for record in records(journal) if len(record.keys) == len(live)]
    assert list(record.keys) == final and record.replaced == len(thrown)
    assert {*thrown} <= record.owned
    [line] = [line for line in render_tree(fork_tree([record], record)) if "replaced" in line]
    assert line == f"  ~ {len(thrown)} chunks replaced, still on disk" and len(thrown) > 1


def test_a_thrown_away_chunk_is_what_its_own_keys_give(tmp_path: Path) -> None:
    """The branch is a shot of its own: the lines without the later keys lead to it."""
    page, _ = driven(tmp_path / "live", "plucker", {0: ["w"], 2: ["w left"]})
    thrown = page.addresses[page.makings.index(2)]
    other, chunks = driven(tmp_path / "other", "plucker", {0: ["w"]})
    assert other.run.state.chain.key(2) == thrown
    stored = Journal(tmp_path / "live").read(thrown)
    assert stored is not None and torch.equal(stored["latents"], chunks[2].latents)


@pytest.mark.parametrize("camera", CAMERAS)
def test_resumed_forked_and_rewound_it_has_the_bits_of_the_drive(
    tmp_path: Path, camera: Camera
) -> None:
    page, live = driven(tmp_path, camera)
    made = shot(written(BASE, page.run.controls.drive))
    for cut in (2, 4):  # the last chunks are lost, and made again by replay
        for index in range(cut, 5):
            Journal(tmp_path)._path(page.run.state.chain.key(index)).unlink()
        resumed = Rollout(spec(tmp_path, model(camera), made))
        assert torch.equal(bits(resumed.chunks), bits(live))
        assert resumed.resumed_from == cut
    rewound = Rollout(spec(tmp_path, model(camera), made, cut=3))
    assert torch.equal(bits(rewound.chunks), bits(live[:3]))
    fork = Fork(frame=9, seed=5).apply(made)
    forked = bits(Rollout(spec(tmp_path, model(camera), fork)).chunks)
    assert torch.equal(forked[:9], bits(live)[:9])
    assert torch.equal(forked, bits(Rollout(spec(tmp_path / "new", model(camera), fork)).chunks))


def test_a_stored_chunk_is_kept_back_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = model("plucker")
    plain = bits(Rollout(spec(tmp_path, engine, shot())).chunks)
    checks = list[int]()

    def check() -> None:
        checks.append(1)
        if len(checks) == 1:  # chunk 1 was read from disk, and nobody has seen it
            press(drive, 2, "w", "re-plan", 0)
        if len(checks) > 1:
            drive.steer(Steer("page", 1 + len(checks), mode="re-plan", shown=100))

    rollout = Rollout(spec(tmp_path, engine, shot()))
    monkeypatch.setattr(engine.host, "check_interrupted", check)
    drive = rollout.run.controls.drive
    press(drive, 1, "", "re-plan", 0)
    live = bits(rollout.chunks)
    assert drive.state is not None and drive.state.replanned == 1
    assert torch.equal(live[:3], plain[:3])
    again = spec(tmp_path / "text", engine, shot(written(BASE, drive)))
    assert torch.equal(live, bits(Rollout(again).chunks))


def test_without_a_driver_who_follows_no_chunk_is_kept_back(tmp_path: Path) -> None:
    rollout = Rollout(spec(tmp_path, model("action"), shot()))
    drive = rollout.run.controls.drive
    for chunk in rollout.chunks:
        state = KeyState(frozenset("w" if chunk.index else ""))
        drive.steer(Steer("page", chunk.index + 1, state, mode="re-plan"))
    assert drive.state is not None and drive.state.replanned == 0


def test_a_prompt_edited_for_the_chunk_stays_in_force(tmp_path: Path) -> None:
    page = Page({0: ["w"], 2: ["w left"]})
    made = spec(tmp_path / "live", model("action"), shot(), prompter=Words())
    rollout = Rollout(made, new_observer=lambda: page)
    page.run = rollout.run
    live = []
    for chunk in rollout.chunks:
        live.append(chunk)
        if chunk.index == 1:
            rollout.controls.set_prompt("42")
    assert page.makings == [0, 1, 2, 2, 3, 4]
    [edit] = rollout.controls.edits
    assert edit.applied and live[2].prompt == "42"
    ours = page.run.state.settings
    fresh = Rollout(spec(tmp_path / "text", model("action"), replace(ours)))
    assert torch.equal(bits(live), bits(fresh.chunks))
