"""Settings From Model: the settings that a model was trained with, as separate outputs."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...model.preset import Preset, overridden
from ...model.preset_cache import preset_cache
from ...samplers.history.settings import CacheSettings
from ...samplers.rules.memory import preset_rules
from ...samplers.schedule.context_noise import ContextNoise
from ...samplers.schedule.options import SOLVERS, preset_schedule, preset_solver
from ...samplers.schedule.rows import MAX_CHUNK_FRAMES
from .. import categories, host, sockets
from ..from_model import TIP, set_or_none
from ..models.model_facts import facts
from ..schema import build
from .schedule_spec import ScheduleSettings

MAX_WINDOW = 1024
FROM_MODEL: dict[str, Any] = {
    "chunk_frames": -1, "steps": -1, "shift": -1.0, "context_noise": -1.0, "window_frames": -1,
    "sink_frames": -1, "guidance_scale": -1.0, "solver": "from model",
}  # fmt: skip
"""The widget values that keep the model's own."""
SMALLEST = {
    "chunk_frames": 1, "steps": 1, "shift": 0.01, "context_noise": 0.0, "guidance_scale": 0.0,
}  # fmt: skip


class SettingsFromModel(io.ComfyNode):
    """MODEL to schedule, cache, guidance and picture size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeModelSettings",
            display_name="Settings From Model",
            category=categories.SAMPLE,
            description="Outputs the schedule, KV cache, cfg and picture size that the model was "
            "trained with, as published. The advanced inputs override single values. The node and "
            "the report show what was assumed.",
            search_aliases=["preset", "defaults", "recommended settings"],
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
        """Look up the model's family and apply the overrides."""
        known = facts(model)
        changes = {name: value for name, value in overrides.items() if value != FROM_MODEL[name]}
        for name, smallest in SMALLEST.items():
            set_or_none(name, changes.get(name, FROM_MODEL[name]), smallest)
        preset = overridden(known.preset, **changes)
        notes = [f"{known.family.title}: {preset.note}."] if preset.note else []
        text = f"{known.assumed}.{_describe_changes(known.preset, preset)}"
        host.show_status(cls.hidden.unique_id, text, *notes)
        noise, policy = ContextNoise(preset.context_noise), preset_cache(preset)
        schedule = ScheduleSettings(preset_schedule(preset), preset_solver(preset), noise)
        return io.NodeOutput(
            schedule,
            CacheSettings(policy, memory=preset_rules(preset, policy), gives_way=True),
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
    """Build an advanced widget for each value, set to `from model`."""
    numbers: list[tuple[str, type[Any], dict[str, Any], str]] = [
        ("chunk_frames", io.Int, {"min": -1, "max": MAX_CHUNK_FRAMES},
         f"Latent frames made together, 1 to {MAX_CHUNK_FRAMES}."),
        ("steps", io.Int, {"min": -1, "max": 100},
         "Model evaluations per chunk, 1 to 100; any number but the model's own gives evenly "
         "spaced steps."),
        ("shift", io.Float, {"min": -1.0, "max": 100.0, "step": 0.1},
         "Share of steps spent at high noise (no unit, above 0 to 100; 1 is even)."),
        ("context_noise", io.Float, {"min": -1.0, "max": 0.9, "step": 0.01},
         "Noise level of finished frames in the history, 0 to 0.9."),
        ("window_frames", io.Int, {"min": -1, "max": MAX_WINDOW},
         f"Latent frames of the past that the model sees, 1 to {MAX_WINDOW:,}; 0 is all."),
        ("sink_frames", io.Int, {"min": -1, "max": MAX_WINDOW},
         f"Number of first latent frames that are never dropped, 0 to {MAX_WINDOW:,}."),
        ("guidance_scale", io.Float, {"min": -1.0, "max": 30.0, "step": 0.1},
         "The value of the output cfg (no unit, 0 to 30)."),
    ]  # fmt: skip
    solver = io.Combo.Input(
        "solver",
        options=[FROM_MODEL["solver"], *SOLVERS],
        default=FROM_MODEL["solver"],
        optional=True,
        advanced=True,
        tooltip="`from model`: as trained. `euler`, `re-noise`, `unipc 2`, `dpm++ 2m`, "
        "`ancestral`, `ddim`: see Diffusion-Forcing Schedule.",
    )
    widgets = [
        kind.Input(
            name,
            default=FROM_MODEL[name],
            optional=True,
            advanced=True,
            tooltip=f"{meaning} {TIP}",
            **bounds,
        )
        for name, kind, bounds, meaning in numbers
    ]
    return [*widgets, solver]
