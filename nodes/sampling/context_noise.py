"""Context Noise: noise on finished frames that grows with age or is fresh for each chunk."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ...samplers.schedule.context_noise import ContextNoise
from .. import categories, sockets
from ..schema import build
from .schedule_spec import ScheduleSettings, ScheduleSpec


class ContextNoiseSettings(io.ComfyNode):
    """A context noise that depends on age, or is fresh for every chunk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeContextNoise",
            display_name="Context Noise",
            category=categories.SAMPLE,
            description="Sets how noisy finished frames look to the model. With a ramp or fresh "
            "noise, the whole window is recomputed before each chunk.",
            search_aliases=["noise augmentation", "stabilization", "history noise"],
            inputs=[
                sockets.Schedule.Input("schedule", tooltip="From Diffusion-Forcing Schedule."),
                *_noise(),
            ],
            outputs=[sockets.Schedule.Output(display_name="schedule")],
        )

    @classmethod
    def execute(
        cls,
        schedule: ScheduleSpec | ScheduleSettings,
        level: float,
        ramp_frames: int,
        fresh: bool,
    ) -> io.NodeOutput:
        """Replace the context noise of the schedule."""
        return io.NodeOutput(
            replace(schedule, context_noise=ContextNoise(level, ramp_frames, fresh))
        )


def _noise() -> list[io.Input]:
    return [
        io.Float.Input(
            "level",
            default=0.1,
            min=0.0,
            max=0.9,
            step=0.01,
            tooltip="Noise level of finished frames, 0 to 0.9. The model is told the level.",
        ),
        io.Int.Input(
            "ramp_frames",
            default=0,
            min=0,
            max=4096,
            tooltip="Age in latent frames, 0 to 4096, at which `level` is reached; younger frames "
            "are proportionally cleaner. 0: the same for all ages.",
        ),
        io.Boolean.Input(
            "fresh",
            default=False,
            tooltip="On: new noise for each chunk. Off: every frame keeps its noise.",
        ),
    ]
