"""What a user chooses becomes the schedule it names, and a picture of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from longtake.errors import BadInput, StorageError
from longtake.headless.cli import main
from longtake.model.preset import DEMO
from longtake.nodes.sampling.schedule_picture import (
    BACKGROUND,
    CLEAN,
    HEIGHT,
    HISTORY,
    LEFT,
    NOISE,
    TOP,
    WAITING,
    WIDTH,
    cells,
    draw_schedule,
    frames_that_fit,
    in_words,
    level_colour,
    picture_of,
)
from longtake.samplers.schedule.levels import few_step_ladder, flow_ladder
from longtake.samplers.schedule.options import (
    CHUNKS,
    KINDS,
    ONE_BY_ONE,
    SEQUENCE,
    SOLVERS,
    STEP_PRESETS,
    ScheduleOptions,
    preset_schedule,
    solver_for,
)
from longtake.samplers.schedule.row import Row
from longtake.samplers.schedule.rows import (
    StaggeredSchedule,
    asynchronous,
    causal_chunks,
    full_sequence,
    pipeline,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.samplers.solvers.noise_process import VariancePreserving
from longtake.samplers.solvers.single_step import DDIM

SHORT, LADDER, FIRST = (flow_ladder(steps, 1.5) for steps in (3, 4, 8))
"""The demo's: of chunks made one by one, of chunks that overlap, and of the first."""


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("causal chunks", causal_chunks(SHORT, 3, FIRST)),
        ("frame by frame", causal_chunks(SHORT, 1, FIRST)),
        ("pyramid", pyramid(LADDER, 2.0)),
        ("trapezoid", trapezoid(LADDER, 2.0)),
        ("full sequence", full_sequence(LADDER)),
        ("asynchronous (SkyReels-V2)", asynchronous(LADDER, 3, 2)),
        ("rolling window (Rolling Forcing)", rolling(LADDER, 3)),
        ("pipeline (MAGI-1)", pipeline(LADDER, 3, 2)),
    ],
)
def test_every_kind_is_the_schedule_of_its_name(kind: str, made: StaggeredSchedule) -> None:
    assert ScheduleOptions(kind).schedule() == made
    causal = ScheduleOptions(kind, attention="block-causal").schedule()
    assert (causal.visibility, causal.lag) == ("block-causal", made.lag)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", STEP_PRESETS)
def test_every_kind_takes_every_preset(kind: str, preset: str) -> None:
    schedule = ScheduleOptions(kind, stagger=1, step_preset=preset).schedule()
    rows = list(schedule.rows(0, 7))
    assert set(rows[-1].after) == {0.0}
    assert kind in ONE_BY_ONE or not schedule.first_ladder
    if kind == SEQUENCE:
        assert all(len(row.frames) == 7 and len(set(row.now)) == 1 for row in rows)


def test_only_chunks_made_one_by_one_have_a_first_one_with_steps_of_its_own() -> None:
    for kind in KINDS:
        options = ScheduleOptions(kind, stagger=1, step_list="1000, 500, 250 | 1000, 500")
        if kind in ONE_BY_ONE:
            assert len(options.schedule().first_ladder) == 4
        else:
            with pytest.raises(BadInput, match="leave out the part before"):
                options.schedule()


def test_causal_chunks_of_the_models_size_have_its_first_chunk() -> None:
    preset = replace(DEMO, first_frames=1)
    short = replace(preset_schedule(DEMO), first_frames=1)
    assert preset_schedule(preset) == ScheduleOptions(chunk_frames=3).schedule(preset) == short
    assert ScheduleOptions(steps=7).schedule(preset).first_frames == 1
    for size in (1, 2, 8):
        assert ScheduleOptions(chunk_frames=size).schedule(preset).first_frames == 0
    for kind in {*KINDS} - {CHUNKS}:
        assert ScheduleOptions(kind, stagger=1).schedule(preset).first_frames == 0


def test_every_solver_has_a_name() -> None:
    assert all(solver_for(name) == solver for name, solver in SOLVERS.items())


def test_eta_is_the_fresh_noise_of_the_ancestral_solver_alone() -> None:
    assert solver_for("ancestral", eta=0.25) == DDIM(eta=0.25)
    assert solver_for("ancestral", "v", "cosine", 0.0) == solver_for("ddim", "v", "cosine")
    assert solver_for("euler", eta=0.25) == SOLVERS["euler"]
    assert solver_for("ddim", eta=0.25) == DDIM()
    with pytest.raises(BadInput, match="eta is 1.5; give 0"):
        solver_for("ancestral", eta=1.5)


def test_models_that_are_no_flows_have_their_noise_schedule_and_the_solvers_made_for_it() -> None:
    process = VariancePreserving("sigmoid")
    assert solver_for("ddim", "v", "sigmoid") == DDIM(process, "v")
    assert solver_for("ancestral", "epsilon", "sigmoid") == DDIM(process, "epsilon", eta=1.0)
    assert solver_for("ddim", betas="sigmoid") == DDIM()
    with pytest.raises(BadInput, match="predicts v; choose ddim or ancestral"):
        solver_for("unipc 2", "v")
    with pytest.raises(BadInput, match="predicts is 'x0'; choose one of flow, epsilon, v"):
        solver_for("ddim", "x0")


def test_a_list_goes_before_a_preset_and_a_preset_before_steps() -> None:
    preset = "distilled 4, then 2 (Causal-Forcing)"
    chosen = ScheduleOptions(steps=9, shift=5.0, step_preset=preset).schedule()
    assert chosen.ladder == few_step_ladder((1000, 500), 5.0)
    assert chosen.first_ladder == few_step_ladder((1000, 750, 500, 250), 5.0)
    own = ScheduleOptions(step_preset=preset, step_list=" 1000, 600 ", shift=1.0).schedule()
    assert (own.ladder, own.first_ladder) == ((1.0, 0.6, 0.0), ())
    assert len(ScheduleOptions(step_preset="diffusion 20 steps").schedule().ladder) == 21


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_chunk_has_its_fewest_steps_where_chunks_follow_one_another(kind: str) -> None:
    alone = kind in ("causal chunks", "frame by frame")
    first = ScheduleOptions(kind, steps=2, stagger=1, first_steps=5).schedule().first_ladder
    assert first == (flow_ladder(5, 1.5) if alone else ())
    enough = ScheduleOptions(kind, steps=9, stagger=1, first_steps=5).schedule()
    assert enough.first_ladder == ()
    preset = ScheduleOptions(kind, stagger=1, first_steps=5, step_preset="flow 4 steps").schedule()
    assert preset.first_ladder == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "spiral"}, "schedule is 'spiral'; choose one of from model, causal chunks, "),
        ({"attention": "none"}, "attention is 'none'; choose one of as usual, "),
        ({"step_preset": "fast"}, "step_preset is 'fast'; choose one of steps and shift, "),
        ({"kind": "pipeline (MAGI-1)", "stagger": 1.5}, "stagger is 1.5; here it counts chunks"),
        ({"kind": "asynchronous (SkyReels-V2)", "stagger": float("nan")}, "must be whole"),
        ({"kind": "pipeline (MAGI-1)", "stagger": 9}, "From 1 to 4 chunks can be in flight"),
        ({"step_list": "1000, quick"}, "not made of numbers"),
    ],
)
def test_a_choice_that_cannot_be_run_is_one_sentence(
    change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint):
        ScheduleOptions(**change).schedule()
    with pytest.raises(BadInput, match="solver is 'heun'; choose one of euler, "):
        solver_for("heun")


def test_cells_are_history_then_levels_then_waiting() -> None:
    row = Row(2, (0.0, 0.5, 1.0), (0.0, 0.0, 0.5), (4, 2, 0), (4, 4, 4))
    assert cells(row, 7) == [
        HISTORY, HISTORY, CLEAN, level_colour(0.5), NOISE, WAITING, WAITING,
    ]  # fmt: skip
    assert cells(row, 3) == [HISTORY, HISTORY, CLEAN]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("frames", "steps"), [(1, 4), (13, 4), (13, 50), (400, 4), (400, 100)])
def test_the_picture_has_a_cell_for_every_frame_and_evaluation(
    kind: str, frames: int, steps: int
) -> None:
    """Each in its own colour, up to its edge, and nothing below or beside them."""
    schedule = ScheduleOptions(kind, steps=steps).schedule()
    frames = frames_that_fit(schedule, frames)
    picture = picture_of(schedule, frames)
    assert picture.width < 2 * WIDTH + 300
    assert picture.height < 700
    expected = [cells(row, frames) for row in schedule.rows(0, frames)]
    rows, pixels = len(expected), np.asarray(picture)
    wide, high = max(2, WIDTH // frames), max(2, min(28, HEIGHT // rows))
    gap = 1 if min(wide, high) > 7 else 0
    for dx, dy in ((0, 0), (wide - 1 - gap, high - 1 - gap)):
        seen = pixels[TOP + dy :: high, LEFT + dx :: wide][:rows, :frames]
        assert np.array_equal(seen, expected)
    assert (pixels[TOP : TOP + rows * high, LEFT + frames * wide] == BACKGROUND).all()
    assert (pixels[TOP + rows * high, LEFT : LEFT + frames * wide] == BACKGROUND).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [4, 50, 100])
def test_every_frame_of_a_picture_comes_to_its_last_evaluation(
    kind: str, steps: int, tmp_path: Path
) -> None:
    """The last row is that after which all are clean, and the words count the same rows."""
    schedule = ScheduleOptions(kind, steps=steps, stagger=1).schedule()
    shown = draw_schedule(schedule, tmp_path / "levels.png")
    rows = list(schedule.rows(0, shown))
    assert in_words(schedule).startswith(f"{len(rows)} evaluations for {shown} latent frames,")
    wide, high = max(2, WIDTH // shown), max(2, min(28, HEIGHT // len(rows)))
    with Image.open(tmp_path / "levels.png") as picture:
        last = np.asarray(picture)[TOP + (len(rows) - 1) * high, LEFT::wide][:shown]
    assert np.array_equal(last, cells(rows[-1], shown))
    assert not (last == WAITING).all(1).any()


def test_as_many_frames_are_drawn_as_have_room() -> None:
    slow = ScheduleOptions(CHUNKS, chunk_frames=3, steps=50).schedule()
    assert frames_that_fit(slow, 15) == 12  # of 15 the last 40 rows of 250 would not be seen
    assert frames_that_fit(slow, 5) == 5
    assert frames_that_fit(ScheduleOptions(SEQUENCE, steps=50).schedule(), 400) == 400


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        draw_schedule(rolling(LADDER), tmp_path / "file" / "levels.png")


def test_the_command_tells_and_draws(tmp_path: Path) -> None:
    target = tmp_path / "new" / "levels.png"
    options = ["--schedule", "asyn", "--chunk-frames", "5", "--steps", "30", "--stagger", "5"]
    result = CliRunner().invoke(
        main, ["schedule", *options, "--frames", "25", "--png", str(target)]
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "asynchronous (SkyReels-V2): 50 evaluations for 25 latent frames, at most 25 active at "
        "once; the first 5 are clean after 30.",
        f"picture: {target}",
    ]
    with Image.open(target) as picture:
        assert picture.format == "PNG"


def test_the_command_says_how_many_frames_it_draws_where_they_are_too_many(tmp_path: Path) -> None:
    target = tmp_path / "levels.png"
    options = ["--schedule", "causal", "--steps", "50", "--frames", "30", "--png", str(target)]
    result = CliRunner().invoke(main, ["schedule", *options])
    told, drawn = result.output.splitlines()
    assert "500 evaluations for 30 latent frames" in told
    assert drawn == f"picture, of the first 12 latent frames: {target}"


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--schedule", "spiral"], 2, "'spiral' is not the beginning of one of"),
        (["--schedule", "p"], 2, "'p' is not the beginning of one of 'pyramid', 'pipeline"),
        (["--png", "levels.jpg"], 2, "levels.jpg must end with .png"),
        (["--step-list", "500"], 2, "must begin with 1000"),
    ],
)
def test_the_command_refuses_in_one_line(options: list[str], code: int, complaint: str) -> None:
    result = CliRunner().invoke(main, ["schedule", *options])
    assert (result.exit_code, complaint in " ".join(result.output.split())) == (code, True)
