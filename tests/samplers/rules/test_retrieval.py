"""A share of the far past, retrieved by the queries of each pass, in whole rollouts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from longtake.attention import weights
from longtake.attention.cache.policy import MostAttended, WindowSink
from longtake.attention.layout import AttentionInputs, attend_inputs
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput, Unsupported
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import vanilla
from longtake.samplers.loop import generate
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import FarReading, ReadingMoment, RuledFrames
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.tiny_model import TINY, random_dit, settings

DIT, TOKENS = random_dit(), 6
WINDOW = WindowSink(12, 2)


def shot(far: FarReading | None, **changes: Any) -> RolloutSettings:
    chosen = {"cache": WINDOW, "memory": MemoryRules(far=far), **changes}
    return settings(causal_chunks(flow_ladder(3, 3.0), 3), 17, **chosen)


def latents(chosen: RolloutSettings, **how: Any) -> torch.Tensor:
    chunks = generate(chosen, local_denoiser(DIT, TINY), **how)
    return torch.cat([chunk.latents for chunk in chunks])


def test_a_share_of_all_reads_the_same_bits() -> None:
    whole = latents(shot(FarReading(3, 2, 1.0)))
    assert torch.equal(latents(shot(FarReading(3, 2, 1.0, share=1.0))), whole)
    assert not torch.equal(latents(shot(FarReading(3, 2, 1.0, share=0.3))), whole)


def test_passes_compute_on_the_retrieved_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = list[int]()

    def count(inputs: AttentionInputs) -> torch.Tensor:
        keys.append(inputs.keys.shape[2] // TOKENS)
        return attend_inputs(inputs)

    monkeypatch.setattr(weights, "attend_inputs", count)
    latents(shot(FarReading(3, 1, 0.5, share=0.3)))
    near, far = 2 + 3 + 2, 12 - 2 - 3  # sink, near frames, the last chunk's own; beyond
    assert keys[-6:] == [near] * 5 + [near + 3] and far * 0.3 < 3


def test_branches_together_and_one_by_one_read_the_same() -> None:
    far, guidance = FarReading(3, 2, 1.0, share=0.3), vanilla(1.5)
    together = latents(shot(far, guidance=guidance))
    alone = dataclasses.replace(guidance, in_one_pass=False)
    torch.testing.assert_close(latents(shot(far, guidance=alone)), together, rtol=1e-4, atol=1e-4)


def test_of_two_shares_the_smaller_one_is_read() -> None:
    rules = [FarReading(3, share=0.5), FarReading(5, share=0.2)]
    ruled = RuledFrames(rules, ReadingMoment(3, 0, 4), next_frame=20, sink_frames=2, layers=4)
    assert [ruled.retrieved_share(frame) for frame in (17, 16, 15, 14, 2, 1)] == [
        1.0, 0.5, 0.5, 0.2, 0.2, 1.0,
    ]  # fmt: skip


def test_every_second_layer_counts_from_the_last() -> None:
    far = FarReading(6, last_layers=0.5, layer_stride=2)
    assert [*far.reading_layers(6)] == [5, 3]
    assert [*far.reading_layers(30)] == [*range(29, 14, -2)]
    assert [*FarReading(6).reading_layers(30)] == [*range(29, 19, -1)]


@pytest.mark.parametrize("changed", [{"layer_stride": 0}, {"share": 0.0}, {"share": 1.5}])
def test_a_share_that_cannot_be_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="share of it above 0"):
        FarReading(3, **changed)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cache": TempCache(12, 1.01, 0.0, 2)}, "heads of this KV cache read tokens"),
        ({"cache": MostAttended(12, 2, per_head=True)}, "heads of this KV cache read tokens"),
        ({"sparsity": Sparsity(SparseSelf())}, "block-sparse attention chooses"),
    ],
)
def test_what_chooses_keys_by_itself_is_refused(changes: dict[str, Any], reason: str) -> None:
    shot(FarReading(3), **changes)
    with pytest.raises(Unsupported, match=reason):
        shot(FarReading(3, share=0.5), **changes)
