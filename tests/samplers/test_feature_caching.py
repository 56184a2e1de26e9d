"""Feature caching: equal to a loop of lists, exact at its ends, resumed with the same bits."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.errors import BadInput, Unsupported
from longtake.model.dit import Hooks, PassOptions, TextKV, WanDiT, predict, project_text
from longtake.model.recurrent.config import RecurrentConfig
from longtake.samplers.denoiser import LowNoise, SecondWeights, local_denoiser
from longtake.samplers.feature_caching import FeatureCache, FeatureCaching
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.planning.caching import describe_caching, describe_replaced
from longtake.samplers.recurrent_rules import check_recurrent
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import NoiseSchedule, causal_chunks, pyramid, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.ruled_loop import Past, Rules, WeightedPass, start_noise
from longtake.tests.support.tiny_model import TINY, random_dit, settings, timeline

STEPS, LENGTH, CHUNK = 9, 12, 3
LADDER = flow_ladder(STEPS, 3.0)
DIT = random_dit()
MODEL = local_denoiser(DIT, TINY)
SCHEDULES: dict[str, NoiseSchedule] = {
    "causal chunks": causal_chunks(LADDER, CHUNK),
    "rolling": rolling(LADDER, CHUNK),
    "pyramid": pyramid(LADDER, 2),
}


def shot(caching: FeatureCaching | None, **changes: Any) -> RolloutSettings:
    chosen = {"prompts": timeline(0), "cache": WindowSink(6), "feature_caching": caching}
    chosen |= {"schedule": SCHEDULES["causal chunks"], "length": LENGTH, **changes}
    return settings(**chosen)


def made(chosen: RolloutSettings) -> list[Chunk]:
    return [*generate(chosen, MODEL)]


def latents(chunks: list[Chunk]) -> Tensor:
    return torch.cat([chunk.latents for chunk in chunks])


class Caught:
    """The tokens that enter the first block and those that leave the last one."""

    def __init__(self, dit: WanDiT) -> None:
        self.entered, self.left = torch.empty(0), torch.empty(0)
        self._hooks = [
            dit.patch_embedding.register_forward_hook(self._enter),
            dit.head.norm.register_forward_pre_hook(self._leave),
        ]

    def _enter(self, _: nn.Module, __: Any, embedded: Tensor) -> None:
        self.entered = embedded.flatten(3).permute(0, 2, 3, 1)

    def _leave(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        self.left = inputs[0]

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def one_pass(
    dit: WanDiT, x: Tensor, level: float, text: TextKV, past: Past, options: PassOptions
) -> Any:
    """One pass over all that is held, every frame weighed alike."""
    keys = {(layer, f): 0.0 for layer in range(TINY.num_layers) for f in past.frames}
    t = torch.full((1, len(x)), 1000 * level, dtype=torch.float64)
    return predict(dit, x[None], t, text, WeightedPass(past, keys), options)


def listed_loop(dit: WanDiT, threshold: float, first_steps: int) -> tuple[Tensor, list[int]]:
    """All latent frames, and the computed steps of each chunk, with plain lists.

    A replaced step is a pass of a model without blocks, to whose tokens the work is added by hand.
    """
    headless = random_dit()
    headless.blocks = nn.ModuleList()
    past, chunks, computed = Past(Rules(6)), list[Tensor](), list[int]()
    text = project_text(dit, timeline(0).at(0).embedding[None, None])
    for start in range(0, LENGTH, CHUNK):
        frames = range(start, start + CHUNK)
        x = torch.stack([start_noise(frame) for frame in frames])
        before, work, change, count = torch.empty(0), torch.empty(0), 0.0, 0
        for step, (now, after) in enumerate(zip(LADDER, LADDER[1:], strict=False)):
            tokens = dit.patch_embedding(x[None].transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)
            if step:
                shares = [
                    float((tokens[0, f] - before[0, f]).abs().sum() / before[0, f].abs().sum())
                    for f in range(CHUNK)
                ]
                change += max(shares)
            before = tokens
            if step < first_steps or step == STEPS - 1 or change >= threshold:
                caught = Caught(dit)
                v = one_pass(dit, x, now, text, past, PassOptions()).velocity[0]
                caught.remove()
                work, change, count = caught.left - caught.entered, 0.0, count + 1
            else:
                added = Hooks(patches=(lambda t, work=work: t + work,))
                options = PassOptions(hooks=added)
                v = one_pass(headless, x, now, text, past, options).velocity[0]
            x = x + (after - now) * v
        layers = one_pass(dit, x, 0.0, text, past, PassOptions(keep=True)).keys_values
        for i, frame in enumerate(frames):
            past.add(frame, [tuple(t[0].chunk(CHUNK)[i] for t in kv) for kv in layers])
        chunks.append(x)
        computed.append(count)
    return torch.cat(chunks), computed


@pytest.mark.parametrize(("threshold", "first_steps"), [(0.2, 1), (0.35, 3), (0.6, 1)])
@torch.no_grad()
def test_it_equals_a_loop_that_adds_the_work_by_hand(threshold: float, first_steps: int) -> None:
    expected, computed = listed_loop(DIT, threshold, first_steps)
    chunks = made(shot(FeatureCaching(threshold, first_steps)))
    steps = [chunk.model_evals - 1 for chunk in chunks[1:]]  # without the commit before
    assert [chunks[0].model_evals, *steps] == computed
    assert [STEPS - chunk.replaced_evals for chunk in chunks] == computed
    assert min(computed) > 2 and max(computed) < STEPS, "the case decides nothing"
    torch.testing.assert_close(latents(chunks), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_changes_at_all_is_computed_at_the_smallest_threshold(schedule: str) -> None:
    chosen = shot(FeatureCaching(1e-9), schedule=SCHEDULES[schedule])
    chunks, plain = made(chosen), made(replace(chosen, feature_caching=None))
    assert not any(chunk.replaced_evals for chunk in chunks)
    assert torch.equal(latents(chunks), latents(plain))


@pytest.mark.parametrize("first_steps", [1, 4])
def test_first_and_last_steps_are_always_computed(first_steps: int) -> None:
    chosen = shot(FeatureCaching(1.0, first_steps), length=CHUNK)
    [chunk] = made(chosen)
    assert chunk.model_evals >= first_steps + 1 and chunk.replaced_evals
    row = next(chosen.noise_rows())
    caching = FeatureCaching(1.0, first_steps)
    at = [replace(row, steps=(step,) * 3, of_steps=(40,) * 3) for step in range(40)]
    assert [step for step in range(40) if caching.may_replace(at[step])] == [
        *range(first_steps, 39)
    ]
    mixed = replace(row, steps=(20, 20, 39), of_steps=(40,) * 3)
    assert not caching.may_replace(mixed)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_resumed_shot_has_the_same_bits(schedule: str) -> None:
    """Wherever it was left, from its chunks alone and from a snapshot."""
    chosen = shot(FeatureCaching(0.4), schedule=SCHEDULES[schedule], guidance=cfg(2.0))
    chunks = made(chosen)
    assert sum(chunk.replaced_evals for chunk in chunks), "the case replaces nothing"
    for done in range(1, len(chunks)):
        rest = [*generate(chosen, MODEL, chunks[:done])]
        assert torch.equal(latents(chunks[:done] + rest), latents(chunks))
    loop, other = Loop(chosen, MODEL), Loop(chosen, MODEL)
    stream = loop.chunks()
    first = [next(stream), next(stream)]
    other.restore(loop.snapshot())
    again = [*other.chunks(first[loop.index :])]
    assert torch.equal(latents(again), latents(chunks[2:]))


def test_branches_in_one_pass_and_one_by_one_agree() -> None:
    together = shot(FeatureCaching(0.4), guidance=cfg(2.0))
    alone = replace(together, guidance=replace(cfg(2.0), in_one_pass=False))
    a, b = made(together), made(alone)
    assert [c.replaced_evals for c in a] == [c.replaced_evals for c in b]
    torch.testing.assert_close(latents(a), latents(b), rtol=1e-4, atol=1e-4)


def test_weights_that_take_over_compute_their_first_step() -> None:
    """Wan 2.2's second expert takes nothing over from the first."""
    dit, events = random_dit(seed=1), list[str]()
    dit.patch_embedding = copy.deepcopy(DIT.patch_embedding)  # both begin with like tokens
    dit.patch_embedding.register_forward_hook(lambda *_: events.append("pass"))
    dit.blocks[0].norm1.register_forward_hook(lambda *_: events.append("computed"))
    second = SecondWeights(local_denoiser(dit, TINY), LowNoise(0.8))
    chosen = shot(FeatureCaching(1.0), length=CHUNK)
    list(generate(chosen, replace(MODEL, second=second)))
    assert events[:2] == ["pass", "computed"]
    assert events.count("pass") > events.count("computed"), "the case replaces nothing"


def test_what_is_forgotten_is_taken_over_by_nothing() -> None:
    row = replace(next(shot(None).noise_rows()), steps=(3,) * 3)
    cache, tokens = FeatureCache(FeatureCaching(1.0)), torch.ones(1, 3, 2, 4)
    for forgets, expected in ((False, ()), (True, "blocks")):
        done = cache.of(row, "view")
        assert done is not None
        done.enter(tokens, "blocks")
        done.leave(2 * tokens)
        if forgets:
            cache.forget()
        again = cache.of(row, "view")
        assert again is not None and again.enter(tokens, "blocks")[1] == expected


def test_a_recurrent_model_is_refused() -> None:
    config = RecurrentConfig(dim=6, num_layers=2, text_dim=8, in_channels=4, out_channels=4)
    with pytest.raises(Unsupported, match="(?i)feature caching"):
        check_recurrent(replace(shot(FeatureCaching(0.1)), cache=FullHistory()), config)


@pytest.mark.parametrize(("threshold", "first_steps"), [(0.0, 1), (1.5, 1), (0.1, 0)])
def test_other_numbers_are_refused(threshold: float, first_steps: int) -> None:
    with pytest.raises(BadInput, match="(?i)feature caching"):
        FeatureCaching(threshold, first_steps)


def test_it_is_described() -> None:
    chosen = shot(FeatureCaching(0.1))
    assert "up to 7 of the 9 steps" in (describe_caching(chosen) or "")
    few = replace(chosen, schedule=causal_chunks(flow_ladder(2, 3.0), CHUNK))
    assert "saves nothing" in (describe_caching(few) or "")
    assert describe_caching(shot(None)) is None
    chunk = replace(made(chosen)[0], model_evals=5, replaced_evals=3)
    assert "3 of 8 model evaluations" in (describe_replaced(chosen, chunk.evaluations) or "")
