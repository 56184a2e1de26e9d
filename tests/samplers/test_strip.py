"""Places on a painted strip are those of the camera that draws the embedded model's world."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from longtake.samplers.camera.moves import CameraMotion
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.strip import text_spans, travel, word_paths
from longtake.tests.support.tiny_model import TINY, embedding, settings, timeline
from longtake.training.world.attributes import caption, random_values
from longtake.training.world.clips import latent_start
from longtake.training.world.dataset import latent_pans, latent_travel
from longtake.training.world.scene import Shot

LENGTH = 48
FRAMES = range(LENGTH)


def timed(texts: dict[int, str]) -> PromptTimeline:
    entries = (TimedPrompt(start, embedding(len(text)), text) for start, text in texts.items())
    return PromptTimeline(tuple(entries), timeline(0).negative)


@pytest.mark.parametrize("seed", range(6))
def test_words_move_the_camera_as_the_world_was_drawn(seed: int) -> None:
    rng = random.Random(seed)
    values, entries = random_values(rng), {}
    for start in (0, 12, 15, 33):
        values = {**values, "pan": rng.choice(["left", "right", "still"])}
        entries[start] = values
    shot = Shot(tuple((latent_start(at), values) for at, values in entries.items()), 3)
    texts = {at: caption(values, rng) for at, values in entries.items()}
    made = settings(prompts=timed(texts), length=LENGTH)
    truth = latent_travel([shot], LENGTH)[0].double()
    assert float((travel(made, FRAMES) - truth).abs().max()) < 0.11
    pans = [float(path.turns_of(path.steps_of([frame])) / 15 + path.relative([frame])[0, 0, 3])
            for frame, path in enumerate(word_paths(made, FRAMES))]  # fmt: skip
    torch.testing.assert_close(torch.tensor(pans), latent_pans([shot], LENGTH)[0],
                               atol=5e-3, rtol=0)  # fmt: skip


def test_a_path_moves_it_exactly() -> None:
    speeds = {0: 1.0, 7: -0.5, 8: 0.0, 20: 0.25}
    motions = [TimedMotion(at, CameraMotion(turn=15 * speed)) for at, speed in speeds.items()]
    made = settings(prompts=timed({0: "panning left"}), length=LENGTH,
                    camera=path_of_motions(motions, 0.25))  # fmt: skip
    shot = Shot(((0, random_values(random.Random(0))),), 5,
                tuple((latent_start(at), speed) for at, speed in speeds.items()))  # fmt: skip
    torch.testing.assert_close(travel(made, FRAMES), latent_travel([shot], LENGTH)[0].double(),
                               atol=1e-3, rtol=0)  # fmt: skip


def test_any_frames_have_the_places_that_all_of_them_have() -> None:
    made = settings(prompts=timed({0: "panning left", 9: "fixed view"}), length=LENGTH)
    whole = travel(made, FRAMES)
    assert torch.equal(travel(made, [40, 10, 0]), whole[[40, 10, 0]])
    for last in (8, 9, 10):  # before, at and after the change
        assert torch.equal(travel(made, range(last + 1)), whole[: last + 1])


def test_a_text_holds_from_its_chunk_on_and_a_forks_from_the_fork() -> None:
    made = settings(prompts=timed({0: "a", 12: "bb", 24: "bb", 30: "ccc"}), length=LENGTH)
    assert text_spans(made, LENGTH) == [(0, "a"), (12, "bb"), (30, "ccc")]
    assert text_spans(made, 12) == [(0, "a")]
    old = replace(made.prompts.entries[0], active_until=6)
    new = TimedPrompt(0, embedding(1), "d", active_from=6)
    forked = replace(made, prompts=PromptTimeline((old, new), made.prompts.negative))
    assert text_spans(forked, LENGTH) == [(0, "a"), (6, "d")]
    assert text_spans(forked, LENGTH, 3) == [(0, "a")]  # in flight before the fork


def test_the_first_text_holds_from_the_first_frame_on_where_that_is_given() -> None:
    """Chunks then begin at latent frame 1."""
    given = KnownFrames((KnownFrame(0, torch.zeros(TINY.out_channels, 4, 6)),))
    made = settings(prompts=timed({0: "panning left", 6: "fixed view"}), length=LENGTH,
                    known_frames=given)  # fmt: skip
    assert made.origin == 1
    assert text_spans(made, LENGTH) == [(0, "panning left"), (7, "fixed view")]
    assert len(word_paths(made, range(3))) == 3
