"""Law 6: schedules are matrices (T1 of the reference), and ladders have the published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import BadInput
from longtake.samplers.schedule import (
    CausalChunks,
    Ladder,
    Matrix,
    NoiseSchedule,
    few_step_ladder,
    flow_ladder,
    full_sequence,
    pyramid,
    shifted,
)
from longtake.tests.laws import examples

LADDER = flow_ladder(4, 3.0)
STEPS = 4


@pytest.mark.parametrize(
    ("timesteps", "published"),
    [
        ((1000, 750, 500, 250), (1000, 937.5, 833.333, 625, 0)),
        ((1000, 800, 600, 400, 200), (1000, 952.381, 882.353, 769.231, 555.556, 0)),
    ],
)
def test_few_step_levels_are_the_published_ones(
    timesteps: tuple[float, ...], published: tuple[float, ...]
) -> None:
    levels = few_step_ladder(timesteps, 5)
    assert [1000 * level for level in levels] == pytest.approx(published, abs=1e-3)


def test_levels_equal_diffusers_flow_match_scheduler() -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0)
    assert list(flow_ladder(1000, 5.0)[:1000]) == pytest.approx(
        theirs.sigmas[:1000].tolist(), abs=2e-7
    )


@examples(100)
@given(steps=st.integers(1, 100), shift=st.floats(1e-3, 1e3))
def test_any_shift_gives_a_ladder_that_schedules_accept(steps: int, shift: float) -> None:
    ladder = flow_ladder(steps, shift)
    assert CausalChunks(ladder).ladder == ladder
    assert (ladder[0], ladder[-1], len(ladder)) == (1.0, 0.0, steps + 1)


@examples(100)
@given(sigma=st.floats(0, 1), shift=st.floats(0.01, 100))
def test_shift_is_the_published_formula_and_can_be_undone(sigma: float, shift: float) -> None:
    assert shifted(sigma, shift) == pytest.approx(shift * sigma / (1 + (shift - 1) * sigma))
    assert shifted(shifted(sigma, shift), 1 / shift) == pytest.approx(sigma)


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan"), float("inf")])
def test_a_shift_that_is_no_positive_number_is_refused(shift: float) -> None:
    with pytest.raises(BadInput, match="shift must be a positive number"):
        flow_ladder(4, shift)


@pytest.mark.parametrize(
    "ladder", [(), (1.0,), (1.0, 0.5), (0.9, 0.0), (1.0, 0.5, 0.5, 0.0), (1.0, float("nan"), 0.0)]
)
def test_a_ladder_that_does_not_fall_from_1_to_0_is_refused(ladder: Ladder) -> None:
    with pytest.raises(BadInput, match="noise levels must fall"):
        CausalChunks(ladder)


def test_no_steps_and_chunks_of_other_sizes_are_refused() -> None:
    with pytest.raises(BadInput, match="steps must be at least 1"):
        flow_ladder(0, 1.0)
    for frames in (0, 9):
        with pytest.raises(BadInput, match="chunk_frames must be from 1 to 8"):
            CausalChunks(LADDER, frames)


@examples(60)
@given(frames=st.integers(1, 12), uncertainty=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 4.0, 6.0]))
def test_a_pyramid_is_the_published_matrix(frames: int, uncertainty: float) -> None:
    matrix = pyramid(LADDER, frames, uncertainty).indices
    assert len(matrix) == STEPS + int((frames - 1) * uncertainty) + 1
    for m, row in enumerate(matrix):
        for t, index in enumerate(row):
            assert index == max(0, min(STEPS, STEPS + int(t * uncertainty) - m))
    assert set(matrix[0]) == {STEPS}
    assert set(matrix[-1]) == {0}
    for column in zip(*matrix, strict=True):
        assert set(column) == set(range(STEPS + 1))  # every level is visited
        assert all(0 <= a - b <= 1 for a, b in zip(column, column[1:], strict=False))


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """Any order in which any frames take their steps."""
    steps, frames = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    row, rows = [steps] * frames, [(steps,) * frames]
    while any(row):
        moved = draw(st.sets(st.sampled_from([t for t in range(frames) if row[t]]), min_size=1))
        row = [left - (t in moved) for t, left in enumerate(row)]
        rows.append(tuple(row))
    return Matrix(flow_ladder(steps, 2.0), tuple(rows))


@examples(80)
@given(
    schedule=matrices() | st.builds(pyramid, st.just(LADDER), st.integers(1, 9), st.floats(0, 5))
)
def test_rows_hand_every_frame_down_the_whole_ladder(schedule: Matrix) -> None:
    """Consecutive rows fit: a frame's level now is where it was left, and it leaves only clean."""
    frames = len(schedule.indices[0])
    level, visited = dict.fromkeys(range(frames), 1.0), {t: [1.0] for t in range(frames)}
    active: set[int] = set()
    done = 0
    for row in schedule.rows(0, frames):
        part = range(row.first, row.first + len(row.now))
        assert row.first == done
        assert active <= set(part)  # no frame is dropped half-way
        for t, now, after, step in zip(part, row.now, row.after, row.steps, strict=True):
            assert now == level[t] == schedule.ladder[step]
            if after != now:
                level[t] = after
                visited[t].append(after)
        done += row.finished
        active = {t for t in part if t >= done}
    assert done == frames
    assert all(tuple(levels) == schedule.ladder for levels in visited.values())


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_autoregressive_is_the_pyramid_of_full_uncertainty(frames: int) -> None:
    assert list(CausalChunks(LADDER, 1).rows(0, frames)) == list(
        pyramid(LADDER, frames, STEPS).rows(0, frames)
    )


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_full_sequence_is_one_chunk_of_everything(frames: int) -> None:
    whole = full_sequence(LADDER, frames)
    assert list(whole.rows(0, frames)) == list(CausalChunks(LADDER, frames).rows(0, frames))
    assert whole.indices == pyramid(LADDER, frames, 0.0).indices
    assert whole.active_frames == frames


def test_chunks_cover_the_length_and_the_last_may_be_shorter() -> None:
    rows = [row for row in CausalChunks(LADDER, 3).rows(0, 7) if row.finished]
    assert [(row.first, row.finished) for row in rows] == [(0, 3), (3, 3), (6, 1)]


def test_rows_without_a_length_never_end() -> None:
    rows = CausalChunks(LADDER, 3).rows(0, None)
    assert [next(rows).first for _ in range(4 * STEPS)][-1] == 9


@examples(60)
@given(schedule=matrices(), first=st.integers(0, 4))
def test_rows_from_where_one_can_start_end_all_rows(schedule: Matrix, first: int) -> None:
    frames = len(schedule.indices[0])
    if first > frames or not schedule.can_start(first):
        return
    rows = list(schedule.rows(0, frames))
    assert list(schedule.rows(first, frames)) == [row for row in rows if row.first >= first]
    assert schedule.can_start(0)
    assert schedule.can_start(frames)


def test_overlapping_frames_cannot_be_started_between() -> None:
    overlapping = pyramid(LADDER, 4, 1.0)
    assert [t for t in range(5) if overlapping.can_start(t)] == [0, 4]
    assert all(pyramid(LADDER, 4, STEPS).can_start(t) for t in range(5))


@pytest.mark.parametrize(
    "indices",
    [
        ((2, 2), (1, 1), (0, 1)),  # a frame stays noisy
        ((2, 2), (0, 1), (0, 0)),  # two steps in a row
        ((2, 2), (1, 1), (1, 2), (0, 1), (0, 0)),  # back to more noise
        ((2, 1), (1, 0), (0, 0)),  # the last frame does not start from noise
    ],
)
def test_a_matrix_that_cannot_be_run_is_refused(indices: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="a noise-level matrix|a latent frame takes"):
        Matrix(flow_ladder(2, 1.0), indices)


def test_a_matrix_runs_only_at_its_own_length() -> None:
    schedule: NoiseSchedule = pyramid(LADDER, 4)
    with pytest.raises(BadInput, match="made for 4 latent frames; got a length of 5"):
        list(schedule.rows(0, 5))
