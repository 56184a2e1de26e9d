"""Settings From Model: what a model was trained to run with, for the nodes that ask for it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..samplers.cache_settings import CacheSettings
from ..samplers.context_noise import ContextNoise
from ..samplers.preset_schedule import preset_cache, preset_schedule
from ..samplers.schedule_options import solver_for
from . import host, sockets
from .model_facts import facts
from .schedule import ScheduleSettings
from .schema import build


class SettingsFromModel(io.ComfyNode):
    """MODEL to schedule, cache, guidance and picture size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeModelSettings",
            display_name="Settings From Model",
            category=sockets.CATEGORY,
            description="The schedule, KV cache, guidance and picture size that the model's family "
            "was trained with, as its authors publish them. Replace any of them by a node of your "
            "own; what was assumed stands under the node.",
            search_aliases=["preset", "defaults", "self forcing settings"],
            inputs=[
                io.Model.Input("model", tooltip="From Load Causal Video Model, or any Wan loader.")
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
    def execute(cls, model: Any) -> io.NodeOutput:
        """Read the row of the model's family."""
        known = facts(model)
        preset = known.preset
        host.say(cls.hidden.unique_id, f"{known.family.title}: {known.why}.")
        if preset.note:
            host.warn(cls.hidden.unique_id, f"{known.family.title}: {preset.note}.")
        schedule = ScheduleSettings(
            preset_schedule(preset),
            solver_for(preset.solver),
            ContextNoise(preset.context_noise),
        )
        return io.NodeOutput(
            schedule,
            CacheSettings(preset_cache(preset)),
            preset.guidance_scale,
            preset.width,
            preset.height,
        )
