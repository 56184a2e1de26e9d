"""What the plan says of the memory rules is what a rollout does."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from longtake.attention import weights
from longtake.attention.cache.policy import WindowSink
from longtake.attention.layout import AttentionInputs, attend_inputs
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.planning.rules import describe_rules, name_rules, read_share
from longtake.samplers.rules.anchor import Anchor, ChannelStatistics
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.positions import TopAligned
from longtake.samplers.rules.reading import FarReading, NewestFrames, PastWeight, RecencyBias
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings, timeline


def shot(memory: MemoryRules, anchor: Anchor | None = None) -> RolloutSettings:
    chosen = {"cache": WindowSink(12, 2), "memory": memory, "anchor": anchor}
    return settings(length=24, prompts=timeline(0), **chosen)


@pytest.mark.parametrize("far", [FarReading(3), FarReading(5, 0), FarReading(4, 2, 1.0)])
def test_the_share_that_is_read_is_counted_in_a_run(
    far: FarReading, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[int]()

    def count(inputs: AttentionInputs) -> torch.Tensor:
        read.append(inputs.past)
        return attend_inputs(inputs)

    monkeypatch.setattr(weights, "attend_inputs", count)
    chosen = shot(MemoryRules(far=far))
    [*_] = generate(chosen, local_denoiser(random_dit(), TINY))
    last = read[-4:]  # two steps in two layers, over twelve frames of six tokens
    assert sum(last) / (4 * 12 * 6) == pytest.approx(read_share(chosen, TINY.num_layers))


def test_the_longer_first_chunk_does_not_count() -> None:
    schedule = causal_chunks(flow_ladder(2, 3.0), 3, flow_ladder(5, 3.0))
    longer = dataclasses.replace(shot(MemoryRules(far=FarReading(3))), schedule=schedule)
    assert "in the last 1 of 2 steps" in (describe_rules(longer, 2) or "")


def test_without_rules_nothing_is_said() -> None:
    assert describe_rules(shot(MemoryRules()), 2) is None
    assert read_share(shot(MemoryRules()), 2) == 1.0


@pytest.mark.parametrize(
    ("memory", "told"),
    [
        (MemoryRules(NewestFrames(0)), "a commit sees its chunk alone"),
        (MemoryRules(NewestFrames()), "a commit sees all but the sink."),
        (MemoryRules(NewestFrames(4)), "the newest 4 latent frames, without the sink"),
        (MemoryRules(recency=RecencyBias()), "log weight down to -4"),
        (MemoryRules(far=FarReading(3)), "in the last 1 of 2 steps and 1 of 2 layers, 56% of"),
        (MemoryRules(far=FarReading(3, 0)), "are read by no step, 42% of"),
        (MemoryRules(past=PastWeight(0.3)), "the past counts 0.3 times for 1 chunk after"),
        (MemoryRules(positions=TopAligned(21)), "top-aligned in 21"),
    ],
    ids=str,
)
def test_each_rule_is_named(memory: MemoryRules, told: str) -> None:
    assert told in (describe_rules(shot(memory), 2) or "")


def test_an_anchor_is_named() -> None:
    picture = ChannelStatistics.of(randn(1, 4, 4, 6))
    assert "35% of the way to a picture" in (
        describe_rules(shot(MemoryRules(), Anchor(0.35, picture)), 2) or ""
    )


def test_the_player_s_line_names_every_rule_that_acts() -> None:
    memory = MemoryRules(
        NewestFrames(), RecencyBias(), PastWeight(0.3), FarReading(3), TopAligned(21)
    )
    assert name_rules(shot(memory, Anchor(0.35))) == (
        "commit forcing, recency 4, far past in the last steps, top-aligned positions, "
        "past weight 0.3, anchor 0.35"
    )
    assert name_rules(shot(MemoryRules(recency=RecencyBias()))) == "recency 4"
    assert name_rules(shot(MemoryRules())) is None
