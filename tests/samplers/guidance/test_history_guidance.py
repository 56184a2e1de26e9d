"""History Guidance on a cache equals the papers' formulas without one (T8, T10, T13; laws 1, 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.errors import BadInput
from longtake.model import dit
from longtake.samplers.branches import Branches
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.current import CurrentSettings
from longtake.samplers.evaluator import Evaluator
from longtake.samplers.guidance import (
    DROP,
    NOISE,
    SINK,
    Branch,
    Guidance,
    OwnPrompt,
    View,
    cfg,
    fractional,
    last,
    merge_branches,
    stabilise,
    temporal,
    vanilla,
)
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.history.rollout_history import RolloutHistory
from longtake.samplers.loop import generate
from longtake.samplers.noise import frame_noise
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import pyramid
from longtake.tests.support.model_hosts import model_with_hooks
from longtake.tests.support.samplers.brute_force import (
    CHUNK,
    Term,
    Terms,
)
from longtake.tests.support.samplers.guidance_cases import CASES, NEGATIVE, cut, whole
from longtake.tests.support.samplers.guided_rollouts import (
    CLOSE,
    DTYPE,
    LENGTH,
    MODEL,
    joined,
    of,
    ours,
    reference,
)
from longtake.tests.support.tiny_model import (
    TINY,
    randn,
    settings,
    timeline,
)

SINK_WINDOW = WindowSink(LENGTH, CHUNK)


@pytest.mark.parametrize("name", CASES)
def test_guidance_on_a_cache_equals_the_whole_sequence_each_time(name: str) -> None:
    guidance, terms = CASES[name]
    torch.testing.assert_close(ours(guidance), reference(terms), **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_what_is_known_ahead_is_seen_as_each_view_sees_the_history(name: str) -> None:
    """At its level; pure noise hides it, no history and the sink do without."""
    guidance, terms = CASES[name]
    given = {frame: randn(4, 4, 6, seed=frame) for frame in (2, 7, 10, 11)}
    known = KnownFrames(tuple(KnownFrame(f, x, lookahead=LENGTH) for f, x in given.items()))
    expected = reference(terms, given)
    torch.testing.assert_close(ours(guidance, known_frames=known), expected, **CLOSE)
    alone = ours(dataclasses.replace(guidance, in_one_pass=False), known_frames=known)
    torch.testing.assert_close(alone, expected, **CLOSE)


@pytest.mark.each_value
@pytest.mark.parametrize(
    "view", [View(), NOISE, DROP, View(level=0.5), last(4, exact=True), SINK, last(4)], ids=str
)
@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_an_own_prompt_that_is_the_prompt_in_force_changes_no_bit(
    view: View, weight: float
) -> None:
    """Where as many prompts are projected; else no more than a pass of another size does."""
    prompts = timeline(0)
    own = OwnPrompt(prompts.entries[0].embedding.clone())
    one, other = (
        ours(
            Guidance(merge_branches([Branch(1 - weight), Branch(weight, prompt, view)])),
            prompts=prompts,
            cache=SINK_WINDOW,
        )
        for prompt in ("positive", own)
    )
    torch.testing.assert_close(one, other, **(CLOSE if weight < 1 else {"rtol": 0, "atol": 0}))


def test_no_branch_need_see_the_history_under_the_base_prompt() -> None:
    guided = ours(Guidance((Branch(1.0, "negative", NOISE),)))
    expected = reference(whole(1.0, level=1.0, recommitted=True, **NEGATIVE))
    torch.testing.assert_close(guided, expected, **CLOSE)


def test_the_exact_sink_is_the_first_chunk_alone_and_so_is_a_cut_of_whole_chunks() -> None:
    one_prompt = {"prompts": timeline(0), "cache": SINK_WINDOW}
    exact = ours(vanilla(1.5, dataclasses.replace(SINK, exact=True)), **one_prompt)
    torch.testing.assert_close(ours(vanilla(1.5, SINK), **one_prompt), exact, **CLOSE)


def test_an_exact_sink_equals_the_whole_sequence() -> None:
    sink = dataclasses.replace(SINK, exact=True)

    def terms(first: int) -> list[Term]:
        history = range(min(first, CHUNK))
        return [*whole(1.5)(first), Term(-0.5, history, recommitted=first > CHUNK)]

    guided = ours(vanilla(1.5, sink), cache=SINK_WINDOW)
    torch.testing.assert_close(guided, reference(terms), **CLOSE)


def test_an_exact_part_does_not_remember_what_the_window_evicted() -> None:
    short = temporal(1.0, last(4, exact=True))
    terms = cut(1.0, 1, 4, exact=True)
    torch.testing.assert_close(ours(short, cache=WindowSink(6)), reference(terms), **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_branches_at_once_or_one_after_another_are_the_same_up_to_rounding(name: str) -> None:
    """Not to the bit: a matrix product of more rows may be summed in another order."""
    guidance, _ = CASES[name]
    together, alone = ours(guidance), ours(dataclasses.replace(guidance, in_one_pass=False))
    most = 5e-6 * float(together.abs().max())  # found: at most 1e-6 of it
    torch.testing.assert_close(alone, together, rtol=0, atol=most)


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_branches_changes_no_bit(name: str) -> None:
    guidance, _ = CASES[name]
    turned = dataclasses.replace(guidance, branches=guidance.branches[::-1])
    assert torch.equal(ours(turned), ours(guidance))


@pytest.mark.parametrize("name", CASES)
def test_replay_continues_bit_for_bit_with_every_history(name: str) -> None:
    s = of(CASES[name][0], cache=WindowSink(5, 1))
    made = list(generate(s, MODEL))
    for finished in (1, 3):
        again = joined(list(generate(s, MODEL, made[:finished])))
        assert torch.equal(again, joined(made[finished:]))


@pytest.mark.each_value
@pytest.mark.parametrize("cache", [FullHistory(), WindowSink(5, 1), WindowSink(4)])
@pytest.mark.parametrize("hold_rotated", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_bytes_of_all_histories_are_planned(
    name: str, cache: FullHistory | WindowSink, hold_rotated: bool
) -> None:
    s = of(CASES[name][0], cache=cache, hold_rotated=hold_rotated, length=6)
    model = dataclasses.replace(MODEL, dtype=torch.bfloat16)
    history = RolloutHistory(CurrentSettings(s), Evaluator(model, s.solver.process))
    assert history.bytes == planned_bytes(s, TINY, torch.bfloat16)
    assert {chunk.kv_bytes for chunk in generate(s, MODEL)} == {planned_bytes(s, TINY, DTYPE)}


def ages(of_level: Callable[[int], float], *, draw: bool = False) -> Terms:
    """The whole history committed again before each chunk, each age at its own level."""

    def terms(first: int) -> list[Term]:
        context = lambda frame: of_level(first - frame)  # noqa: E731
        one = Term(1.0, range(first), context=context, draw=first if draw else 0)
        return [dataclasses.replace(one, recommitted=True)]

    return terms


@pytest.mark.parametrize(
    ("noise", "terms"),
    [
        (ContextNoise(0.2), whole(1.0, context=lambda _: 0.2)),
        (ContextNoise(0.4, ramp_frames=8), ages(lambda age: 0.4 * min(1, age / 8))),
        (ContextNoise(0.2, fresh=True), ages(lambda _: 0.2, draw=True)),
    ],
)
def test_context_noise_on_a_cache_equals_the_whole_sequence(
    noise: ContextNoise, terms: Terms
) -> None:
    guided = ours(Guidance(), context_noise=noise)
    torch.testing.assert_close(guided, reference(terms), **CLOSE)


def test_stabilising_is_context_noise_on_what_was_generated() -> None:
    noise = ours(Guidance(), context_noise=ContextNoise(0.05))
    assert torch.equal(ours(stabilise(Guidance(), 0.05)), noise)


def test_stabilising_leaves_given_frames_clean() -> None:
    seen: list[Tensor] = []
    model = model_with_hooks(MODEL, on_check=lambda: None)
    branches = Branches(CurrentSettings(of(stabilise(Guidance(), 0.3))), model)
    branches.claim()
    branches.use(branches.current.settings, 0)
    clean = randn(2, TINY.out_channels, 4, 6)
    with pytest.MonkeyPatch.context() as patch:
        genuine = dit.predict

        def spy(tree: object, x: Tensor, t: Tensor, *rest: object, **options: object) -> object:
            seen.extend((x, t))
            return genuine(tree, x, t, *rest, **options)  # type: ignore[arg-type]

        patch.setattr(dit, "predict", spy)
        branches.commit(0, clean, known=[True, False])
    x, t = seen
    assert t.tolist() == [[0.0, 300.0]]
    assert torch.equal(x[0, 0], clean[0])
    noise = frame_noise(5, range(1, 2), 0, "context", (TINY.out_channels, 4, 6))
    torch.testing.assert_close(x[0, 1], 0.7 * clean[1] + 0.3 * noise[0])


def test_recommitting_under_the_same_prompt_is_the_cache_there_was() -> None:
    s = {"prompts": timeline(0), "cache": FullHistory()}
    barely = ContextNoise(1e-9, ramp_frames=1)  # noise too small to matter, committed anew
    cached = ours(Guidance(), **s)
    torch.testing.assert_close(ours(Guidance(), **s, context_noise=barely), cached, **CLOSE)


def test_another_prompt_for_a_recommitted_history_changes_nothing_before_it() -> None:
    s = {"context_noise": ContextNoise(0.1, fresh=True)}
    one = ours(Guidance(), prompts=timeline(0), **s)
    two = ours(Guidance(), prompts=timeline(0, 6), **s)
    assert torch.equal(one[:6], two[:6])
    assert not torch.allclose(one[6:], two[6:])


def test_noisy_passes_leave_the_histories_as_they_are() -> None:
    """T5: denoising any number of times, then committing, is committing."""
    quiet, busy = (Branches(CurrentSettings(of(fractional(1.5, 0.6))), MODEL) for _ in range(2))
    row = next(of(Guidance()).noise_rows())
    for branches in (quiet, busy):
        branches.claim()
        for first in (0, 3, 6):
            branches.use(branches.current.settings, first)
            for _ in range(3 if branches is busy else 1):
                branches.velocity(randn(3, TINY.out_channels, 4, 6, seed=first), row)
            branches.commit(first, randn(3, TINY.out_channels, 4, 6, seed=50 + first))
    for one, other in zip(quiet.history.caches, busy.history.caches, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.history(1), other.history(1), strict=True))


def test_weights_may_change_while_it_runs_and_branches_may_not() -> None:
    weak, strong = of(vanilla(1.5)), of(vanilla(1.5).scale_by(3.0))
    made = joined(list(generate(weak, MODEL, settings_at=lambda f: strong if f >= 6 else weak)))
    assert torch.equal(made[:6], ours(vanilla(1.5))[:6])
    later = list(generate(of(vanilla(2.5)), MODEL, list(generate(weak, MODEL))[:2]))
    torch.testing.assert_close(made[6:], joined(later), **CLOSE)
    with pytest.raises(BadInput, match="other weights, not other branches"):
        list(generate(weak, MODEL, settings_at=lambda _: of(cfg(2.0))))


def test_noise_has_the_same_bits_whatever_prompt_is_on_its_way() -> None:
    """A run passed noise before the next prompt began to act; one that resumes passes it after."""
    chosen = settings(
        pyramid(flow_ladder(4, 1.0), 3), 6, prompts=timeline(0, 2, 6), guidance=vanilla(3.0),
        cache=WindowSink(2),
    )  # fmt: skip
    chunks = list(generate(chosen, MODEL))
    (resumed,) = generate(chosen, MODEL, chunks[:5])
    assert torch.equal(resumed.latents, chunks[5].latents)
