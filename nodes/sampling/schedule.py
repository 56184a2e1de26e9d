"""Diffusion-Forcing Schedule: which latent frames are generated together, by which steps."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...model.preset import DEMO
from ...samplers.schedule.context_noise import ContextNoise
from ...samplers.schedule.options import (
    ATTENTION,
    BETAS,
    CHUNKS,
    FLOW,
    FROM_MODEL,
    KINDS,
    OWN_STEPS,
    PREDICTIONS,
    SOLVERS,
    STEP_PRESETS,
    ScheduleOptions,
)
from ...samplers.schedule.rows import MAX_CHUNK_FRAMES
from .. import categories, host, sockets
from ..models.model_facts import describe_preset_values, facts
from ..schema import build
from .schedule_picture import draw_schedule, in_words
from .schedule_spec import ScheduleSpec

DEFAULTS = ScheduleOptions()
NO_MODEL = "The sampler resolves the settings `from model`; connect `model` here too to see them."


class DiffusionForcingSchedule(io.ComfyNode):
    """Chunks, steps and noise levels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSchedule",
            display_name="Diffusion-Forcing Schedule",
            category=categories.SAMPLE,
            description="Which latent frames are made together, and by which steps their noise "
            "falls. The node shows it: time to the right, steps downwards, dark is noise.",
            search_aliases=["sigmas", "scheduler", "shift", "steps", "pyramid", "rolling forcing"],
            inputs=[*_steps(), *_kind(), *_lists(), *_process(), _model()],
            outputs=[sockets.Schedule.Output(display_name="schedule")],
            hidden=[io.Hidden.unique_id],
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
        first_steps: int = 0,
        predicts: str = FLOW,
        betas: str = BETAS[0],
        eta: float = 1.0,
        model: Any = None,
    ) -> io.NodeOutput:
        """Show the schedule's levels where the model is known or not needed."""
        options = ScheduleOptions(
            schedule, chunk_frames or None, steps or None, shift or None, stagger, attention,
            step_preset, step_list, None if first_steps < 0 else first_steps,
        )  # fmt: skip
        noise = None if context_noise < 0 else ContextNoise(context_noise)
        spec = ScheduleSpec(options, solver, noise, predicts, betas, eta)
        if model is None and spec.values_from_preset(DEMO):
            host.show_status(cls.hidden.unique_id, NO_MODEL)
            return io.NodeOutput(spec)
        return io.NodeOutput(spec, ui=_show_levels(spec, model, cls.hidden.unique_id))


def _show_levels(spec: ScheduleSpec, model: Any, node_id: str | None) -> ui.SavedImages:
    """Describe and draw the schedule of `model`, or one that needs no model."""
    known = None if model is None else facts(model)
    preset = DEMO if known is None else known.preset
    rows = spec.resolve(preset).schedule
    values = {} if known is None else spec.values_from_preset(preset)
    from_model = "" if known is None else describe_preset_values(known, values)
    host.show_status(node_id, f"{from_model} {in_words(rows)}".lstrip())
    file = host.output_file("longtake_schedule", "levels.png", temporary=True)
    draw_schedule(rows, file.path)
    return ui.SavedImages([ui.SavedResult(file.name, file.subfolder, io.FolderType.temp)])


def _steps() -> list[io.Input]:
    return [
        io.Int.Input(
            "chunk_frames",
            default=0,
            min=0,
            max=MAX_CHUNK_FRAMES,
            tooltip="Latent frames made together, 1 to 8 (one is 4 frames of video); 0 is from "
            "the model. Must suit the model: the demo knows 1 and 3. Fewer show up sooner and "
            "react to a prompt sooner.",
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=100,
            tooltip="Model evaluations per chunk, 1 to 100; 0 is from the model, which may have "
            "a list of its own; others than the model's number are even steps. 4 is enough for "
            "the demo and for distilled models; undistilled ones want 20 to 50.",
        ),
        io.Float.Input(
            "shift",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="How much of the steps goes to high noise (no unit, 0 to 100; 1 is even; 0 is "
            "from the model). Demo 2; Wan-sized pictures 5 to 8.",
        ),
        io.Combo.Input(
            "solver",
            options=[FROM_MODEL, *SOLVERS],
            default=FROM_MODEL,
            tooltip="`from model`, or another: `euler` for the demo and undistilled models; "
            "`re-noise` for few-step distilled models (Self-Forcing, Causal-Forcing, LongLive); "
            "`unipc 2` and `dpm++ 2m` reach the same with fewer steps, from about 8 on "
            "(SkyReels-V2 uses unipc); `ancestral` adds fresh noise at every step, as much as eta "
            "says; `ddim` is euler for models that are no flows.",
        ),
        io.Float.Input(
            "context_noise",
            default=-1.0,
            min=-1.0,
            max=0.9,
            step=0.01,
            tooltip="Noise level, 0 to 0.9, at which finished frames enter the history; -1 is "
            "from the model. A little (0.05) can keep a model that was trained for it from "
            "drifting.",
        ),
    ]


def _kind() -> list[io.Input]:
    return [
        io.Combo.Input(
            "schedule",
            optional=True,
            options=[FROM_MODEL, *KINDS],
            default=FROM_MODEL,
            tooltip="How chunks follow one another. `from model`: as it was trained; `causal "
            "chunks` finishes one before the next; "
            "`frame by frame` is the same with chunks of 1; `pyramid` and `trapezoid` let latent "
            "frames lag behind one another, the trapezoid from both ends; `full sequence` makes "
            "everything together; `asynchronous`, `rolling window` and `pipeline` keep several "
            "chunks in flight.",
        ),
        io.Float.Input(
            "stagger",
            optional=True,
            default=DEFAULTS.stagger,
            min=0.0,
            max=100.0,
            step=0.5,
            tooltip="0 to 100. `pyramid` and `trapezoid`: steps that a latent frame lags behind "
            "its neighbour. `asynchronous`: steps that a chunk lags behind the one before it, a "
            "whole number (SkyReels-V2: 5). `pipeline`: chunks in flight, a whole number up to the "
            "steps (MAGI-1: 4). Others do not use it.",
        ),
        io.Combo.Input(
            "attention",
            optional=True,
            options=list(ATTENTION),
            default=DEFAULTS.attention,
            tooltip="What latent frames in the making see of one another. `bidirectional`: all; "
            "`block-causal`: those of their own and earlier chunks; `as usual`: what the schedule "
            "was published with (block-causal for asynchronous and pipeline).",
        ),
    ]


def _lists() -> list[io.Input]:
    return [
        io.Combo.Input(
            "step_preset",
            optional=True,
            options=[OWN_STEPS, *STEP_PRESETS],
            default=OWN_STEPS,
            tooltip="Steps by kind of model. `steps and shift`: as set above; `diffusion`: not "
            "made for few steps; `flow`: Wan and the demo; `distilled`: the lists that few-step "
            "models were trained with, at shift 5. `4, then 2`: the first chunk, without a past, "
            "takes more. All but the first replace `steps`.",
        ),
        io.String.Input(
            "step_list",
            optional=True,
            default="",
            tooltip="Timesteps of your own, 1000 to 1, falling: `1000, 750, 500, 250`. With `|` "
            "the first chunk has its own: `1000, 750, 500, 250 | 1000, 500`. Overrides steps and "
            "preset when not empty; shift applies (1 to take them as they are).",
        ),
        io.Int.Input(
            "first_steps",
            optional=True,
            default=-1,
            min=-1,
            max=100,
            tooltip="The fewest steps of the first chunk, 0 to 100 (0: as many as the others; -1: "
            "from the model). It has no past to go by, so a few more make it better and cost the "
            "first picture a moment. Only for `causal chunks` and `frame by frame` with `steps and "
            "shift`.",
        ),
    ]


def _process() -> list[io.Input]:
    return [
        io.Combo.Input(
            "predicts",
            optional=True,
            options=list(PREDICTIONS),
            default=FLOW,
            tooltip="What the model was trained to predict. `flow`: Wan and all that descends from "
            "it; `epsilon` (the noise) and `v`: diffusion models, with the solvers `ddim` and "
            "`ancestral` (DDPM) only.",
        ),
        io.Combo.Input(
            "betas",
            optional=True,
            options=list(BETAS),
            default=BETAS[0],
            tooltip="The noise schedule of an `epsilon` or `v` model, 1000 timesteps: `linear` "
            "(DDPM), `scaled linear` (latent diffusion), `cosine`, `sigmoid` (Diffusion Forcing's "
            "video models). A flow has none.",
        ),
        io.Float.Input(
            "eta",
            optional=True,
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="For `ancestral`: the share of fresh noise at each step, 0 to 1; 1 is DDPM's, "
            "0 none (ddim). Others do not use it.",
        ),
    ]


def _model() -> io.Input:
    return io.Model.Input(
        "model",
        optional=True,
        tooltip="The sampler's model, to see here what is `from model`. What counts is the model "
        "of the sampler: without this one there is no picture, and the same video.",
    )
