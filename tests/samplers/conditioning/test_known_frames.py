"""Laws of known frames: given frames never change, whatever is around them; noise is the mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.errors import BadInput
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames, from_latents, merge
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Guidance, cfg, fractional, stabilise
from longtake.samplers.history.rollout_history import RolloutHistory
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.planning.cost import cost
from longtake.samplers.planning.memory import rollout_memory
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    StaggeredSchedule,
    causal_chunks,
    full_sequence,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.samplers.settings import RolloutSettings
from longtake.samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from longtake.samplers.solvers.single_step import DDIM, ReNoise, Solver
from longtake.stream.journal.chain import Chain
from longtake.tests.support.laws import examples
from longtake.tests.support.samplers.matrix_schedule import MatrixSchedule, matrices
from longtake.tests.support.samplers.whole_sequence import DIT, LADDER, LENGTH, brute_force
from longtake.tests.support.tiny_model import CHUNKS, TINY, randn, settings, timeline

MODEL = local_denoiser(DIT, TINY)
CLIP = randn(LENGTH, TINY.out_channels, 4, 6, seed=9)
LADDERS = flow_ladder(3, 2.0)
SOLVERS: list[Solver] = [ReNoise(), DDIM(eta=1.0), DPMSolverPP2M(), UniPC2()]


def known(levels: dict[int, float], ahead: int = 0) -> KnownFrames:
    """Frames of the clip, over and over, at their own places, each at its level."""
    frames = (KnownFrame(f, CLIP[f % LENGTH], level, ahead) for f, level in levels.items())
    return KnownFrames(tuple(frames))


def shot(
    levels: dict[int, float], schedule: object = CHUNKS, ahead: int = 0, **changes: object
) -> RolloutSettings:
    chosen = {"length": LENGTH, "prompts": timeline(0), "cache": FullHistory(), **changes}
    return settings(schedule, known_frames=known(levels, ahead), **chosen)


def made(of: RolloutSettings) -> Tensor:
    return torch.cat([chunk.latents for chunk in generate(of, MODEL)])


@pytest.mark.each_value
@pytest.mark.parametrize(
    ("chunk", "lag", "mirrored", "within"),
    [(3, 3, False, "bidirectional"), (1, 1, False, "block-causal"),
     (2, 1, False, "block-causal"), (3, 0, False, "bidirectional"), (1, 1, True, "bidirectional")],
)  # fmt: skip
@pytest.mark.parametrize("ahead", [0, 2, LENGTH])
@pytest.mark.parametrize(
    "levels",
    [{0: 0.0}, {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0}, {2: 0.0, 5: 0.0}, {6: 0.0, 0: 0.0},
     {0: 0.0, 1: 0.4, 3: 0.8, 6: 0.3}, dict.fromkeys(range(LENGTH), 0.6)],
    ids=str,
)  # fmt: skip
def test_known_frames_are_seen_at_their_levels_as_in_one_whole_sequence(  # noqa: PLR0913
    levels: dict[int, float], ahead: int, chunk: int, lag: float, mirrored: bool, within: str
) -> None:
    schedule = StaggeredSchedule(LADDER, chunk, lag, mirrored=mirrored, visibility=within)
    of = shot(levels, schedule, ahead)
    chunks = -(-(LENGTH - of.origin) // chunk)
    starts = [int(min(i, chunks - 1 - i) * lag if mirrored else i * lag) for i in range(chunks)]
    given = {f: (CLIP[f], level) for f, level in levels.items()}
    expected = brute_force(
        starts, chunk, causal=within == "block-causal", origin=of.origin, known=given, ahead=ahead
    )
    atol = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(made(of), expected, rtol=0, atol=atol)


@pytest.mark.each_value
@pytest.mark.parametrize("prompts", [(0, 2, 3), (0, 5), (0, 1, 4)], ids=str)
@pytest.mark.parametrize(
    ("chunk", "lag", "within"),
    [(3, 3, "bidirectional"), (1, 1, "block-causal"), (2, 1, "bidirectional"),
     (2, 0, "block-causal")],
)  # fmt: skip
def test_every_chunk_in_flight_has_its_own_prompt_and_so_has_what_is_ahead(
    prompts: tuple[int, ...], chunk: int, lag: float, within: str
) -> None:
    schedule = StaggeredSchedule(LADDER, chunk, lag, visibility=within)
    of = shot({0: 0.0, 6: 0.2}, schedule, 4, prompts=timeline(*prompts))
    starts = [int(i * lag) for i in range(-(-(LENGTH - 1) // chunk))]
    given = {0: (CLIP[0], 0.0), 6: (CLIP[6], 0.2)}
    expected = brute_force(
        starts, chunk, causal=within == "block-causal", origin=1, known=given, ahead=4,
        prompts=prompts,
    )  # fmt: skip
    atol = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(made(of), expected, rtol=0, atol=atol)
    again = list(generate(of, MODEL))
    for after in range(1, len(again)):
        rest = resumed(of, again, after)
        pairs = zip(rest, again[after:], strict=True)
        assert all(torch.equal(a.latents, b.latents) for a, b in pairs)


@pytest.mark.each_value
@pytest.mark.parametrize("reach", [(3, 2, 1), (2,), (1, 9)], ids=str)
@pytest.mark.parametrize(("chunk", "lag"), [(1, 1), (2, 1), (2, 3), (3, 2)])
def test_a_chunk_looks_back_as_far_as_its_part_of_the_steps_may(
    reach: tuple[int, ...], chunk: int, lag: float
) -> None:
    """MAGI-1's kv_range; also beside guidance branches that are passed together."""
    schedule = StaggeredSchedule(LADDER, chunk, lag, visibility="block-causal", reach=reach)
    of = shot({0: 0.0, 6: 0.2}, schedule, 4)
    starts = [int(i * lag) for i in range(-(-(LENGTH - 1) // chunk))]
    given = {0: (CLIP[0], 0.0), 6: (CLIP[6], 0.2)}
    expected = brute_force(starts, chunk, causal=True, origin=1, known=given, ahead=4, reach=reach)
    atol = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(made(of), expected, rtol=0, atol=atol)
    same = dataclasses.replace(of.prompts, negative=of.prompts.entries[0].embedding)
    guided = dataclasses.replace(of, guidance=cfg(2.0), prompts=same)
    torch.testing.assert_close(made(guided), expected, rtol=0, atol=10 * atol)


@examples(20)
@given(
    schedule=st.one_of(
        st.sampled_from([CHUNKS, rolling(LADDERS, 2), pyramid(LADDERS, 0.5), trapezoid(LADDERS)]),
        matrices(),
    ),
    solver=st.sampled_from(SOLVERS),
    kept=st.sets(st.integers(0, LENGTH - 1), min_size=1),
)
def test_frames_given_clean_never_change(
    schedule: StaggeredSchedule | MatrixSchedule, solver: Solver, kept: set[int]
) -> None:
    length = len(schedule.indices[0]) if isinstance(schedule, MatrixSchedule) else LENGTH
    levels = dict.fromkeys((f for f in kept if f < length), 0.0)
    if isinstance(schedule, MatrixSchedule):
        levels.pop(0, None)  # a matrix counts all frames: it has no origin
    out = made(shot(levels, schedule, solver=solver, length=length))
    assert len(out) == length and out.isfinite().all()
    assert all(torch.equal(out[f], CLIP[f]) for f in levels)


@pytest.mark.parametrize("schedule", [CHUNKS, rolling(LADDERS, 2), full_sequence(LADDERS)])
def test_where_everything_is_known_only_commits_are_evaluated(schedule: StaggeredSchedule) -> None:
    chunks = list(generate(shot(dict.fromkeys(range(LENGTH), 0.0), schedule), MODEL))
    assert (
        sum(chunk.model_evals for chunk in chunks) == len(chunks) - 1
    )  # the last is not committed
    assert torch.equal(torch.cat([chunk.latents for chunk in chunks]), CLIP)


@pytest.mark.parametrize("schedule", [CHUNKS, rolling(LADDERS, 2), full_sequence(LADDERS)])
def test_a_frame_known_at_pure_noise_is_not_known(schedule: StaggeredSchedule) -> None:
    unknown = shot(dict.fromkeys(range(LENGTH), 1.0), schedule, ahead=4)
    assert torch.equal(made(unknown), made(shot({}, schedule)))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda one: type(one).__name__)
def test_rows_above_all_levels_are_not_evaluated(solver: Solver) -> None:
    """Video to video starts where the ladder goes under the level."""
    levels = [level for level in LADDERS if level < 0.6]
    out = list(generate(shot(dict.fromkeys(range(3), 0.6), causal_chunks(LADDERS), length=3,
                             solver=solver), MODEL))  # fmt: skip
    assert out[0].model_evals == len(levels)


def test_the_lower_the_level_the_more_is_kept() -> None:
    def distance(level: float) -> float:
        out = made(shot(dict.fromkeys(range(LENGTH), level), causal_chunks(flow_ladder(8, 1.0))))
        return float((out - CLIP).square().mean())

    distances = [distance(level) for level in (0.0, 0.2, 0.5, 0.8)]
    assert distances == sorted(distances) and distances[0] == 0 < distances[1]


def test_a_picture_is_a_chunk_of_its_own_before_whole_chunks() -> None:
    chunks = list(generate(shot({0: 0.0}), MODEL))
    assert [chunk.first_frame for chunk in chunks] == [0, 1, 4]
    assert [len(chunk.latents) for chunk in chunks] == [1, 3, 3]
    assert chunks[0].model_evals == 0


def test_given_chunks_end_where_the_first_made_one_begins() -> None:
    chunks = list(generate(shot(dict.fromkeys(range(5), 0.0)), MODEL))
    assert [len(chunk.latents) for chunk in chunks] == [2, 3, 2]


def test_a_continued_video_goes_on_as_if_it_had_been_made_here() -> None:
    """Chunks given as known frames and the same chunks replayed are the same history."""
    whole = made(shot({}, length=9))
    known_now = from_latents(whole[:6])
    again = made(dataclasses.replace(shot({}, length=9), known_frames=known_now))
    assert torch.equal(again, whole)


def resumed(of: RolloutSettings, chunks: Sequence[Chunk], after: int) -> list[Chunk]:
    kept = [dataclasses.replace(chunk, model_evals=0) for chunk in chunks[:after]]
    return list(generate(of, MODEL, kept))


@pytest.mark.parametrize("solver", [ReNoise(), UniPC2()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("schedule", [CHUNKS, rolling(LADDERS, 2)], ids=["causal", "rolling"])
def test_interrupted_and_resumed_is_uninterrupted(
    schedule: StaggeredSchedule, solver: Solver
) -> None:
    of = shot(
        {0: 0.0, 3: 0.0, 5: 0.5}, schedule, solver=solver, cache=WindowSink(4, 1),
        guidance=fractional(1.5, 0.5), context_noise=ContextNoise(0.1),
    )  # fmt: skip
    chunks = list(generate(of, MODEL))
    for after in range(1, len(chunks)):
        rest = resumed(of, chunks, after)
        pairs = zip(rest, chunks[after:], strict=True)
        assert all(torch.equal(a.latents, b.latents) for a, b in pairs)


def test_only_generated_frames_are_stabilised(monkeypatch: pytest.MonkeyPatch) -> None:
    committed = list[tuple[int, bool]]()
    before = RolloutHistory.commit

    def commit(self: object, first: int, clean: Tensor, given: Sequence[bool]) -> None:
        committed.extend(enumerate(given, first))
        before(self, first, clean, given)  # type: ignore[arg-type]

    monkeypatch.setattr(RolloutHistory, "commit", commit)
    made(shot({0: 0.0, 2: 0.0, 3: 0.5}, guidance=stabilise(cfg(2.0), 0.05)))
    assert [frame for frame, is_given in committed if is_given] == [0, 2]


@pytest.mark.parametrize("given_frames", [1, 5, 6, 7])
def test_given_frames_change_no_estimate_but_for_what_is_not_made(given_frames: int) -> None:
    continued = shot(dict.fromkeys(range(given_frames), 0.0), length=12)
    plain = shot({}, length=12)
    assert cost(continued, TINY, torch.float32) == cost(plain, TINY, torch.float32)
    part, whole = (rollout_memory(one, TINY, torch.float32) for one in (continued, plain))
    assert part.kv_bytes == whole.kv_bytes
    # The last commit may come behind a frame or two more, when chunks are counted from another one.
    assert 0 < part.working_bytes <= 1.05 * whole.working_bytes


@pytest.mark.parametrize("guidance", [cfg(2.0), fractional(1.5, 0.5)], ids=["cfg", "fractional"])
def test_known_frames_ahead_are_in_the_plan(guidance: Guidance) -> None:
    """The most of them at once: 4, 5 and 6 are all seen from frame 4 on, one more than 2 ahead."""
    of = shot({2: 0.0, 4: 0.0, 5: 0.0, 6: 0.4}, ahead=2, length=12, guidance=guidance)
    assert of.known_frames.max_lookahead == 2 and of.pass_frames == 3 + 2
    assert shot({9: 1.0, 10: 0.0}, ahead=20, length=12).known_frames.max_lookahead == 1
    chunks = list(generate(of, MODEL))
    assert {c.kv_bytes for c in chunks} == {rollout_memory(of, TINY, torch.float32).kv_bytes}
    plain = shot({2: 0.0, 4: 0.0, 5: 0.0, 6: 0.4}, length=12, guidance=guidance)
    more, less = (rollout_memory(one, TINY, torch.float32) for one in (of, plain))
    assert more.working_bytes > less.working_bytes and more.kv_bytes > less.kv_bytes


@pytest.mark.parametrize("schedule", [CHUNKS, rolling(LADDERS, 2)], ids=["causal", "rolling"])
def test_what_is_ahead_names_the_chunks_that_see_it(schedule: StaggeredSchedule) -> None:
    """Keys differ from the first chunk on whose latents do."""
    seen, noisier, unseen = (
        keyed(shot({10: level}, schedule, ahead, length=12))
        for level, ahead in ((0.0, 4), (0.5, 4), (0.0, 0))
    )
    for other in (noisier, unseen):
        same = [torch.equal(a, b) for (_, a), (_, b) in zip(seen, other, strict=True)]
        assert [a == b for (a, _), (b, _) in zip(seen, other, strict=True)] == same
        assert same == sorted(same, reverse=True) and same[0] and not same[-1]


@pytest.mark.parametrize(
    ("schedule", "change"), [(CHUNKS, 9), (rolling(LADDERS, 2), 8)], ids=["causal", "rolling"]
)
def test_a_later_prompt_names_the_chunks_beside_which_its_own_is_made(
    schedule: StaggeredSchedule, change: int
) -> None:
    one, two = (
        keyed(shot({}, schedule, length=12, prompts=timeline(*starts)))
        for starts in ((0,), (0, change))
    )
    same = [torch.equal(a, b) for (_, a), (_, b) in zip(one, two, strict=True)]
    assert [a == b for (a, _), (b, _) in zip(one, two, strict=True)] == same
    assert same == sorted(same, reverse=True) and same[0] and not same[-1]


def keyed(of: RolloutSettings) -> list[tuple[str, Tensor]]:
    """Every chunk's key and latents."""
    chain = Chain(of, "model")
    return [(chain.key(chunk.index), chunk.latents) for chunk in generate(of, MODEL)]


def test_a_shot_that_is_all_known_is_estimated_too() -> None:
    given_whole = shot(dict.fromkeys(range(LENGTH), 0.0))
    assert cost(given_whole, TINY, torch.float32).steps == 0
    assert rollout_memory(given_whole, TINY, torch.float32).working_bytes > 0


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: from_latents(CLIP[:, :, :2]), "known frames are 48x16 pixels and the shot is"),
        (lambda: from_latents(CLIP, 1), "latent frame 7 and the shot has 7"),
        (lambda: from_latents(CLIP, -1), "at latent frame 0 or later; got -1"),
        (lambda: from_latents(CLIP[:2], 6, spacing=2), "latent frame 8"),
        (lambda: from_latents(CLIP, spacing=0), "1 or more latent frames apart; got 0"),
        (lambda: from_latents(CLIP, level=1.5), "from 0 to 1; got 1.5"),
        (lambda: from_latents(CLIP, level=float("nan")), "from 0 to 1; got nan"),
        (lambda: from_latents(CLIP / 0), "not finite"),
        (lambda: from_latents(CLIP, lookahead=-1), "0 or more latent frames ahead; got -1"),
        (
            lambda: merge([from_latents(CLIP[:3]), from_latents(CLIP[:1], 2)]),
            "fall on latent frame 2",
        ),
        (lambda: merge([from_latents(CLIP[:1]), from_latents(CLIP[:1, :, :, :2], 2)]), "different"),
    ],
)
def test_known_frames_that_do_not_fit_are_refused_in_one_sentence(build: object, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refusal:
        settings(CHUNKS, LENGTH, known_frames=build())  # type: ignore[operator]
    assert str(refusal.value).count(". ") == 0
