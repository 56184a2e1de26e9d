"""The loop's laws: one loop for every schedule (6), guidance (5), replay (9), full window (4)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.attention.layout import HistoryAttention
from longtake.attention.views import PartialHistory
from longtake.errors import BadInput, NotFinite
from longtake.model import dit
from longtake.model.dit import Prediction, TextKV, predict, project_text
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.history.plan import cache_plans, planned_bytes
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.noise import frame_noise
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    NoiseSchedule,
    asynchronous,
    causal_chunks,
    full_sequence,
    pipeline,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.samplers.settings import RolloutSettings
from longtake.samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from longtake.samplers.solvers.single_step import DDIM, Euler, ReNoise, Solver
from longtake.tests.support.laws import examples
from longtake.tests.support.model_hosts import model_with_claims, model_with_hooks
from longtake.tests.support.samplers.matrix_schedule import MatrixSchedule, matrices
from longtake.tests.support.tiny_model import (
    TINY,
    randn,
    random_dit,
    settings,
    timeline,
)

LADDER = flow_ladder(2, 3.0)
MODEL = local_denoiser(random_dit(), TINY)
WINDOW, GUIDANCE = WindowSink(4, 1), cfg(2.0)


SCHEDULES: dict[str, NoiseSchedule] = {
    "frames": causal_chunks(LADDER, 1),
    "chunks": causal_chunks(LADDER, 3),
    "longer first chunk": causal_chunks(LADDER, 3, flow_ladder(3, 1.0)),
    "autoregressive": pyramid(LADDER, 2.0),
    "pyramid": pyramid(LADDER, 1.0),
    "half pyramid": pyramid(LADDER, 0.5),
    "trapezoid": trapezoid(LADDER, 1.0),
    "full sequence": full_sequence(LADDER),
    "asynchronous": asynchronous(LADDER, 2, 1),
    "rolling": rolling(flow_ladder(3, 3.0), 2),
    "pipeline": pipeline(flow_ladder(4, 3.0), 2, 2),
}
SOLVERS: list[Solver] = [Euler(), ReNoise(), UniPC2(), DPMSolverPP2M(), DDIM(eta=1.0)]


def made(given_settings: RolloutSettings, model: Denoiser = MODEL) -> list[Chunk]:
    """All chunks."""
    return list(generate(given_settings, model))


def joined(chunks: list[Chunk]) -> Tensor:
    """All latent frames (f, c, h, w)."""
    return torch.cat([chunk.latents for chunk in chunks])


def assert_same_bits(ours: list[Chunk], expected: list[Chunk]) -> None:
    """The same chunks with the same latents."""
    for a, b in zip(ours, expected, strict=True):
        assert (a.index, a.first_frame, a.prompt) == (b.index, b.first_frame, b.prompt)
        assert torch.equal(a.latents, b.latents)


def committed_frames(attention: HistoryAttention | PartialHistory) -> int:
    """How many latent frames are finished, by the history that the attention reads."""
    if isinstance(attention, PartialHistory):
        return attention.cache.committed
    return 1 + max(attention.history.frames(0), default=-1)


class PerfectModel:
    """Takes `predict`'s place and knows the clean latents of every frame."""

    def __init__(self, frames: int) -> None:
        self.clean = randn(frames, TINY.in_channels, 4, 6, seed=77)

    def __call__(
        self, tree: Any, x: Tensor, t: Tensor, text: TextKV, attention: HistoryAttention, *_: Any
    ) -> Prediction:
        first = committed_frames(attention)
        level = (t / 1000).float()[..., None, None, None]
        target = self.clean[first : first + x.shape[1]]
        v = torch.where(level > 0, (x - target) / level.clamp(min=1e-9), 0)
        kv = torch.zeros(len(x), x.shape[1] * 6, TINY.num_heads, TINY.head_dim)
        return Prediction(v, ((kv, kv),) * TINY.num_layers)


@pytest.fixture
def perfect(monkeypatch: pytest.MonkeyPatch) -> PerfectModel:
    """A loop whose model is never wrong."""
    model = PerfectModel(7)
    monkeypatch.setattr(dit, "predict", model)
    return model


@pytest.mark.parametrize(
    ("name", "solver"),
    [*((name, Euler()) for name in SCHEDULES), *(("rolling", solver) for solver in SOLVERS[1:])],
)
def test_a_perfect_model_gives_the_clean_latents_on_every_schedule(
    perfect: PerfectModel, name: str, solver: Solver
) -> None:
    ours = joined(made(settings(SCHEDULES[name], solver=solver, guidance=GUIDANCE)))
    torch.testing.assert_close(ours, perfect.clean, rtol=1e-4, atol=1e-4)


@examples(25)
@given(schedule=matrices())
def test_a_perfect_model_gives_the_clean_latents_on_any_matrix(schedule: MatrixSchedule) -> None:
    frames = len(schedule.indices[0])
    model = PerfectModel(frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dit, "predict", model)
        ours = joined(made(settings(schedule, frames, prompts=timeline(0))))
    torch.testing.assert_close(ours, model.clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["autoregressive", "full sequence"])
def test_schedules_with_the_same_rows_give_the_same_video(name: str) -> None:
    """Under one prompt: chunks of other sizes change theirs at other times."""
    causal = causal_chunks(LADDER, {"autoregressive": 1, "full sequence": 7}[name])
    ours, theirs = (
        made(settings(schedule, cache=WINDOW, prompts=timeline(0)))
        for schedule in (SCHEDULES[name], causal)
    )
    assert_same_bits(ours, theirs)


@pytest.mark.some_cases(3)
@pytest.mark.parametrize(
    ("name", "solver"),
    [*((name, ReNoise()) for name in SCHEDULES), ("rolling", UniPC2()), ("chunks", UniPC2()),
     ("rolling", DPMSolverPP2M()), ("pipeline", DDIM(eta=1.0))],
)  # fmt: skip
def test_replay_continues_bit_for_bit_from_every_chunk(name: str, solver: Solver) -> None:
    """Also with several chunks in flight, and whatever the solver remembers of them."""
    noise = ContextNoise(0.1)
    s = settings(
        SCHEDULES[name], cache=WINDOW, guidance=GUIDANCE, solver=solver, context_noise=noise
    )
    whole = made(s)
    for finished in range(len(whole) + 1):
        assert_same_bits(list(generate(s, MODEL, iter(whole[:finished]))), whole[finished:])


@examples(6)
@given(schedule=matrices(), finished=st.integers(0, 4))
def test_replay_continues_bit_for_bit_on_any_matrix(
    schedule: MatrixSchedule, finished: int
) -> None:
    s = settings(schedule, len(schedule.indices[0]), prompts=timeline(0))
    whole = made(s)
    assert_same_bits(list(generate(s, MODEL, whole[:finished])), whole[finished:])


def test_a_chunk_brings_what_is_in_flight_and_no_more() -> None:
    """The latents and the solver's memory of the frames after it; nothing where none is active."""
    flying = made(settings(SCHEDULES["rolling"], solver=DPMSolverPP2M()))
    assert [[len(part) for part in chunk.in_flight] for chunk in flying] == [
        [4, 4, 4, 4], [3, 3, 3, 3], [1, 1, 1, 1], []
    ]  # fmt: skip
    assert not any(chunk.in_flight for chunk in made(settings(SCHEDULES["chunks"])))


def test_going_on_without_what_was_in_flight_is_refused() -> None:
    s = settings(SCHEDULES["rolling"])
    bare = dataclasses.replace(made(s)[0], in_flight=())
    with pytest.raises(ValueError, match="latent frame 2 is in the middle of its steps"):
        next(generate(s, MODEL, [bare]))


@pytest.mark.parametrize("name", ["rolling", "pipeline", "asynchronous", "pyramid"])
def test_schedules_with_chunks_in_flight_stream_for_ever(name: str) -> None:
    schedule = SCHEDULES[name]
    most = schedule.active_frames(None)
    endless = generate(settings(schedule, None, cache=WINDOW), MODEL)
    first = list(itertools.islice(endless, 3))
    longer = made(settings(schedule, first[-1].first_frame + most + 4, cache=WINDOW))
    assert_same_bits(first, longer[:3])


def test_an_interrupt_loses_only_the_chunk_in_work() -> None:
    s, whole, evals = settings(cache=WINDOW), made(settings(cache=WINDOW)), itertools.count()

    def interrupt() -> None:
        if next(evals) == 7:
            raise KeyboardInterrupt

    kept: list[Chunk] = []
    with pytest.raises(KeyboardInterrupt):
        for chunk in generate(s, model_with_hooks(MODEL, on_check=interrupt)):
            kept.append(chunk)
    assert_same_bits(kept, whole[:2])
    assert_same_bits(list(generate(s, MODEL, kept)), whole[2:])


def test_a_longer_or_endless_rollout_begins_with_the_shorter_one() -> None:
    short = made(settings(length=6, cache=WINDOW))
    assert_same_bits(made(settings(length=9, cache=WINDOW))[:2], short)
    endless = generate(settings(length=None, cache=WINDOW), MODEL)
    assert_same_bits(list(itertools.islice(endless, 2)), short)


def test_a_full_window_is_full_history_bit_for_bit() -> None:
    assert_same_bits(made(settings(cache=WindowSink(7))), made(settings(cache=FullHistory())))
    short = made(settings(cache=WindowSink(3)))
    assert not torch.equal(joined(short)[6:], joined(made(settings(cache=FullHistory())))[6:])


def test_rotated_keys_may_be_held_or_made_anew() -> None:
    assert_same_bits(made(settings(hold_rotated=False)), made(settings(hold_rotated=True)))


@pytest.mark.parametrize(("scale", "count"), [(1.0, 1), (0.0, 1), (2.0, 2)])
def test_each_branch_costs_its_evaluations_and_no_more(scale: float, count: int) -> None:
    passes: list[None] = []
    model = model_with_hooks(MODEL, on_check=lambda: passes.append(None))
    chunks = made(settings(guidance=cfg(scale)), model)
    # Two steps a chunk, then the commit of the one before; the last chunk is never committed.
    assert [chunk.model_evals for chunk in chunks] == [2 * count, 3 * count, 3 * count]
    assert len(passes) == 8  # branches share a pass


def test_scale_one_is_no_guidance_bit_for_bit() -> None:
    assert_same_bits(made(settings(guidance=cfg(1.0))), made(settings()))


def test_equal_branches_are_one_branch() -> None:
    prompts = dataclasses.replace(timeline(0), negative=timeline(0).at(0).embedding)
    guided = joined(made(settings(prompts=prompts, guidance=cfg(3.0))))
    plain = joined(made(settings(prompts=prompts)))
    torch.testing.assert_close(guided, plain, rtol=1e-3, atol=1e-4)


def test_a_new_prompt_changes_nothing_before_its_chunk() -> None:
    one, two = made(settings(prompts=timeline(0))), made(settings(prompts=timeline(0, 3)))
    assert torch.equal(one[0].latents, two[0].latents)
    assert not torch.allclose(one[1].latents, two[1].latents)
    assert [chunk.prompt for chunk in two] == ["prompt 0", "prompt 3", "prompt 3"]


def test_a_live_edit_equals_the_same_edit_in_the_timeline() -> None:
    before = settings(prompts=timeline(0), length=9, guidance=GUIDANCE)
    after = dataclasses.replace(before, prompts=timeline(0, 3))

    def settings_at(first: int) -> RolloutSettings:
        return after if first >= 3 else before

    planned = made(after)
    assert_same_bits(list(generate(before, MODEL, settings_at=settings_at)), planned)
    assert_same_bits(list(generate(before, MODEL, planned[:2], settings_at)), planned[2:])


def test_a_prompt_is_projected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    projected: list[Tensor] = []

    def spy(tree: Any, context: Tensor, picture: Tensor | None) -> TextKV:
        projected.append(context)
        return project_text(tree, context, picture)

    monkeypatch.setattr(dit, "project_text", spy)
    made(settings(length=12, prompts=timeline(0, 6), guidance=GUIDANCE))
    assert [tuple(context.shape) for context in projected] == [(2, 1, 5, TINY.text_dim)] * 2


def test_the_model_is_claimed_once_a_chunk_first_with_the_planned_bytes() -> None:
    claimed: list[int] = []
    s = settings(cache=WINDOW, guidance=GUIDANCE)
    made(s, model_with_claims(random_dit(), TINY, claimed.append))
    (plan,) = cache_plans(s, TINY, torch.float32)
    assert claimed == [planned_bytes(s, TINY, torch.float32), 0, 0]
    assert claimed[0] == KVCache(plan.shape, plan.policy, 7).bytes


def test_context_noise_is_told_to_the_model_and_really_there(
    perfect: PerfectModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[tuple[Tensor, Tensor]] = []

    def spy(*arguments: Any) -> Prediction:
        if arguments[5].keep:
            commits.append(arguments[1:3])
        return perfect(*arguments)

    monkeypatch.setattr(dit, "predict", spy)
    made(settings(context_noise=ContextNoise(0.25)))
    x, t = commits[1]  # frames 3 to 5
    assert torch.equal(t, torch.full((1, 3), 250.0, dtype=torch.float64))
    noise = frame_noise(5, range(3, 6), 0, "context", (TINY.in_channels, 4, 6))
    expected = 0.75 * perfect.clean[3:6] + 0.25 * noise
    torch.testing.assert_close(x[0], expected, rtol=1e-4, atol=1e-4)


def poisoned(first: int) -> Callable[..., Prediction]:
    """`predict`, giving NaN for chunks that begin at or after latent frame `first`."""

    def failing(*arguments: Any) -> Prediction:
        prediction = predict(*arguments)
        if committed_frames(arguments[4]) >= first:
            prediction.velocity[..., 0, 0] = float("nan")
        return prediction

    return failing


def test_values_that_are_not_finite_stop_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, commits = made(settings()), itertools.count()
    genuine = KVCache.commit

    def commit(self: KVCache, *given: Any) -> None:
        next(commits)
        genuine(self, *given)

    monkeypatch.setattr(KVCache, "commit", commit)
    monkeypatch.setattr(dit, "predict", poisoned(3))
    kept: list[Chunk] = []
    with pytest.raises(NotFinite, match=r"latent frame 3, .* its output, in torch.float32"):
        for chunk in generate(settings(), MODEL):
            kept.append(chunk)
    assert_same_bits(kept, whole[:1])
    assert next(commits) == 1


def test_the_first_layer_that_is_not_finite_is_named() -> None:
    dit = random_dit()
    dict(dit.named_parameters())["blocks.0.ffn.2.bias"].fill_(float("inf"))
    with pytest.raises(NotFinite, match="first seen in layer 1, in torch.float32"):
        made(settings(), local_denoiser(dit, TINY))


def test_latents_are_float32_and_cover_the_length() -> None:
    chunks = made(settings())
    spans = [(chunk.index, chunk.first_frame, len(chunk.latents)) for chunk in chunks]
    assert spans == [(0, 0, 3), (1, 3, 3), (2, 6, 1)]
    assert {(c.latents.dtype, c.latents.shape[1:]) for c in chunks} == {(torch.float32, (4, 4, 6))}


def test_no_gradients_are_kept_even_if_weights_ask_for_them() -> None:
    model = local_denoiser(random_dit().requires_grad_(True), TINY)
    assert not any(chunk.latents.requires_grad for chunk in made(settings(), model))


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 3}, {"columns": 0}, {"rows": -2}, {"length": 0},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_run_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="got"):
        settings(**changes)
