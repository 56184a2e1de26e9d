"""From the options that a user sets to a schedule and a solver: the one table of names.

The canvas node and `longtake schedule` both read their choices here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ..errors import BadInput
from ..model.preset import DEMO
from .ladder import Ladder, flow_ladder, opening_ladder, parse_steps
from .multistep import DPMSolverPP2M, UniPC2
from .process import Betas, VariancePreserving
from .schedule import (
    Staggered,
    Within,
    asynchronous,
    causal_chunks,
    full_sequence,
    pipeline,
    pyramid,
    rolling,
    trapezoid,
)
from .solvers import DDIM, Euler, Prediction, ReNoise, Solver

CHUNKS = "causal chunks"
FRAMES = "frame by frame"
ONE_BY_ONE = (CHUNKS, FRAMES)
KINDS: dict[str, Callable[[Ladder, int, float], Staggered]] = {
    CHUNKS: lambda ladder, frames, stagger: causal_chunks(ladder, frames),
    FRAMES: lambda ladder, frames, stagger: causal_chunks(ladder, 1),
    "pyramid": lambda ladder, frames, stagger: pyramid(ladder, stagger),
    "trapezoid": lambda ladder, frames, stagger: trapezoid(ladder, stagger),
    "full sequence": lambda ladder, frames, stagger: full_sequence(ladder),
    "asynchronous (SkyReels-V2)": lambda ladder, frames, stagger: asynchronous(
        ladder, frames, _whole(stagger, "steps between two chunks")
    ),
    "rolling window (Rolling Forcing)": lambda ladder, frames, stagger: rolling(ladder, frames),
    "pipeline (MAGI-1)": lambda ladder, frames, stagger: pipeline(
        ladder, frames, _whole(stagger, "chunks in flight")
    ),
}

AS_USUAL = "as usual"
ATTENTION: dict[str, Within | None] = {
    AS_USUAL: None,
    "bidirectional": "bidirectional",
    "block-causal": "block-causal",
}

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

SOLVERS: dict[str, Solver] = {
    "euler": Euler(),
    "re-noise": ReNoise(),
    "unipc 2": UniPC2(),
    "dpm++ 2m": DPMSolverPP2M(),
    "ancestral": DDIM(eta=1.0),
    "ddim": DDIM(),
}

FLOW = "flow"
PREDICTIONS: dict[str, Prediction] = {FLOW: "flow", "epsilon": "epsilon", "v": "v"}
BETAS: tuple[Betas, ...] = ("linear", "scaled linear", "cosine", "sigmoid")


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """What a user sets. `first_steps` are the fewest of the first chunk, where chunks are made one
    after another by `steps`. `stagger` counts steps per latent frame for pyramid and trapezoid,
    steps per chunk for asynchronous, and chunks in flight for pipeline; others do not use it.
    """

    kind: str = CHUNKS
    chunk_frames: int = DEMO.chunk_frames
    steps: int = DEMO.steps
    shift: float = DEMO.shift
    stagger: float = 2.0
    attention: str = AS_USUAL
    step_preset: str = OWN_STEPS
    step_list: str = ""
    first_steps: int = 0

    def __post_init__(self) -> None:
        _check("schedule", self.kind, KINDS)
        _check("attention", self.attention, ATTENTION)
        _check("step_preset", self.step_preset, (OWN_STEPS, *STEP_PRESETS))

    def schedule(self) -> Staggered:
        """The schedule that was asked for."""
        ladder, opening = self._ladders()
        made = KINDS[self.kind](ladder, self.chunk_frames, self.stagger)
        made = replace(made, first_ladder=opening)
        within = ATTENTION[self.attention]
        return made if within is None else replace(made, within=within)

    def _ladders(self) -> tuple[Ladder, Ladder]:
        """Every chunk's ladder and the first one's: the list, else the preset, else the steps."""
        chosen = self.step_list.strip() or STEP_PRESETS.get(self.step_preset, self.steps)
        if isinstance(chosen, int):
            return flow_ladder(chosen, self.shift), self._opening()
        return parse_steps(chosen, self.shift)

    def _opening(self) -> Ladder:
        alone = self.kind in ONE_BY_ONE and self.step_preset == OWN_STEPS
        return opening_ladder(self.steps, self.first_steps, self.shift) if alone else ()


def solver_for(name: str, predicts: str = FLOW, betas: str = BETAS[0]) -> Solver:
    """The solver a user chose, for what the model predicts under which noise schedule."""
    _check("solver", name, SOLVERS)
    _check("predicts", predicts, PREDICTIONS)
    _check("betas", betas, BETAS)
    solver = SOLVERS[name]
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
