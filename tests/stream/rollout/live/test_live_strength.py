"""Laws of strength and level in mid-shot: an edit is the shot that has the number from there on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.control.strength import ControlStrength
from longtake.samplers.control.video import ControlVideo
from longtake.samplers.loop import Chunk
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import rolling
from longtake.samplers.settings import RolloutSettings, TimedLevel
from longtake.stream.incoming.inlet import Inlet
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import records
from longtake.stream.rollout.live.controls import Controls
from longtake.stream.rollout.live_input import LiveInput
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.stream.rollout_file.recipe import from_record, to_record
from longtake.tests.support.samplers.control import controlled_model, random_control
from longtake.tests.support.stream.rollouts import MODEL, assert_same_bits
from longtake.tests.support.tiny_model import TINY, randn, settings

LENGTH, CHUNKS = 12, 4
CONTROLLED = controlled_model()
SCHEDULES: list[dict[str, Any]] = [{}, {"schedule": rolling(flow_ladder(3, 3.0), 2)}]


def controlled(**changes: Any) -> RolloutSettings:
    return settings(**{"length": LENGTH, "control": ControlVideo(random_control(9)), **changes})


def redrawn(level: float = 0.7) -> KnownFrames:
    """A clean first frame, a keyframe that chunks before see, and a video that is redrawn."""
    seen_ahead = KnownFrame(10, randn(TINY.out_channels, 4, 6, seed=10), 0.4, lookahead=8)
    video = (
        KnownFrame(at, randn(TINY.out_channels, 4, 6, seed=at), level)
        for at in range(1, LENGTH) if at != 10
    )  # fmt: skip
    return KnownFrames((KnownFrame(0, randn(TINY.out_channels, 4, 6)), seen_ahead, *video))


def shot(folder: Path, made: RolloutSettings, **changes: Any) -> Rollout:
    model = CONTROLLED if made.control else MODEL
    return Rollout(RolloutSpec(made, model, "model", Journal(folder), **changes))


def performance(rollout: Rollout, change: Callable[[Controls], None]) -> list[Chunk]:
    """All chunks of a run in which `change` comes when chunk 1 is there."""
    chunks = []
    for chunk in rollout.run.chunks:
        chunks.append(chunk)
        if chunk.index == 1:
            change(rollout.run.controls)
    return chunks


def keys(rollout: Rollout) -> list[str]:
    return [rollout.run.state.chain.key(index) for index in range(CHUNKS)]


def differing(one: list[Chunk], two: list[Chunk]) -> list[bool]:
    return [not torch.equal(a.latents, b.latents) for a, b in zip(one, two, strict=True)]


@pytest.mark.parametrize("changes", SCHEDULES)
@pytest.mark.parametrize(("before", "after"), [(1.0, 0.3), (0.0, 1.0), (1.0, 0.0)])
def test_another_strength_is_the_control_video_with_that_strength_from_there_on(
    tmp_path: Path, changes: dict[str, Any], before: float, after: float
) -> None:
    """Frames that were begun before keep the strength with which they were begun."""
    own = ControlVideo(random_control(9), strength=ControlStrength((0, 11), (before, 5.0)))
    made = controlled(control=own, **changes)
    live = shot(tmp_path / "live", made)
    chunks = performance(live, lambda controls: controls.set_number("strength", after))
    [edit] = live.run.controls.edits
    assert (edit.status, edit.strength, edit.line) == ("applied", after, None)
    assert edit.summary == f"control strength {after:g}"
    start = live.spec.span(1).until
    strength = ControlStrength((0, start), (before, after))
    workflow = shot(tmp_path / "typed", replace(made, control=replace(own, strength=strength)))
    assert_same_bits([*workflow.chunks], chunks)
    assert keys(workflow) == keys(live)
    loaded = from_record(*to_record(live.run.state.whole_settings(CHUNKS)))
    assert_same_bits([*shot(tmp_path / "loaded", loaded).chunks], chunks)
    plain = [*shot(tmp_path / "plain", made).chunks]
    assert differing(chunks, plain)[:2] == [False, False] and differing(chunks, plain)[2]


@pytest.mark.parametrize("changes", SCHEDULES)
def test_another_level_is_the_video_with_that_level_from_there_on(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Clean frames, and those that earlier chunks have seen, are no part of it."""
    made = settings(length=LENGTH, known_frames=redrawn(), **changes)
    live = shot(tmp_path / "live", made)
    chunks = performance(live, lambda controls: controls.set_number("level", 0.2))
    [edit] = live.run.controls.edits
    assert (edit.status, edit.level, edit.summary) == ("applied", 0.2, "level 0.2")
    start = live.spec.span(1).until
    frames = tuple(
        replace(known, level=0.2) if known.frame >= start and known.frame != 10 else known
        for known in redrawn().frames
    )
    typed = shot(tmp_path / "typed", replace(made, known_frames=KnownFrames(frames)))
    assert_same_bits([*typed.chunks], chunks)
    assert keys(typed) == keys(live)
    assert differing(chunks, [*shot(tmp_path / "plain", made).chunks])[2]


class Camera:
    """A source whose pictures differ each time."""

    dropped = opened = 0
    is_lost = False

    def open(self, tell: Callable[[str], None], inlet: Inlet) -> Camera:
        """Count the openings."""
        self.opened += 1
        return self

    def is_ready(self, count: int) -> bool:
        """There is always a picture."""
        return True

    def take(self, count: int, before: int = 0) -> torch.Tensor:
        """Pictures of one brightness, which grows."""
        self.dropped += 1
        return torch.full((count + before, 3, 32, 48), self.dropped / 10)

    def close(self) -> None:
        """Nothing is open."""


def received(camera: Camera) -> LiveInput:
    def encode(pictures: torch.Tensor) -> torch.Tensor:
        count = 1 + (len(pictures) - 1) // 4
        return randn(count, TINY.out_channels, 4, 6) + pictures[0].mean()

    return LiveInput("camera", 0.6, camera.open, encode)


@pytest.mark.parametrize("changes", SCHEDULES)
def test_live_frames_come_in_at_another_level_and_a_file_of_the_shot_says_so(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    made = settings(length=LENGTH, **changes)
    live = shot(tmp_path / "live", made, live=received(Camera()))
    chunks = performance(live, lambda controls: controls.set_number("level", 0.3))
    whole, start = live.run.state.whole_settings(CHUNKS), live.spec.span(1).until
    levels = [known.level for known in whole.known_frames.frames]
    assert levels == [0.6] * start + [0.3] * (LENGTH - start)
    assert whole.level_changes == (TimedLevel(start, 0.3),)
    elsewhere = shot(tmp_path / "elsewhere", from_record(*to_record(whole)))
    assert_same_bits([*elsewhere.chunks], chunks)


def test_a_performance_is_played_again_from_the_journal_without_the_camera(tmp_path: Path) -> None:
    def change(controls: Controls) -> None:
        controls.set_number("level", 0.9)
        controls.set_number("level", 0.3)

    first = shot(tmp_path, settings(length=LENGTH), live=received(Camera()))
    chunks = performance(first, change)
    Journal(tmp_path)._path(first.run.state.chain.key(3)).unlink()
    camera = Camera()
    again = shot(tmp_path, settings(length=LENGTH), live=received(camera))
    assert_same_bits(performance(again, change), chunks)
    assert camera.opened == 0 and again.run.resumed_from == 3
    plain = shot(tmp_path, settings(length=LENGTH), live=received(camera))
    assert differing([*plain.chunks], chunks)[2], "the next run has the workflow's own level"


def test_an_edit_begins_a_record_of_its_own_though_frames_come_in(tmp_path: Path) -> None:
    live = shot(tmp_path, settings(length=LENGTH), live=received(Camera()))
    performance(live, lambda controls: controls.set_number("level", 0.3))
    by_id = {record.id: record for record in records(Journal(tmp_path))}
    unedited, edited = by_id.pop(live.spec.id), by_id.pop(live.run.state.chain.id)
    assert not by_id and len(unedited.keys) == 2 and not unedited.replaced
    assert [*edited.keys] == keys(live) and not edited.replaced


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("strength", "follows no control video; connect one to the sampler."),
        ("level", "nothing is redrawn from here on; connect a live input, or a known video"),
    ],
)
def test_a_number_of_what_is_not_there_fails_in_one_sentence(
    tmp_path: Path, name: Any, sentence: str
) -> None:
    clean = KnownFrames((KnownFrame(7, randn(TINY.out_channels, 4, 6)),))
    rollout = shot(tmp_path, settings(length=LENGTH, known_frames=clean))
    chunks = performance(rollout, lambda controls: controls.set_number(name, 0.5))
    [edit] = rollout.run.controls.edits
    assert edit.status == "failed" and sentence in str(edit.error) and len(chunks) == CHUNKS


@pytest.mark.parametrize(
    ("name", "value", "reach"),
    [
        ("strength", -0.1, "0 to 10"), ("strength", 10.1, "0 to 10"),
        ("strength", float("nan"), "0 to 10"), ("level", 0.0, "0.05 to 1"),
        ("level", 1.1, "0.05 to 1"), ("level", float("inf"), "0.05 to 1"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(name: Any, value: float, reach: str) -> None:
    with pytest.raises(BadInput, match=f"{name} is .*; give a number from {reach}"):
        Controls().set_number(name, value)


def test_a_video_beyond_the_end_has_the_level_too() -> None:
    longer = settings(length=LENGTH, known_frames=redrawn())
    stored = longer.known_frames.with_level(6, 0.2)
    assert [k.level for k in stored.frames if k.frame in (0, 5, 6, 10, 11)] == [
        0.0, 0.7, 0.2, 0.4, 0.2,
    ]  # fmt: skip
