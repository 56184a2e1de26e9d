"""Scenery that returns: the clips, the figures by memory, and a memory that recalls wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.attention.recall.window import RecallWindow
from longtake.model.preset import DEMO_FOLDER
from longtake.samplers.loop import Chunk
from longtake.samplers.strip import travel
from longtake.training.evaluation.kit import Kit, Recipe, load_kit, sample, settings_of
from longtake.training.evaluation.measures import as_chunks
from longtake.training.evaluation.returns import (
    CHUNK,
    OFF,
    TRUTH,
    CameraTurn,
    Clip,
    Memory,
    at_a_chunk,
    entering_figures,
    half_way,
    memory_megabytes,
    sample_shuffled,
    there_and_back,
    turning_shot,
    whole_way_figures,
)
from longtake.training.world.dataset import latent_travel

RECALL = RecallWindow(9, 0, 3, by="view", archive_frames=24, flat_world=True)
TURN = CameraTurn(18, 9)
FAST = Recipe(cache=RECALL, steps=1, first_steps=1)


@pytest.fixture(scope="module")
def kit() -> Kit:
    return load_kit(DEMO_FOLDER)


@pytest.fixture(scope="module")
def clip(kit: Kit) -> Clip:
    return there_and_back(kit, TURN, 0)


@pytest.mark.parametrize("away", [48, 128])
def test_where_the_loop_serves_its_camera_is_the_worlds(kit: Kit, away: int) -> None:
    """Latent frames at full pan, by the loop's count of words and by the drawn world."""
    turn = at_a_chunk(half_way(away))
    shot, *texts = turning_shot(turn, 0)
    frames = turn.history + CHUNK
    prompts = [(0, texts[0]), (turn.away, texts[1])]
    settings = settings_of(kit, Recipe(length=frames), prompts, 0)
    world = latent_travel([shot], frames)[0].double()
    assert float((travel(settings, range(frames)) - world).abs().max()) < 0.1


def test_a_clip_turns_where_the_loop_turns_its_camera(kit: Kit) -> None:
    clip = there_and_back(kit, half_way(16), 0)
    assert (clip.turn, len(clip.latents)) == (15, 15 + 6 + CHUNK)


def made(kit: Kit, clip: Clip, seed: int = 0, *, shuffled: bool) -> list[Chunk]:
    """The last two chunks of a clip, made again."""
    make = sample_shuffled if shuffled else sample
    recipe = replace(FAST, length=len(clip.latents))
    with torch.inference_mode():
        return [*make(kit, recipe, clip.prompts, seed, as_chunks(clip.latents)[:-2])]


def test_a_shuffled_memory_recalls_as_many_other_frames(kit: Kit, clip: Clip) -> None:
    right, wrong, again, other = (
        made(kit, clip, seed, shuffled=shuffled)
        for seed, shuffled in ((0, False), (0, True), (0, True), (1, True))
    )
    for best, random in zip(right, wrong, strict=True):
        assert len(random.recalled) == len(best.recalled) == RECALL.recall_frames
        assert not {*random.recalled} & {*best.recalled}
        assert max(random.recalled) < random.first_frame - RECALL.newest_frames
        assert not torch.equal(random.latents, best.latents)
    assert wrong[0].recalled != wrong[1].recalled
    assert [chunk.recalled for chunk in again] == [chunk.recalled for chunk in wrong]
    assert [chunk.recalled for chunk in other] != [chunk.recalled for chunk in wrong]


def test_figures_name_every_memory_and_what_the_vae_reaches(kit: Kit) -> None:
    memories = {"window": Memory(WindowSink(9)), "recall": Memory(RECALL),
                "shuffled": Memory(RECALL, sample_shuffled)}  # fmt: skip
    figures = entering_figures(kit, 0, turn=TURN, memories=memories, recipe=FAST)
    assert {*figures} == {TRUTH, *memories} and len({*figures.values()}) == 4
    assert max(figures.values()) == figures[TRUTH] > 0.5
    whole = whole_way_figures(kit, 0, turn=TURN, memories=memories, recipe=FAST)
    assert {*whole} == {f"{name}{end}" for name in (TRUTH, *memories) for end in ("", OFF)}
    assert max(whole[name] for name in figures) == whole[TRUTH] > 0.5


def test_megabytes_are_those_that_the_loop_holds(kit: Kit, clip: Clip) -> None:
    last = made(kit, clip, shuffled=False)[-1]
    recipe = replace(FAST, length=len(clip.latents))
    planned = memory_megabytes(kit, recipe)
    assert planned == {"resident, MB": last.kv_bytes / 1e6,
                       "archived, MB": last.offloaded_bytes / 1e6}  # fmt: skip
    assert min(planned.values()) > 0
    window = memory_megabytes(kit, replace(recipe, cache=WindowSink(9)))
    assert window == {"resident, MB": planned["resident, MB"], "archived, MB": 0.0}
