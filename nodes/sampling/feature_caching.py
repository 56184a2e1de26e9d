"""Feature Caching (Stream): steps that change little take over the work of the step before."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ...samplers.feature_caching import FeatureCaching
from .. import categories, sockets
from ..schema import build
from .schedule_spec import ScheduleSettings, ScheduleSpec


class FeatureCachingNode(io.ComfyNode):
    """A schedule whose steps may be replaced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeFeatureCaching",
            display_name="Feature Caching (Stream)",
            category=categories.SAMPLE,
            description="Makes models of 20 to 50 steps faster: a step that changes little takes "
            "over what the transformer did in the step before. Models of few steps gain nothing.",
            search_aliases=["teacache", "flowcache", "easycache", "speed", "faster", "skip steps"],
            inputs=[
                sockets.Schedule.Input(
                    "schedule", tooltip="From Diffusion-Forcing Schedule or Settings From Model."
                ),
                *_limits(),
            ],
            outputs=[sockets.Schedule.Output(display_name="schedule")],
        )

    @classmethod
    def execute(
        cls, schedule: ScheduleSpec | ScheduleSettings, threshold: float, first_steps: int
    ) -> io.NodeOutput:
        """Add feature caching to the schedule, or take it away."""
        caching = FeatureCaching(threshold, first_steps) if threshold else None
        return io.NodeOutput(replace(schedule, feature_caching=caching))


def _limits() -> list[io.Input]:
    return [
        io.Float.Input(
            "threshold",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How far the picture may change until the model computes again (no unit, 0 to "
            "1, a share of its size). More is faster and further from the full video. 0: off.",
        ),
        io.Int.Input(
            "first_steps",
            default=1,
            min=1,
            max=100,
            advanced=True,
            tooltip="Number of first steps of each chunk that are always computed, 1 to 100. The "
            "last one always is.",
        ),
    ]
