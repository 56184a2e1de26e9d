"""Diffusion-Forcing Schedule: which latent frames are generated together, by which steps."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...model.preset import DEMO
from ...samplers.schedule.context_noise import ContextNoise
from ...samplers.schedule.options import (
    ATTENTION,
    BETAS,
    CHUNKS,
    FLOW,
    FROM_MODEL,
    KINDS,
    MAX_SHIFT,
    MAX_STAGGER,
    MAX_STEPS,
    OWN_STEPS,
    PREDICTIONS,
    SOLVERS,
    STEP_PRESETS,
    ScheduleOptions,
    check_list,
    check_stagger,
    solver_for,
)
from ...samplers.schedule.rows import MAX_CHUNK_FRAMES
from .. import categories, host, sockets
from ..from_model import FROM_MODEL as FROM_MODEL_NUMBER
from ..from_model import TIP, set_or_none
from ..models.model_facts import describe_preset_values, facts
from ..schema import build
from ..validation import refuses
from .schedule_picture import draw_schedule, in_words
from .schedule_spec import ScheduleSpec

DEFAULTS = ScheduleOptions()
NO_MODEL = "The sampler resolves the values from the model; connect `model` here to see them."


def _check_stagger(schedule: str, stagger: float) -> None:
    check_stagger(schedule, stagger)


def _check_list(schedule: str, step_list: str) -> None:
    check_list(schedule, step_list)


def _check_solver(solver: str, predicts: str) -> None:
    """Refuse (BadInput) a solver for flows where the model is none; the model's own is unknown."""
    if solver != FROM_MODEL:
        solver_for(solver, predicts)


@refuses(_check_stagger, _check_list, _check_solver)
class DiffusionForcingSchedule(io.ComfyNode):
    """Chunks, steps and noise levels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSchedule",
            display_name="Diffusion-Forcing Schedule",
            category=categories.SAMPLE,
            description="Sets which latent frames are made together, and in which denoising steps. "
            "The node draws it: time to the right, steps downward, dark is noise.",
            search_aliases=["sigmas", "scheduler", "shift", "steps", "pyramid", "rolling forcing"],
            inputs=[_model(), *_steps(), *_kind(), *_lists(), *_process()],
            outputs=[sockets.Schedule.Output(display_name="schedule")],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,  # its picture comes with a cached run, too
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        chunk_frames: int,
        steps: int,
        shift: float,
        solver: str,
        context_noise: float,
        schedule: str = CHUNKS,
        stagger: float = DEFAULTS.stagger,
        attention: str = DEFAULTS.attention,
        step_preset: str = OWN_STEPS,
        step_list: str = "",
        first_steps: int = FROM_MODEL_NUMBER,
        predicts: str = FLOW,
        betas: str = BETAS[0],
        eta: float = 1.0,
        model: Any = None,
    ) -> io.NodeOutput:
        """Show the schedule's levels where the model is known or not needed."""
        options = ScheduleOptions(
            schedule, set_or_none("chunk_frames", chunk_frames, 1), set_or_none("steps", steps, 1),
            set_or_none("shift", shift, 0.01), stagger, attention, step_preset, step_list,
            set_or_none("first_steps", first_steps, 0),
        )  # fmt: skip
        noise_level = set_or_none("context_noise", context_noise, 0.0)
        noise = None if noise_level is None else ContextNoise(noise_level)
        spec = ScheduleSpec(options, solver, noise, predicts, betas, eta)
        if model is None and spec.values_from_preset(DEMO):
            host.show_status(cls.hidden.unique_id, NO_MODEL)
            return io.NodeOutput(spec)
        return io.NodeOutput(spec, ui=_show_levels(spec, model, cls.hidden.unique_id))


def _show_levels(spec: ScheduleSpec, model: Any, node_id: str | None) -> dict[str, object]:
    """Describe and draw the schedule of `model`, or one that needs no model."""
    known = None if model is None else facts(model)
    preset = DEMO if known is None else known.preset
    rows = spec.resolve(preset).schedule
    values = {} if known is None else spec.values_from_preset(preset)
    from_model = "" if known is None else describe_preset_values(known, values)
    host.show_status(node_id, f"{from_model} {in_words(rows)}".lstrip())
    file = host.output_file("longtake_schedule", "levels.png", temporary=True)
    draw_schedule(rows, file.path)
    return host.result_picture(file)


def _steps() -> list[io.Input]:
    return [
        io.Int.Input(
            "chunk_frames",
            default=FROM_MODEL_NUMBER,
            min=FROM_MODEL_NUMBER,
            max=MAX_CHUNK_FRAMES,
            tooltip="Latent frames made together, 1 to 8 (one is 4 frames of video). Fewer appear "
            f"sooner and follow a new prompt sooner. The demo supports 1 and 3. {TIP}",
        ),
        io.Int.Input(
            "steps",
            default=FROM_MODEL_NUMBER,
            min=FROM_MODEL_NUMBER,
            max=MAX_STEPS,
            tooltip="Denoising steps per chunk, 1 to 100. 2 for the demo (`full`: 8), 2 to 4 "
            "for distilled models, 20 to 50 for others. The model may have its own list of steps; "
            f"any other number gives evenly spaced steps. {TIP}",
        ),
        io.Float.Input(
            "shift",
            default=float(FROM_MODEL_NUMBER),
            min=float(FROM_MODEL_NUMBER),
            max=MAX_SHIFT,
            step=0.1,
            advanced=True,
            tooltip="Share of steps spent at high noise (no unit, above 0 to 100; 1 is even, more "
            "is more). 1.25 for the demo (`full`: 1.5), 5 to 8 for Wan-sized pictures. "
            f"{TIP}",
        ),
        io.Combo.Input(
            "solver",
            options=[FROM_MODEL, *SOLVERS],
            default=FROM_MODEL,
            advanced=True,
            tooltip="`from model`: as trained. `euler`: the demo and undistilled models. "
            "`re-noise`: few-step distilled models (Self-Forcing, Causal-Forcing, LongLive). "
            "`unipc 2`, `dpm++ 2m`: the same quality with fewer steps, from about 8 on. "
            "`ancestral`: adds fresh noise at each step (see eta). `ddim`: euler for models that "
            "are not flows.",
        ),
        io.Float.Input(
            "context_noise",
            default=float(FROM_MODEL_NUMBER),
            min=float(FROM_MODEL_NUMBER),
            max=0.9,
            step=0.01,
            advanced=True,
            tooltip="Noise level of finished frames in the history, 0 to 0.9. A little (0.05) can "
            f"stop drift in models that were trained for it. {TIP}",
        ),
    ]


def _kind() -> list[io.Input]:
    return [
        io.Combo.Input(
            "schedule",
            optional=True,
            options=[FROM_MODEL, *KINDS],
            default=FROM_MODEL,
            tooltip="The order of chunks. `from model`: as trained. `causal chunks`: one after "
            "another. `frame by frame`: the same with chunks of 1. `full sequence`: all at once. "
            "`pyramid`, `trapezoid`: each latent frame lags behind its neighbour. `asynchronous`, "
            "`rolling window`, `pipeline`: several chunks in progress.",
        ),
        io.Float.Input(
            "stagger",
            optional=True,
            default=DEFAULTS.stagger,
            min=0.0,
            max=MAX_STAGGER,
            step=0.5,
            advanced=True,
            tooltip="0 to 100. `pyramid`, `trapezoid`: steps between neighbouring latent frames. "
            "`asynchronous`: steps between chunks, a whole number (SkyReels-V2: 5). `pipeline`: "
            "chunks in progress, a whole number (MAGI-1: 4). Not used by others.",
        ),
        io.Combo.Input(
            "attention",
            optional=True,
            options=list(ATTENTION),
            default=DEFAULTS.attention,
            advanced=True,
            tooltip="Which unfinished latent frames can see each other. `bidirectional`: all. "
            "`block-causal`: those of the same and earlier chunks. `as usual`: as published for "
            "the schedule.",
        ),
    ]


def _lists() -> list[io.Input]:
    return [
        io.Combo.Input(
            "step_preset",
            optional=True,
            options=[OWN_STEPS, *STEP_PRESETS],
            default=OWN_STEPS,
            advanced=True,
            tooltip="`steps and shift`: the inputs above. The others replace `steps`. `diffusion`: "
            "models not made for few steps. `flow`: Wan and the demo. `distilled`: the lists that "
            "few-step models were trained with, at shift 5; `4, then 2` gives the first chunk "
            "more steps.",
        ),
        io.String.Input(
            "step_list",
            optional=True,
            default="",
            advanced=True,
            tooltip="Your own timesteps, falling from 1000 to 1: `1000, 750, 500, 250`. A second "
            "list after `|` is for all chunks but the first: `1000, 750, 500, 250 | 1000, 500`. "
            "Replaces steps and preset; shift still applies (1 leaves them as written).",
        ),
        io.Int.Input(
            "first_steps",
            optional=True,
            default=FROM_MODEL_NUMBER,
            min=FROM_MODEL_NUMBER,
            max=MAX_STEPS,
            advanced=True,
            tooltip="Least number of steps for the first chunk, 0 to 100 (0: as many as the "
            "others). More improve the first picture, which has no past. Only for `causal chunks` "
            f"and `frame by frame` with `steps and shift`. {TIP}",
        ),
    ]


def _process() -> list[io.Input]:
    return [
        io.Combo.Input(
            "predicts",
            optional=True,
            options=list(PREDICTIONS),
            default=FLOW,
            advanced=True,
            tooltip="What the model predicts. `flow`: Wan and everything derived from it. "
            "`epsilon` (the noise) and `v`: diffusion models, with `ddim` or `ancestral` only.",
        ),
        io.Combo.Input(
            "betas",
            optional=True,
            options=list(BETAS),
            default=BETAS[0],
            advanced=True,
            tooltip="Noise schedule of an `epsilon` or `v` model with 1000 timesteps: `linear` "
            "(DDPM), `scaled linear` (latent diffusion), `cosine`, `sigmoid` (Diffusion Forcing). "
            "Not used by flows.",
        ),
        io.Float.Input(
            "eta",
            optional=True,
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="For `ancestral`: share of fresh noise at each step (no unit, 0 to 1). 1 is "
            "DDPM, 0 is ddim.",
        ),
    ]


def _model() -> io.Input:
    return io.Model.Input(
        "model",
        optional=True,
        tooltip="The sampler's model, to show the values of `from model` here. The video is the "
        "same without it.",
    )
