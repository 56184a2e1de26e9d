"""Laws of the recipe: it survives a round trip, and nothing else can be read."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.attention.delta.window import DeltaWindow
from longtake.attention.recall.window import RecallWindow
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import InMainMemory
from longtake.attention.storage.quantize import INT4
from longtake.errors import BadInput
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.conditioning.blend import Blend
from longtake.samplers.conditioning.embedding import fit, mix
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.conditioning.prompts import PromptMix, PromptTimeline, TimedPrompt
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.guidance import (
    NOISE,
    WeightedScore,
    cfg,
    extend,
    magi,
    stabilise,
    temporal,
)
from longtake.samplers.guidance.scores import Motion, Palette, Pictures, Region
from longtake.samplers.rules.anchor import Anchor, ChannelStatistics
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.positions import TopAligned
from longtake.samplers.rules.reading import FarReading, NewestFrames, PastWeight, RecencyBias
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import asynchronous, pyramid
from longtake.samplers.settings import (
    RolloutSettings,
    TimedGuidance,
    TimedLevel,
    TimedLora,
    TimedSeed,
)
from longtake.samplers.solvers.multistep import UniPC2
from longtake.samplers.solvers.noise_process import VariancePreserving
from longtake.samplers.solvers.single_step import DDIM, ReNoise
from longtake.stream.journal.chain import Chain
from longtake.stream.rollout_file.recipe import from_record, to_record
from longtake.stream.rollout_file.recipe_types import known_types
from longtake.tests.support.tiny_model import TINY, embedding, randn, settings, timeline

LADDER = flow_ladder(4, 3.0)
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "much": {
        "schedule": asynchronous(LADDER, 3, 2),
        "solver": ReNoise(),
        "guidance": stabilise(extend(magi(), temporal(0.5, scale=2.0, none=NOISE)), 0.02),
        "cache": FullHistory(),
        "context_noise": ContextNoise(0.1, 3, fresh=True),
        "guidance_changes": (TimedGuidance(3, cfg(3.0)),),
        "seed_changes": (TimedSeed(3, 2**64 - 1),),
        "lora_changes": (TimedLora(3, 0.5),),
        "level_changes": (TimedLevel(6, 0.25),),
        "reference": Reference(randn(2, 8, 4, 6), randn(3, 1280), rays=randn(2, 24, 32, 48)),
        "prompts": timeline(0, 3, 6),
        "length": None,
    },
    "known": {
        "known_frames": KnownFrames(
            (KnownFrame(0, randn(4, 4, 6)), KnownFrame(5, randn(4, 4, 6), 0.5))
        ),
        "solver": UniPC2(),
        "schedule": pyramid(LADDER, 1.5),
        "cache": WindowSink(9, 2),
    },
    "coded": {
        "cache": AveragingSink(9, 3, 0.99),
        "storage": Packed(INT4, 3),
        "on_prompt_change": "re-cache",
    },
    "state": {"cache": DeltaWindow(9, 1)},
    "recalled": {"cache": RecallWindow(9, 1, 3, 2, "content", 20, flat_world=True)},
    "remembered": {"cache": TetherCache(9, 1, 2, 0.1, 0.2)},
    "heads apart": {"cache": DummyHeads(9, 1, 0.3, 2)},
    "judged": {"cache": MostAttended(9, 1, per_head=True), "on_prompt_change": "flush"},
    "in main memory": {"cache": RebuiltWindow(6), "placement": InMainMemory()},
    "ruled": {
        "memory": MemoryRules(NewestFrames(3), RecencyBias(2.0), PastWeight(0.5), FarReading(3))
    },
    "top-aligned": {"memory": MemoryRules(positions=TopAligned(21)), "cache": WindowSink(6, 2)},
    "anchored": {"anchor": Anchor(0.35)},
    "blended": {
        "prompts": PromptTimeline(
            (TimedPrompt(0, embedding(1), "a"), TimedPrompt(3, embedding(2), blend=Blend(3, 4, 2))),
            torch.zeros_like(embedding(0)),
            PromptMix(embedding(3), ((0, 0.25), (6, 1.0))),
        ),
    },
    "edited in a blend": {
        "prompts": PromptTimeline(
            (
                TimedPrompt(0, fit(randn(2, TINY.text_dim), 5), "a"),
                TimedPrompt(3, mix(fit(randn(2, TINY.text_dim), 5), embedding(1), 0.25)),
                TimedPrompt(6, embedding(1)),
            ),
            torch.zeros_like(embedding(0)),
        ),
    },
    "anchored to a picture": {"anchor": Anchor(1.0, ChannelStatistics.of(randn(1, 4, 4, 6)))},
    "steered": {"camera": path_of_motions([TimedMotion(2, read_motion("zoom in", 1), 3)], 0.25)},
    "diffusion": {"solver": DDIM(VariancePreserving("cosine"), "v", 0.3)},
}


def there_and_back(made: RolloutSettings) -> RolloutSettings:
    record, tensors = to_record(made)
    return from_record(json.loads(json.dumps(record)), tensors)


@pytest.mark.parametrize("case", CASES)
def test_settings_survive_with_the_same_keys(case: str) -> None:
    made = settings(**{"length": 9, **CASES[case]})
    back = there_and_back(made)
    assert [Chain(back, "m").key(i) for i in range(3)] == [
        Chain(made, "m").key(i) for i in range(3)
    ]
    assert Chain(back, "m").id == Chain(made, "m").id
    assert (back.length, back.hold_rotated) == (made.length, made.hold_rotated)
    texts = [entry.text for entry in back.prompts.entries]
    assert texts == [entry.text for entry in made.prompts.entries]


def test_scores_survive_with_their_decoder() -> None:
    vae = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4)))
    pictures = Pictures(vae, torch.device("cpu"))
    pulls = (
        WeightedScore(Palette(((0.1, 0.2, 0.3),), pictures), 2.0),
        WeightedScore(Region(randn(3, 8, 8), (0.0, 0.0, 0.5, 1.0), pictures), 1.0, 0.25),
        WeightedScore(Motion(0.2)),
    )
    made = settings(guidance=dataclasses.replace(cfg(2.0), weighted_scores=pulls))
    back = there_and_back(made)
    assert Chain(back, "m").key(0) == Chain(made, "m").key(0)
    latents = randn(1, 16, 2, 2)
    ours, theirs = back.guidance.weighted_scores[0].score, made.guidance.weighted_scores[0].score
    assert torch.equal(ours(latents, latents[:0], 0), theirs(latents, latents[:0], 0))


def test_a_custom_score_cannot_be_saved() -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine:
        weight: float = 1.0

        def __call__(self, *_: Any) -> Any: ...

    made = settings(
        guidance=dataclasses.replace(cfg(2.0), weighted_scores=(WeightedScore(Mine()),))
    )
    with pytest.raises(BadInput, match="uses a Mine, which a file cannot hold"):
        to_record(made)


def test_a_recipe_with_unknown_parts_is_refused_by_their_names() -> None:
    record, tensors = to_record(settings())
    with pytest.raises(BadInput, match="uses tempo, which this Longtake does not know"):
        from_record({**record, "tempo": 3}, tensors)
    with pytest.raises(BadInput, match="uses Spiral, which"):
        from_record({**record, "schedule": {"is": "Spiral"}}, tensors)


def test_a_missing_field_takes_its_default() -> None:
    record, tensors = to_record(settings())
    del record["seed_changes"], record["context_noise"]
    assert from_record(record, tensors).seed_changes == ()


def kinds_of(base: type[Any]) -> set[type[Any]]:
    """A class's subclasses, and theirs."""
    return {kind for own in base.__subclasses__() for kind in (own, *kinds_of(own))}


def test_every_policy_of_a_kv_cache_is_known() -> None:
    """A new one that `recipe_types` does not list could be chosen, but not read back."""
    assert RecallWindow in kinds_of(CachePolicy)
    ours = {kind for kind in kinds_of(CachePolicy) if ".tests." not in kind.__module__}
    assert {kind.__qualname__ for kind in ours} <= set(known_types())


def test_all_parts_of_settings_are_known() -> None:
    names = set(known_types())
    assert {
        "KnownFrame",
        "TimedPrompt",
        "View",
        "AgeRange",
        "GuidanceTiming",
        "Limits",
        "WeightedScore",
    } <= names
    assert "Chain" not in names and "Pictures" not in names


def test_a_prompt_of_many_lines_is_in_a_file_once() -> None:
    """A performer's keys bring the same prompts back for hours."""
    words = embedding(1), embedding(2)
    given = PromptTimeline(
        tuple(TimedPrompt(3 * i, words[i % 2], str(i)) for i in range(8)),
        torch.zeros_like(embedding(0)),
    )
    record, tensors = to_record(settings(length=24, prompts=given))
    assert len(tensors) == 3  # the negative prompt too
    back = from_record(record, tensors).prompts
    assert [line.digest for line in back.lines] == [line.digest for line in given.lines]
