"""Settings From Model: the settings that a model was trained with, as separate outputs."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...model.preset import Preset, overridden
from ...model.preset_cache import preset_cache
from ...samplers.history.settings import CacheSettings
from ...samplers.schedule.context_noise import ContextNoise
from ...samplers.schedule.options import SOLVERS, preset_schedule, preset_solver
from ...samplers.schedule.rows import MAX_CHUNK_FRAMES
from .. import categories, host, sockets
from ..models.model_facts import facts
from ..schema import build
from .schedule_spec import ScheduleSettings

MAX_WINDOW = 1024
FROM_MODEL: dict[str, Any] = {
    "chunk_frames": 0, "steps": 0, "shift": 0.0, "context_noise": -1.0, "window_frames": -1,
    "sink_frames": -1, "guidance_scale": 0.0, "solver": "from model",
}  # fmt: skip
"""The widget values that stand for the model's own."""


class SettingsFromModel(io.ComfyNode):
    """MODEL to schedule, cache, guidance and picture size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeModelSettings",
            display_name="Settings From Model",
            category=categories.SAMPLE,
            description="The schedule, KV cache, guidance and picture size that the model's family "
            "was trained with, as its authors publish them. Every one can be set otherwise below; "
            "what was assumed stands under the node and in the report.",
            search_aliases=["preset", "defaults", "self forcing settings"],
            inputs=[
                io.Model.Input("model", tooltip="From Load Causal Video Model, or any Wan loader."),
                *_overrides(),
            ],
            outputs=[
                sockets.Schedule.Output(display_name="schedule"),
                sockets.KVCache.Output(display_name="kv_cache"),
                io.Float.Output(display_name="cfg"),
                io.Int.Output(display_name="width"),
                io.Int.Output(display_name="height"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, **overrides: Any) -> io.NodeOutput:
        """Take the preset of the model's family, with the widgets that are set."""
        known = facts(model)
        given = {name: value for name, value in overrides.items() if value != FROM_MODEL[name]}
        preset = overridden(known.preset, **given)
        notes = [f"{known.family.title}: {preset.note}."] if preset.note else []
        text = f"{known.assumed}.{_describe_changes(known.preset, preset)}"
        host.show_status(cls.hidden.unique_id, text, *notes)
        noise = ContextNoise(preset.context_noise)
        schedule = ScheduleSettings(preset_schedule(preset), preset_solver(preset), noise)
        return io.NodeOutput(
            schedule,
            CacheSettings(preset_cache(preset)),
            preset.guidance_scale,
            preset.width,
            preset.height,
        )


def _describe_changes(own: Preset, used: Preset) -> str:
    """Name the settings that differ from the model's; empty if there are none."""
    pairs = [(name, getattr(used, name), getattr(own, name)) for name in FROM_MODEL]
    changed = [
        f"{name} {now} (from model: {before})" for name, now, before in pairs if now != before
    ]
    return f" Changed: {', '.join(changed)}." if changed else ""


def _overrides() -> list[io.Input]:
    """A widget for each value; each at `from model`."""
    numbers: list[tuple[str, type[Any], dict[str, Any], str]] = [
        ("chunk_frames", io.Int, {"min": 0, "max": MAX_CHUNK_FRAMES},
         f"Latent frames made together, 0 to {MAX_CHUNK_FRAMES}. 0 is from the model."),
        ("steps", io.Int, {"min": 0, "max": 100},
         "Model evaluations per chunk, 0 to 100; others than the model's own are even steps. 0 is "
         "from the model."),
        ("shift", io.Float, {"min": 0.0, "max": 100.0, "step": 0.1},
         "How much of the steps goes to high noise (no unit, 0 to 100). 0 is from the model."),
        ("context_noise", io.Float, {"min": -1.0, "max": 0.9, "step": 0.01},
         "Noise level at which finished frames enter the history, 0 to 0.9. -1 is from the model."),
        ("window_frames", io.Int, {"min": -1, "max": MAX_WINDOW},
         f"Latent frames of the past that the model sees, 0 (all) to {MAX_WINDOW:,}. -1 is from "
         "the model."),
        ("sink_frames", io.Int, {"min": -1, "max": MAX_WINDOW},
         f"Latent frames of the window that are the shot's first, 0 to {MAX_WINDOW:,}. -1 is from "
         "the model."),
        ("guidance_scale", io.Float, {"min": 0.0, "max": 30.0, "step": 0.1},
         "The cfg that is given out (no unit, 0 to 30). 0 is from the model."),
    ]  # fmt: skip
    solver = io.Combo.Input(
        "solver",
        options=[FROM_MODEL["solver"], *SOLVERS],
        default=FROM_MODEL["solver"],
        optional=True,
        tooltip="`from model`, or another: `euler`, `re-noise`, `unipc 2`, `dpm++ 2m`, "
        "`ancestral`, `ddim`, as in Diffusion-Forcing Schedule.",
    )
    widgets = [
        kind.Input(name, default=FROM_MODEL[name], optional=True, tooltip=tip, **bounds)
        for name, kind, bounds, tip in numbers
    ]
    return [*widgets, solver]
