"""A rollout that recalls past frames by view, against lists of positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.attention.recall.window import RecallWindow
from longtake.errors import Unsupported
from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.guidance import NOISE, cfg, last, temporal, vanilla
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.tiny_model import TINY, embedding, random_dit, settings, timeline

MODEL = local_denoiser(random_dit(), TINY)
LENGTH, CHUNK, COLUMNS = 30, 3, 6
TURNS = ((0, "the camera pans left"), (12, "the camera stays still"), (15, "moving right"))


def words(*entries: tuple[int, str]) -> PromptTimeline:
    """A prompt of these words from each latent frame on."""
    texts = (TimedPrompt(start, embedding(10 + start), text) for start, text in entries)
    return PromptTimeline(tuple(texts), timeline(0).negative)


def shot(**changes: Any) -> RolloutSettings:
    """A camera that goes along a strip, stops, and comes back."""
    policy = RecallWindow(7, 1, 3, flat_world=True)
    return settings(**{"length": LENGTH, "prompts": words(*TURNS), "cache": policy, **changes})


def chunks(made: RolloutSettings, engine: Denoiser = MODEL) -> list[Chunk]:
    return list(generate(made, engine))


def by_lists(policy: RecallWindow, positions: list[float], width: float) -> list[list[int]]:
    """The frames that each chunk recalls, by trying every run of the past."""
    recalled = []
    for first in range(0, LENGTH, CHUNK):
        past = range(policy.sink_frames, max(policy.sink_frames, first - policy.newest_frames))
        best: tuple[float, list[int]] = (-1.0, [])
        for start in past:
            run = [*range(start, start + min(policy.recall_frames, len(past)))]
            if run[-1] >= past.stop:
                break
            total = sum(
                max(0.0, 1 - abs(positions[f] - positions[first + i]) / width)
                for f in run for i in range(CHUNK)
            )  # fmt: skip
            if total > best[0] - 1e-9:
                best = total, run
        recalled.append(best[1])
    return recalled


def test_each_chunk_recalls_the_run_that_saw_most_of_what_it_will_see() -> None:
    """Positions are in latent columns; the points of a picture lie finer than a step."""
    slowing, starting = [-0.5 * 11 / 16, -0.5 * 3 / 16, 0.0], [0.5 * 5 / 16, 0.5 * 13 / 16]
    steps = [0.0] + [-0.5] * 11 + slowing + starting + [0.5] * 13
    positions = [sum(steps[: i + 1]) for i in range(LENGTH)]
    made = shot()
    assert isinstance(made.cache, RecallWindow)
    expected = by_lists(made.cache, positions, COLUMNS)
    ours = [[*chunk.recalled] for chunk in chunks(made)]
    for mine, theirs in zip(ours, expected, strict=True):
        assert len(mine) == len(theirs)
        middle = [sum(run) / max(1, len(run)) for run in (mine, theirs)]
        assert abs(middle[0] - middle[1]) <= 1  # a tie within the points' spacing
    assert ours[-1] == expected[-1]


def test_what_is_recalled_changes_the_video() -> None:
    plain = chunks(shot(cache=RecallWindow(7, 1, 0)))
    ours = chunks(shot())
    window = chunks(shot(cache=WindowSink(7, 1)))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(plain, window, strict=True))
    assert not torch.equal(ours[-1].latents, window[-1].latents)


def test_until_the_window_is_full_the_video_is_that_of_a_window() -> None:
    ours, window = chunks(shot(length=9)), chunks(shot(length=9, cache=WindowSink(7, 1)))
    for a, b in zip(ours, window, strict=True):
        torch.testing.assert_close(a.latents, b.latents, rtol=1e-4, atol=1e-5)
    assert [chunk.recalled for chunk in ours] == [(), (), (1, 2)]


def test_a_path_counts_and_not_the_words() -> None:
    camera = path_of_motions(
        [TimedMotion(0, read_motion("pan right 45", 1)),
         TimedMotion(15, read_motion("pan left 45", 1))], 0.25,
    )  # fmt: skip
    made = shot(camera=camera, cache=RecallWindow(7, 1, 3))
    still = shot(camera=camera, cache=RecallWindow(7, 1, 3), prompts=words((0, "a dog")))
    assert [c.recalled for c in chunks(made)] == [c.recalled for c in chunks(still)]
    assert min(chunks(made)[-1].recalled) < 6
    unmoved = chunks(shot(cache=RecallWindow(7, 1, 3), prompts=words((0, "a dog"))))
    assert unmoved[-1].recalled == (21, 22, 23)  # of equal views the newest


def test_new_views_alone_are_none_while_the_newest_frames_show_as_much() -> None:
    """Words pan one way or stand still, so that no past frame shows more than the newest."""
    policy = RecallWindow(7, 1, 3, flat_world=True, only_new_views=True)
    ahead = words((0, "the camera pans left"), (21, "the camera stays still"))
    ours = chunks(shot(cache=policy, prompts=ahead))
    plain = chunks(shot(cache=WindowSink(4, 1), prompts=ahead))
    assert {chunk.recalled for chunk in ours} == {()}
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine.latents, theirs.latents, rtol=1e-4, atol=1e-5)
    assert chunks(shot(prompts=ahead))[-1].recalled


def test_new_views_alone_come_back_with_the_camera() -> None:
    """Of two frames the one whose camera is nearer shows more; points lie finer than a step."""
    policy = RecallWindow(7, 1, 3, flat_world=True, only_new_views=True)
    always, ours = chunks(shot()), chunks(shot(cache=policy))
    fetched, best = ([chunk.recalled for chunk in made] for made in (ours, always))
    assert fetched[:5] == [()] * 5  # on the way out
    assert fetched[5:9] == best[5:9] and all(len(frames) == 3 for frames in best[5:9])
    assert fetched[9] == ()  # beyond where the shot began, which the sink shows best
    assert not torch.equal(ours[-1].latents, chunks(shot(cache=WindowSink(4, 1)))[-1].latents)


def test_a_plain_window_in_its_place_is_the_one_that_it_was_trained_with() -> None:
    policy = RecallWindow(7, 1, 3, flat_world=True)
    assert policy.when_rebuilt() == WindowSink(7, 1)
    assert replace(policy, only_new_views=True).when_rebuilt() == WindowSink(4, 1)


GUIDED = {
    "text": {"guidance": cfg(2.0)},
    "noise": {"guidance": vanilla(2.0, NOISE)},
    "ages": {"guidance": temporal(0.5, last(3))},
}


@pytest.mark.parametrize("name", GUIDED)
def test_guidance_reads_what_was_recalled(name: str) -> None:
    ours = chunks(shot(**GUIDED[name]))
    plain = chunks(shot(**GUIDED[name], cache=WindowSink(7, 1)))
    assert ours[-1].recalled == chunks(shot())[-1].recalled
    assert not torch.equal(ours[-1].latents, plain[-1].latents)
    assert all(chunk.latents.isfinite().all() for chunk in ours)


@pytest.mark.parametrize(
    "changes", [{"on_prompt_change": "re-cache"}, {"guidance": temporal(0.5, last(3, exact=True))}]
)
def test_a_history_with_recalled_frames_is_not_rebuilt(changes: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="recalls latent frames"):
        shot(**changes)
    replace(shot(), cache=RecallWindow(7, 1, 0), **changes)


def test_content_recalls_one_run_and_a_video_of_its_own() -> None:
    policy = RecallWindow(7, 1, 3, by="content")
    ours, again = (chunks(shot(cache=policy)) for _ in range(2))
    assert [c.recalled for c in ours] == [c.recalled for c in again]
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(ours, again, strict=True))
    for chunk in ours[4:]:
        first, *_, last_one = chunk.recalled
        assert last_one - first == 2 and first >= 1 and last_one < chunk.first_frame - 3
    by_view = chunks(shot())
    assert not torch.equal(ours[-1].latents, by_view[-1].latents)
