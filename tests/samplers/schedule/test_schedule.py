"""Law 6: schedules are matrices. Each is compared with the published construction, written again
here from the papers (tests T1 and T12 of the reference).
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import BadInput
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    NoiseSchedule,
    StaggeredSchedule,
    asynchronous,
    causal_chunks,
    full_sequence,
    pipeline,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.tests.support.laws import examples
from longtake.tests.support.samplers.matrix_schedule import (
    Indices,
    MatrixSchedule,
    matrices,
    matrix_of,
)

LADDER = flow_ladder(4, 3.0)
STEPS = 4
UNCERTAINTIES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.7, 4.0, 6.0]


def without_idle(rows: list[tuple[int, ...]]) -> Indices:
    """The published matrix without rows in which no frame moves: the model is not called there."""
    return tuple(row for row, _ in itertools.groupby(rows))


@examples(60)
@given(frames=st.integers(1, 12), u=st.sampled_from(UNCERTAINTIES))
def test_a_pyramid_is_the_published_matrix(frames: int, u: float) -> None:
    """Diffusion Forcing: K[m, t] = clip(S + int(t u) - m, 0, S), S + int((H - 1) u) + 1 rows."""
    rows = [
        tuple(max(0, min(STEPS, STEPS + int(t * u) - m)) for t in range(frames))
        for m in range(STEPS + int((frames - 1) * u) + 1)
    ]
    assert matrix_of(pyramid(LADDER, u), frames, STEPS) == without_idle(rows)


@examples(60)
@given(frames=st.integers(1, 12), u=st.sampled_from(UNCERTAINTIES))
def test_a_trapezoid_is_the_published_matrix_with_its_indexing_mended(
    frames: int, u: float
) -> None:
    """Published: column t of the left half also fills column -t (so the middle of an even length
    is never filled), and one row is missing. Ours: column -1 - t, and rows until all are clean.
    """
    rows = []
    for m in itertools.count():
        row = [STEPS] * frames
        for t in range((frames + 1) // 2):
            row[t] = row[-1 - t] = max(0, min(STEPS, STEPS + int(t * u) - m))
        rows.append(tuple(row))
        if not any(row):
            break
    made = matrix_of(trapezoid(LADDER, u), frames, STEPS)
    assert made == without_idle(rows)
    assert all(row == row[::-1] for row in made)


def skyreels(frames: int, steps: int, base: int, ar_step: int, ready: int, block: int) -> Indices:
    """SkyReels-V2 `generate_timestep_matrix`, as how many steps are left before each row; index k
    there means: evaluated at the k-th timestep in this row.
    """
    blocks = frames // block
    if base // block < blocks:
        assert ar_step >= steps / (base // block)
    index = [steps + 1 if i < ready // block else 0 for i in range(blocks)]
    rows = []
    while not all(i >= steps for i in index):
        new: list[int] = []
        for i in range(blocks):
            free = i == 0 or index[i - 1] >= steps
            new.append(index[i] + 1 if free else new[i - 1] - ar_step)
        index = [min(max(i, 0), steps + 1) for i in new]
        rows.append(index)
    left = [[steps] * blocks, *([steps - min(i, steps) for i in row] for row in rows)]
    left[0] = [0 if i < ready // block else steps for i in range(blocks)]
    return tuple(tuple(n for n in row for _ in range(block)) for row in left)


@pytest.mark.parametrize(
    ("frames", "ar_step", "block", "ready", "base", "rows"),
    [
        (25, 0, 1, 0, 25, 30),
        (25, 5, 5, 0, 25, 50),
        (25, 5, 5, 5, 25, 45),
        (40, 8, 5, 0, 20, 86),
        (9, 40, 3, 0, 9, 90),
        (25, 5, 5, 25, 25, 0),
    ],
)
def test_the_asynchronous_matrix_is_skyreels(
    frames: int, ar_step: int, block: int, ready: int, base: int, rows: int
) -> None:
    """Its row counts are those of the reference; without an offset it is the full sequence."""
    ladder = flow_ladder(30, 8.0)
    schedule = asynchronous(ladder, block, ar_step)
    made = matrix_of(schedule, frames, 30, origin=ready)
    assert made == skyreels(frames, 30, base, ar_step, ready, block)
    assert len(made) - 1 == rows


def test_rolling_forcing_is_its_published_loop() -> None:
    """W = steps; window w holds blocks max(0, w - W + 1) to min(w, last), each one level lower than
    the next; at the head the last entries of the list are used, at the tail the first.
    """
    blocks, size = 6, 2
    expected = []
    for w in range(blocks + STEPS - 1):
        start, end = max(0, w - STEPS + 1), min(blocks - 1, w)
        levels = LADDER[:-1][::-1]  # clean to noisy along time
        count = end - start + 1
        used = levels[-count:] if start == 0 else levels[:count]
        if start == 0 and end == blocks - 1:  # shorter than a window: neither rule alone
            used = levels[STEPS - 1 - w + start :][:count]
        expected.append((start * size, tuple(s for s in used for _ in range(size))))
    rows = list(rolling(LADDER, size).rows(0, blocks * size))
    assert [(row.first, row.now) for row in rows] == expected
    assert all(row.after == tuple(LADDER[LADDER.index(s) + 1] for s in row.now) for row in rows)
    assert all(len(set(rolling(LADDER, size).visible(row.frames))) == 1 for row in rows)


def test_the_pipeline_is_magi_one_chunk_per_stage() -> None:
    """MAGI-1 `generate_sequences`: stage i holds chunks max(0, i - W + 1) to min(n, i + 1), the
    oldest in the last part of the steps; each stage takes steps / W steps; 16 (n + W - 1) calls.
    """
    steps, window, size, chunks = 64, 4, 6, 7
    ladder = flow_ladder(steps, 3.0)
    stage_steps = steps // window
    expected = []
    for stage in range(chunks + window - 1):
        begin, end = max(0, stage - window + 1), min(chunks, stage + 1)
        for i in range(stage_steps):
            slots = [(stage - chunk) * stage_steps + i for chunk in range(begin, end)]
            expected.append((begin * size, tuple(s for s in slots for _ in range(size))))
    rows = list(pipeline(ladder, size, window).rows(0, chunks * size))
    assert [(row.first, row.steps) for row in rows] == expected
    assert len(rows) == stage_steps * (chunks + window - 1)


@st.composite
def staggered(draw: st.DrawFn) -> StaggeredSchedule:
    """Any schedule of the one kind that there is."""
    ladders = st.builds(flow_ladder, st.integers(1, 5), st.just(2.0))
    ladder, size = draw(ladders), draw(st.integers(1, 4))
    lag = draw(st.floats(0.1, 7) | st.sampled_from([0.0, 0.25, 1.0, 4 / 3, 5 / 3, 2.0]))
    opening, mirrored = draw(st.just(()) | ladders), draw(st.booleans())
    return StaggeredSchedule(
        ladder,
        size,
        lag,
        opening,
        mirrored,
        draw(st.sampled_from(["bidirectional", "block-causal"])),
        first_frames=draw(st.integers(0, size)) if lag >= 1 and not mirrored else 0,
    )


@examples(100)
@given(
    schedule=staggered() | matrices(),
    length=st.integers(1, 13),
    origin=st.integers(0, 5),
)
def test_rows_hand_every_frame_down_its_whole_ladder(
    schedule: StaggeredSchedule | MatrixSchedule, length: int, origin: int
) -> None:
    """Each frame takes exactly its number of steps and ends clean; no frame is dropped half-way;
    no more are active than planned; no row is without a move.
    """
    if isinstance(schedule, MatrixSchedule):
        length, origin = len(schedule.indices[0]), 0
    origin = min(origin, length)
    level = {t: [1.0] for t in range(origin, length)}
    done, active = origin, set[int]()
    most = schedule.active_frames(length, origin)
    for row in schedule.rows(origin, length, origin):
        assert row.first == done
        assert active <= set(row.frames)
        assert row.now != row.after
        assert len(row.frames) <= most
        for t, now, after, step in zip(row.frames, row.now, row.after, row.steps, strict=True):
            assert now == level[t][-1]
            assert step == len(level[t]) - 1
            if now != after:
                level[t].append(after)
        done += row.finished
        active = {t for t in row.frames if t >= done}
    assert done == length
    for t, levels in level.items():
        own = schedule.first_ladder if isinstance(schedule, StaggeredSchedule) else ()
        if origin or t >= (getattr(schedule, "first_frames", 0) or schedule.chunk_frames):
            own = ()
        assert tuple(levels) == (own or schedule.ladder)


@examples(40)
@given(schedule=staggered(), chunks=st.integers(1, 3))
def test_an_endless_schedule_begins_as_a_long_one(schedule: StaggeredSchedule, chunks: int) -> None:
    if schedule.mirrored or schedule.lag == 0:
        with pytest.raises(BadInput, match="cannot run without an end"):
            next(schedule.rows(0, None))
        with pytest.raises(BadInput, match="cannot run without an end"):
            schedule.active_frames(None)
        return
    most = schedule.active_frames(None)
    count = 1 + STEPS * chunks
    length = (int(count / schedule.lag) + most) * schedule.chunk_frames
    endless = list(itertools.islice(schedule.rows(0, None), count))
    assert endless == list(itertools.islice(schedule.rows(0, length), count))
    assert max(len(row.frames) for row in endless) <= most


@examples(100)
@given(schedule=staggered() | matrices(), length=st.integers(1, 9), first=st.integers(0, 9))
def test_rows_from_any_chunk_on_end_all_rows(
    schedule: StaggeredSchedule | MatrixSchedule, length: int, first: int
) -> None:
    """What a resumed rollout goes on with."""
    length = len(schedule.indices[0]) if isinstance(schedule, MatrixSchedule) else length
    rows = list(schedule.rows(0, length))
    assert list(schedule.rows(first, length)) == [row for row in rows if row.first >= first]


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_frame_by_frame_is_the_pyramid_of_full_uncertainty(frames: int) -> None:
    assert causal_chunks(LADDER, 1) == pyramid(LADDER, STEPS)
    rows = list(causal_chunks(LADDER, 1).rows(0, frames))
    assert [(row.first, row.now) for row in rows] == [
        (t, (s,)) for t in range(frames) for s in LADDER[:-1]
    ]


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_full_sequence_is_one_chunk_of_everything(frames: int) -> None:
    rows = list(full_sequence(LADDER).rows(0, frames))
    assert rows == list(causal_chunks(LADDER, frames).rows(0, frames))
    assert full_sequence(LADDER).active_frames(frames) == frames


def test_chunks_cover_the_length_and_the_last_may_be_shorter() -> None:
    rows = [row for row in causal_chunks(LADDER, 3).rows(0, 7) if row.finished]
    assert [(row.first, row.finished) for row in rows] == [(0, 3), (3, 3), (6, 1)]


def test_a_first_chunk_without_history_takes_its_own_steps() -> None:
    """Causal-Forcing: four steps for the first chunk, fewer for the rest; not when its place is
    taken by given frames.
    """
    short = flow_ladder(1, 1.0)
    schedule = causal_chunks(short, 2, first_ladder=LADDER)
    assert [row.first for row in schedule.rows(0, 6)] == [0, 0, 0, 0, 2, 4]
    assert [row.first for row in schedule.rows(1, 6, origin=1)] == [1, 3, 5]


def test_block_causal_frames_see_their_own_and_earlier_chunks() -> None:
    schedule = asynchronous(LADDER, 3, 1)
    assert schedule.visible(range(3, 10)) == (3, 3, 3, 6, 6, 6, 7)
    assert schedule.visible(range(4, 10), origin=1) == (3, 3, 3, 6, 6, 6)
    assert rolling(LADDER).visible(range(3, 9)) == (6,) * 6


def test_settings_that_cannot_be_run_are_refused() -> None:
    for frames in (0, 9):
        with pytest.raises(BadInput, match="chunk_frames must be from 1 to 8"):
            causal_chunks(LADDER, frames)
    for lag in (-1.0, 0.001, float("nan")):
        with pytest.raises(BadInput, match="or 0.01 or more steps after"):
            StaggeredSchedule(LADDER, 3, lag)
    for in_flight in (0, 5):
        with pytest.raises(BadInput, match="From 1 to 4 chunks can be in flight"):
            pipeline(LADDER, 3, in_flight)


def test_every_schedule_is_one_that_the_loop_takes() -> None:
    kept: NoiseSchedule = rolling(LADDER)
    assert kept.chunk_frames == 3
