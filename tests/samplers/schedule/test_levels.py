"""Ladders have the published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import BadInput
from longtake.samplers.schedule.levels import (
    Ladder,
    few_step_ladder,
    flow_ladder,
    parse_steps,
    shift_level,
)
from longtake.samplers.schedule.rows import causal_chunks
from longtake.tests.support.laws import examples


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
    assert causal_chunks(ladder).ladder == ladder
    assert (ladder[0], ladder[-1], len(ladder)) == (1.0, 0.0, steps + 1)


@examples(100)
@given(sigma=st.floats(0, 1), shift=st.floats(0.01, 100))
def test_shift_is_the_published_formula_and_can_be_undone(sigma: float, shift: float) -> None:
    assert shift_level(sigma, shift) == pytest.approx(shift * sigma / (1 + (shift - 1) * sigma))
    assert shift_level(shift_level(sigma, shift), 1 / shift) == pytest.approx(sigma)


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan"), float("inf")])
def test_a_shift_that_is_no_positive_number_is_refused(shift: float) -> None:
    for make in (lambda: flow_ladder(4, shift), lambda: few_step_ladder((1000, 500), shift)):
        with pytest.raises(BadInput, match="shift must be a positive number"):
            make()


@pytest.mark.parametrize(
    "ladder", [(), (1.0,), (1.0, 0.5), (0.9, 0.0), (1.0, 0.5, 0.5, 0.0), (1.0, float("nan"), 0.0)]
)
def test_a_ladder_that_does_not_fall_from_1_to_0_is_refused(ladder: Ladder) -> None:
    with pytest.raises(BadInput, match="Noise levels must fall"):
        causal_chunks(ladder)


def test_no_steps_are_refused() -> None:
    with pytest.raises(BadInput, match="steps must be at least 1"):
        flow_ladder(0, 1.0)


def test_a_written_list_of_steps_is_the_few_step_ladder() -> None:
    four = few_step_ladder((1000, 750, 500, 250), 5.0)
    assert parse_steps("1000, 750 500,250,", 5.0) == (four, ())
    assert parse_steps("1000，750、500　250", 5.0) == (four, ())
    assert parse_steps("1000,750,500,250 | 1000,500", 5.0) == (
        few_step_ladder((1000, 500), 5.0),
        four,
    )


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("1000, fast", "is not made of numbers"),
        ("", "must begin with 1000 and fall"),
        ("750, 500", "must begin with 1000 and fall"),
        ("1000, 500, 500", "must begin with 1000 and fall"),
        ("1000, 500, 0", "staying above 0"),
        ("1000, nan", "must begin with 1000 and fall"),
        ("1000 | 1000 | 1000", "has 3 parts"),
    ],
)
def test_a_list_of_steps_that_cannot_be_run_is_refused_in_one_sentence(
    written: str, complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint):
        parse_steps(written, 1.0)
