"""Turns a user's options into a schedule and a solver: the one table of names."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ...characters import excerpt
from ...errors import BadInput
from ...model.preset import DEMO, Preset, overridden
from ..solvers.multistep import DPMSolverPP2M, UniPC2
from ..solvers.noise_process import Betas, Flow, VariancePreserving
from ..solvers.single_step import DDIM, Euler, Prediction, ReNoise, ReNoiseInHalves, Solver
from .levels import TIMESTEPS, Ladder, flow_ladder, parse_steps, preset_ladders, table_ladder
from .rows import (
    MAX_CHUNK_FRAMES,
    StaggeredSchedule,
    Visibility,
    asynchronous,
    causal_chunks,
    full_sequence,
    pipeline,
    pyramid,
    rolling,
    trapezoid,
)

FROM_MODEL = "from model"
CHUNKS = "causal chunks"
FRAMES = "frame by frame"
SEQUENCE = "full sequence"
ROLLING = "rolling window (Rolling Forcing)"
ONE_BY_ONE = (CHUNKS, FRAMES)
OF_CHUNKS = (CHUNKS, "asynchronous (SkyReels-V2)", ROLLING, "pipeline (MAGI-1)")
KINDS: dict[str, Callable[[Ladder, int, float], StaggeredSchedule]] = {
    CHUNKS: lambda ladder, frames, stagger: causal_chunks(ladder, frames),
    FRAMES: lambda ladder, frames, stagger: causal_chunks(ladder, 1),
    "pyramid": lambda ladder, frames, stagger: pyramid(ladder, stagger),
    "trapezoid": lambda ladder, frames, stagger: trapezoid(ladder, stagger),
    SEQUENCE: lambda ladder, frames, stagger: full_sequence(ladder),
    "asynchronous (SkyReels-V2)": lambda ladder, frames, stagger: asynchronous(
        ladder, frames, _whole(stagger, "steps between two chunks")
    ),
    ROLLING: lambda ladder, frames, stagger: rolling(ladder, frames),
    "pipeline (MAGI-1)": lambda ladder, frames, stagger: pipeline(
        ladder, frames, _whole(stagger, "chunks in flight")
    ),
}

AS_USUAL = "as usual"
ATTENTION: dict[str, Visibility | None] = {
    AS_USUAL: None,
    "bidirectional": "bidirectional",
    "block-causal": "block-causal",
}

MAX_STEPS, MAX_SHIFT, MAX_STAGGER = 100, 100.0, 100.0
OWN_STEPS = "steps and shift"
STEP_PRESETS: dict[str, int | str] = {  # a number of even steps, or a list of timesteps
    "diffusion 20 steps": 20,
    "flow 8 steps": 8,
    "flow 4 steps": 4,
    "distilled 4 steps (Self-Forcing, LongLive)": "1000, 750, 500, 250",
    "distilled 5 steps (Rolling Forcing)": "1000, 800, 600, 400, 200",
    "distilled 4, then 2 (Causal-Forcing)": "1000, 750, 500, 250 | 1000, 500",
    "distilled 4, then 1 (Causal-Forcing)": "1000, 750, 500, 250 | 1000",
}

ANCESTRAL = DDIM(eta=1.0)
SOLVERS: dict[str, Solver] = {
    "euler": Euler(),
    "re-noise": ReNoise(),
    "unipc 2": UniPC2(),
    "dpm++ 2m": DPMSolverPP2M(),
    "ancestral": ANCESTRAL,
    "ddim": DDIM(),
}

FLOW = "flow"
PREDICTIONS: dict[str, Prediction] = {FLOW: "flow", "epsilon": "epsilon", "v": "v"}
BETAS: tuple[Betas, ...] = ("linear", "scaled linear", "cosine", "sigmoid")


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """A user's options; None, and the kind `from model`, use the model's preset.

    `first_steps` is the minimum for the first chunk of causal chunks. `stagger` counts steps per
    latent frame for pyramid and trapezoid, steps per chunk for asynchronous, and chunks in flight
    for pipeline. A model's first chunk of fewer latent frames is for causal chunks of its own size.
    """

    kind: str = FROM_MODEL
    chunk_frames: int | None = None
    steps: int | None = None
    shift: float | None = None
    stagger: float = 2.0
    attention: str = AS_USUAL
    step_preset: str = OWN_STEPS
    step_list: str = ""
    first_steps: int | None = None

    def __post_init__(self) -> None:
        _check("schedule", self.kind, (FROM_MODEL, *KINDS))
        _check("attention", self.attention, ATTENTION)
        _check("step_preset", self.step_preset, (OWN_STEPS, *STEP_PRESETS))

    def schedule(self, preset: Preset = DEMO) -> StaggeredSchedule:
        """The schedule for a model with that preset."""
        used = self.in_place_of(preset)
        kind = self.kind_for(used)
        ladder, opening = self._ladders(used, kind)
        schedule = KINDS[kind](ladder, used.chunk_frames, self.stagger)
        fewer = used.first_frames if kind == CHUNKS else 0
        schedule = replace(schedule, first_ladder=opening, first_frames=fewer)
        within = ATTENTION[self.attention]
        if within is None and used.wavefront and kind == ROLLING:
            within = "block-causal"
        return schedule if within is None else replace(schedule, visibility=within)

    def in_place_of(self, preset: Preset) -> Preset:
        """The preset, overridden by all options that are set."""
        used = overridden(
            preset, chunk_frames=self.chunk_frames, steps=self.steps, shift=self.shift,
            first_steps=self.first_steps,
        )  # fmt: skip
        if self.steps is None and self.kind_for(used) not in ONE_BY_ONE:
            used = replace(used, steps=max(used.steps, used.overlap_steps))
        return replace(used, timesteps=(), first_timesteps=()) if self._chosen else used

    @property
    def unset_fields(self) -> list[str]:
        """The names of the options that the preset decides, except the kind."""
        of_steps = [] if self._chosen else ["steps", "first_steps"]
        names = ["chunk_frames", "shift", *of_steps]
        return [name for name in names if getattr(self, name) is None]

    @property
    def _chosen(self) -> int | str:
        """The list, else the step preset, else nothing: the steps are the preset's."""
        return self.step_list.strip() or STEP_PRESETS.get(self.step_preset, "")

    def kind_for(self, preset: Preset) -> str:
        """The kind by name; a model that is not causal makes all latent frames at once."""
        whole = preset.chunk_frames > MAX_CHUNK_FRAMES
        if self.kind == FROM_MODEL:
            return ROLLING if preset.rolling_chunks else SEQUENCE if whole else CHUNKS
        if whole and self.kind in OF_CHUNKS:
            raise BadInput(
                f"chunk_frames is from the model, which makes {preset.chunk_frames} latent frames "
                f"at once; for the schedule {self.kind!r} set it to 1 to {MAX_CHUNK_FRAMES}."
            )
        return self.kind

    def _ladders(self, preset: Preset, kind: str) -> tuple[Ladder, Ladder]:
        """Every chunk's ladder and the first one's, which only chunks made one by one have."""
        match self._chosen:
            case "":
                ladder, opening = preset_ladders(preset)
            case str(written):
                ladder, opening = parse_steps(written, preset.shift)
            case steps:
                ladder, opening = flow_ladder(steps, preset.shift), ()
        _check_opening(kind, self.step_list)
        return ladder, opening if kind in ONE_BY_ONE else ()


def check_stagger(kind: str, stagger: float) -> None:
    """Refuse (BadInput) a stagger that this kind takes for no number of steps."""
    if kind != FROM_MODEL:
        KINDS[kind](flow_ladder(MAX_STEPS, 1.0), 1, stagger)


def check_list(kind: str, step_list: str) -> None:
    """Refuse (BadInput) a list of steps that cannot be read, or that this kind has no use for."""
    if step_list.strip():
        parse_steps(step_list.strip(), 1.0)
    if kind != FROM_MODEL:
        _check_opening(kind, step_list)


def _check_opening(kind: str, step_list: str) -> None:
    """Refuse steps of the first chunk where it is not made alone."""
    if kind not in ONE_BY_ONE and "|" in step_list:
        raise BadInput(
            f"step_list is {excerpt(step_list)}, but the schedule {kind!r} makes its first chunk "
            "together with others; leave out the part before `|`, or choose causal chunks."
        )


def solver_for(name: str, predicts: str = FLOW, betas: str = BETAS[0], eta: float = 1.0) -> Solver:
    """The chosen solver, for the model's prediction type and noise schedule.

    `eta` is the share of fresh noise of `ancestral`, 0 to 1.
    """
    _check("solver", name, SOLVERS)
    _check("predicts", predicts, PREDICTIONS)
    _check("betas", betas, BETAS)
    solver = SOLVERS[name]
    if solver == ANCESTRAL:
        solver = DDIM(eta=eta)
    if predicts == FLOW:
        return solver
    if not isinstance(solver, DDIM):
        raise BadInput(
            f"The solver {name!r} is for models that predict a flow, and this one predicts "
            f"{predicts}; choose ddim or ancestral."
        )
    process = VariancePreserving(next(known for known in BETAS if known == betas))
    return replace(solver, process=process, prediction=PREDICTIONS[predicts])


def _check(option: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise BadInput(f"{option} is {value!r}; choose one of {', '.join(choices)}.")


def _whole(stagger: float, meaning: str) -> int:
    if not float(stagger).is_integer():
        raise BadInput(f"stagger is {stagger:g}; here it counts {meaning} and must be whole.")
    return int(stagger)


def preset_schedule(preset: Preset) -> StaggeredSchedule:
    """The noise levels that a family was trained for."""
    return ScheduleOptions().schedule(preset)


def preset_solver(preset: Preset) -> Solver:
    """The solver a family was trained for."""
    return as_trained(solver_for(preset.solver), preset)


def as_trained(solver: Solver, preset: Preset) -> Solver:
    """The solver with a family's own timesteps, if the family lists or rounds them.

    Of a family of two halves, re-noising stops between them.
    """
    if preset.whole_timesteps:
        return _with_whole_timesteps(solver)
    if preset.halves and isinstance(solver, ReNoise):
        [boundary, _] = table_ladder((TIMESTEPS * preset.boundary,), preset.shift)
        return ReNoiseInHalves(boundary)
    if preset.shift_timesteps or not isinstance(solver, ReNoise):
        return solver
    levels = table_ladder(preset.timesteps, preset.shift)
    return replace(solver, process=Flow(tuple(zip(levels, preset.timesteps, strict=False))))


def _with_whole_timesteps(solver: Solver) -> Solver:
    process = solver.process
    if isinstance(solver, (Euler, ReNoise, DDIM, UniPC2, DPMSolverPP2M)) and isinstance(
        process, Flow
    ):
        return replace(solver, process=replace(process, whole=True))
    return solver
