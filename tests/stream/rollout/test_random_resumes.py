"""The law of resuming for shots of settings drawn at random, with a live edit before the cut."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.policy import FullHistory, MemoryBank, MostAttended, WindowSink
from longtake.attention.recall.window import RecallWindow
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import ON_DEVICE, InMainMemory
from longtake.attention.storage.quantize import FLOAT8, INT4, INT8
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput
from longtake.samplers.conditioning.blend import Blend
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.conditioning.prompts import PromptMix, PromptTimeline, TimedPrompt
from longtake.samplers.feature_caching import FeatureCaching
from longtake.samplers.guidance import NOISE, Branch, Guidance, OwnPrompt, cfg, last, vanilla
from longtake.samplers.rules.anchor import Anchor
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks, pipeline, pyramid, rolling
from longtake.samplers.solvers.multistep import UniPC2
from longtake.samplers.solvers.single_step import Euler, ReNoise
from longtake.stream.rollout.rollout import Rollout
from longtake.tests.support.laws import examples
from longtake.tests.support.stream.rollouts import RULES, assert_same_bits, cut_after, rollout
from longtake.tests.support.tiny_model import TEXT_LEN, TINY, embedding, randn, timeline

LADDER = flow_ladder(3, 3.0)
SPARSE = SparseSelf(0.3, 0.0, (), 0.5, min_keys=0, recent_frames=1)
BLEND = (
    TimedPrompt(0, embedding(10), "10"),
    TimedPrompt(3, embedding(11), "11", blend=Blend(3, 3, 3)),
)
MIX = PromptMix(embedding(5), ((0, 0.2), (6, 0.5)))
OWN = (Branch(1.0), Branch(0.5, OwnPrompt(embedding(55)), last(3)), Branch(-0.5, "negative"))


def known(*places: int, level: float = 0.0, ahead: int = 0) -> KnownFrames:
    size = TINY.out_channels, 4, 6
    return KnownFrames(tuple(KnownFrame(at, randn(*size, seed=at), level, ahead) for at in places))


CHOICES: dict[str, list[Any]] = {
    "cache": [
        WindowSink(5, 1), FullHistory(), MemoryBank(5, 1, 1, 1), MostAttended(5, 1),
        DummyHeads(5, 1), TempCache(5, 0.9), RecallWindow(5, 1, 2),
        RecallWindow(5, 0, 2, by="content"),
    ],
    "schedule": [
        causal_chunks(LADDER), pyramid(LADDER), rolling(LADDER, 2), pipeline(LADDER, 2, 3),
        replace(causal_chunks(LADDER), first_frames=1),
    ],
    "solver": [Euler(), ReNoise(), UniPC2()],
    "storage": [DENSE, Packed(INT8), Packed(INT4), Packed(FLOAT8)],
    "placement": [ON_DEVICE, InMainMemory()],
    "sparsity": [Sparsity(), Sparsity(SPARSE)],
    "guidance": [cfg(1.0), cfg(2.0), vanilla(2.0, NOISE), Guidance(OWN)],
    "context_noise": [ContextNoise(), ContextNoise(0.1)],
    "on_prompt_change": ["keep", "re-cache", "flush"],
    "memory": [MemoryRules(), RULES],
    "anchor": [None, Anchor(0.5)],
    "feature_caching": [None, FeatureCaching(0.8)],
    "known_frames": [known(), known(0), known(11, ahead=12), known(3, 4, 9, level=0.4)],
    "prompts": [
        timeline(0, 3),
        *(PromptTimeline(BLEND, torch.zeros(TEXT_LEN, TINY.text_dim), mix) for mix in (None, MIX)),
    ],
}  # fmt: skip


@examples(12)
@given(
    drawn=st.fixed_dictionaries({name: st.sampled_from(v) for name, v in CHOICES.items()}),
    cut=st.integers(1, 3),
    snapshots=st.integers(0, 2),
    words=st.sampled_from(["10", "77"]),
)
def test_a_shot_of_any_settings_resumes_with_the_same_bits(
    drawn: dict[str, Any], cut: int, snapshots: int, words: str
) -> None:
    """A live prompt comes before its second chunk; a refusal comes before the first."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            first = rollout(Path(folder) / "live", **drawn)
        except BadInput as refused:
            assert str(refused).endswith(".")
            return
        next(iter(first.chunks))
        first.controls.set_prompt(words)
        live = list(first.chunks)
        settings = first.run.state.settings
        changes = {**drawn, "prompts": settings.prompts, "snapshot_chunks": snapshots}
        cut_after(rollout(Path(folder) / "cut", **changes), cut)
        resumed: Rollout = rollout(Path(folder) / "cut", **changes)
        assert_same_bits(list(resumed.chunks), live)
        assert resumed.resumed_from == cut
