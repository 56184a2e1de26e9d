"""NAG: the published equations, and shots that must equal plain ones of another prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import FullHistory
from longtake.attention.sparse.settings import SparseCross, Sparsity
from longtake.errors import BadInput, Unsupported
from longtake.model.dit import project_text
from longtake.model.recurrent.config import RecurrentConfig
from longtake.samplers.branches import Branches
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.current import CurrentSettings
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.evaluator import Evaluator, PassInputs
from longtake.samplers.guidance import Guidance, GuidanceTiming, NormalizedAttention, cfg, vanilla
from longtake.samplers.guided_prompt import push_hooks
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.planning.cost import cost, describe_branches, histories_used
from longtake.samplers.recurrent_rules import check_recurrent
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import rolling
from longtake.stream.journal.records import rollout_facts
from longtake.tests.support.stream.rollouts import cut_after
from longtake.tests.support.stream.rollouts import rollout as journalled
from longtake.tests.support.tiny_model import TINY, embedding, randn, random_dit, settings, timeline

MODEL = local_denoiser(random_dit(), TINY)
PLAIN = Guidance()
NAG = NormalizedAttention(5.0, 1.5, 0.5)
NEGATIVE_ALONE = NormalizedAttention(0.0, 1e6, 1.0)
"""No part of the prompt, all of the negative prompt, and no bound."""
AHEAD = KnownFrame(5, torch.zeros(TINY.out_channels, 4, 6), 0.0, lookahead=9)


def guided(nag: NormalizedAttention | None = NAG, **changes: Any) -> Guidance:
    return Guidance(normalized_attention=nag, **changes)


def chunks(guidance: Guidance = PLAIN, **changes: Any) -> list[Chunk]:
    with torch.inference_mode():
        return [*generate(settings(guidance=guidance, **changes), MODEL)]


def shot(guidance: Guidance = PLAIN, **changes: Any) -> Tensor:
    return torch.cat([chunk.latents for chunk in chunks(guidance, **changes)])


def published(positive: Tensor, negative: Tensor, scale: float, tau: float, alpha: float) -> Tensor:
    """Equations of section 3, one token (n, d) after another."""
    tokens = []
    for z_positive, z_negative in zip(positive, negative, strict=True):
        z = z_positive * scale - z_negative * (scale - 1)
        ratio = float(z.abs().sum() / z_positive.abs().sum())
        z = z * min(ratio, tau) / ratio
        tokens.append(z * alpha + z_positive * (1 - alpha))
    return torch.stack(tokens)


@pytest.mark.parametrize("values", [(11.0, 2.5, 0.25), (5.0, 1.5, 1.0), (1.4, 9.0, 0.5)])
def test_a_push_is_as_published(values: tuple[float, float, float]) -> None:
    positive, negative = randn(2, 3, 4, 2, 8, seed=1), randn(2, 3, 4, 2, 8, seed=2)
    ours = NormalizedAttention(*values).push(positive, negative, torch.ones(2, 3, 1, 1, 1))
    expected = published(positive.flatten(0, 2), negative.flatten(0, 2), *values)
    torch.testing.assert_close(ours.flatten(0, 2), expected)


@pytest.mark.parametrize("off", [NormalizedAttention(1.0), NormalizedAttention(11.0, alpha=0.0)])
def test_a_push_that_is_off_changes_nothing(off: NormalizedAttention) -> None:
    positive, negative = randn(2, 3, 4, 2, 8, seed=1), randn(2, 3, 4, 2, 8, seed=2)
    assert torch.equal(off.push(positive, negative, torch.ones(2, 3, 1, 1, 1)), positive)
    assert torch.equal(NAG.push(positive, negative, torch.zeros(2, 3, 1, 1, 1)), positive)
    is_plain(shot(guided(off)))
    assert not torch.allclose(shot(guided()), shot(), atol=1e-2)


def is_plain(latents: Tensor) -> None:
    """Up to rounding: with two prompts in one product, some processors round another way."""
    torch.testing.assert_close(latents, shot()[: len(latents)], rtol=1e-5, atol=1e-5)


def test_all_of_the_negative_prompt_is_a_plain_shot_of_that_prompt() -> None:
    """One chunk, which no history of another prompt precedes."""
    lines = timeline(0)
    swapped = replace(lines, lines=(replace(lines.lines[0], embedding=lines.negative),))
    whole = {"length": 3, "sparsity": Sparsity(prompt_sparsity=None)}
    ours = shot(guided(NEGATIVE_ALONE), prompts=lines, **whole)
    torch.testing.assert_close(ours, shot(prompts=swapped, **whole), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, shot(prompts=lines, **whole), atol=1e-2)


def test_a_pass_of_two_prompts_is_pushed_in_every_latent_frame() -> None:
    """A rolling row spans a change of the prompt, and its frames are of several levels."""
    schedule, both = rolling(flow_ladder(3, 2.0), 2), timeline(0, 3)
    same = replace(both, lines=tuple(replace(x, embedding=both.negative) for x in both.lines))
    made = {"length": 6, "schedule": schedule}
    ours = shot(guided(NEGATIVE_ALONE), prompts=both, **made)
    first = slice(0, 1)  # what comes later sees a history of the prompt
    expected = shot(prompts=same, **made)
    torch.testing.assert_close(ours[first], expected[first], rtol=1e-4, atol=1e-4)


def test_merged_padding_of_the_negative_prompt_is_exact() -> None:
    merged = Sparsity(prompt_sparsity=SparseCross(prune=False))
    plain, padded = Sparsity(prompt_sparsity=None), embedding(4)
    padded[2:] = 0
    prompts = replace(timeline(0), negative=padded)
    ours, theirs = (shot(guided(), prompts=prompts, sparsity=way) for way in (merged, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_attention_to_the_negative_prompt_is_that_of_the_pass() -> None:
    """So that pruning reads few tokens of both prompts."""
    layers: list[int] = []

    def other_attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        layers.append(layer)
        return torch.zeros_like(q)

    negative = project_text(random_dit(), embedding(4)[None, None])
    hooks = push_hooks(NEGATIVE_ALONE, negative, torch.ones(1, 3), other_attention)
    q = randn(1, 3, 6, TINY.num_heads, TINY.head_dim)
    assert not hooks.in_prompt[0](1, q, q).any() and layers == [1]


def test_known_frames_ahead_are_not_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    pushes: list[tuple[int, tuple[float, ...]]] = []
    evaluate = Evaluator.evaluate

    def noting(self: Evaluator, inputs: PassInputs, *args: Any, **options: Any) -> Any:
        if inputs.push is not None:
            ahead = len([frame for frame in inputs.frames if frame == AHEAD.frame])
            pushes.append((ahead, inputs.push.strengths))
        return evaluate(self, inputs, *args, **options)

    monkeypatch.setattr(Evaluator, "evaluate", noting)
    shot(guided(), length=6, known_frames=KnownFrames((AHEAD,)))
    assert {(1, (0.0, 1.0, 1.0, 1.0))} <= {*pushes}


def test_chunks_and_plans_without_it_are_others() -> None:
    assert guided().inputs != PLAIN.inputs and guided().work != PLAIN.work
    assert guided(NormalizedAttention(3.0)).inputs != guided().inputs


def test_it_acts_when_guidance_does() -> None:
    is_plain(shot(guided().scale_by(0.0)))
    is_plain(shot(guided(timing=GuidanceTiming((0.0, 0.0)))))
    later = shot(guided(timing=GuidanceTiming(first_chunk=0.0)))
    is_plain(later[:3])
    assert not torch.allclose(later[3:], shot()[3:], atol=1e-2)
    half, doubled = guided().scale_by(0.5), guided(NormalizedAttention(3.0, 1.5, 0.5))
    torch.testing.assert_close(shot(half), shot(doubled), rtol=1e-4, atol=1e-4)


def test_it_costs_no_evaluation() -> None:
    assert [c.model_evals for c in chunks(guided())] == [c.model_evals for c in chunks()]
    s = settings(guidance=guided())
    assert cost(s, TINY, torch.float32).evaluations == chunks(guided())[-1].model_evals
    assert describe_branches(guided()).endswith("; NAG 5 from the negative prompt.")
    assert histories_used(s).endswith("; NAG 5 from the negative prompt")
    facts = rollout_facts(s, channels=4, fps=16.0, lock="")
    assert facts["guidance"] == [[0, "1 x all; NAG 5 from the negative prompt"]]


@pytest.mark.parametrize("other", [cfg(3.0), vanilla(1.5)], ids=["cfg", "vanilla"])
def test_branches_in_one_pass_are_pushed_as_one_after_another(other: Guidance) -> None:
    both = replace(other, normalized_attention=NAG)
    apart = replace(both, in_one_pass=False)
    torch.testing.assert_close(shot(both), shot(apart), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(shot(both), shot(other), atol=1e-3)


def test_a_shot_resumes_with_the_same_bits(tmp_path: Path) -> None:
    whole = torch.cat([c.latents for c in journalled(tmp_path / "a", guidance=guided()).chunks])
    cut_after(journalled(tmp_path / "b", guidance=guided()), 1)
    again = [*journalled(tmp_path / "b", guidance=guided()).chunks]
    assert torch.equal(torch.cat([c.latents for c in again]), whole)


def test_a_recurrent_model_refuses_it() -> None:
    config = RecurrentConfig(dim=6, num_layers=2, text_dim=5)
    with pytest.raises(Unsupported, match="leave out NAG"):
        check_recurrent(settings(guidance=guided(), cache=FullHistory()), config)


def test_a_run_that_began_without_it_refuses_it() -> None:
    made = settings()
    branches = Branches(CurrentSettings(made), MODEL)
    with pytest.raises(BadInput, match="not other branches or prompts"):
        branches.use(replace(made, guidance=guided()), 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scale": -1.0}, "scale of NAG"),
        ({"tau": 0.5}, "tau of NAG"),
        ({"alpha": float("nan")}, "alpha of NAG"),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, float], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        NormalizedAttention(**changes)
