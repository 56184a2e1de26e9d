"""KV Cache Settings and Diffusion-Forcing Schedule: how much past the model sees, and how noise
falls.
"""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io

from ..attention.kv_cache import FullHistory, WindowSink
from ..errors import BadInput
from ..model.preset import DEMO
from ..samplers.ladder import flow_ladder
from ..samplers.schedule import NoiseSchedule, causal_chunks
from ..samplers.solvers import Euler, ReNoise, Solver
from . import sockets
from .schema import build

WINDOW, FULL = "window + sink", "full"
EULER, RENOISE = "euler", "re-noise"


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """The value of a NOISE_SCHEDULE socket."""

    schedule: NoiseSchedule
    solver: Solver
    context_noise: float

    @property
    def chunk_frames(self) -> int:
        """Latent frames that are made together."""
        return self.schedule.chunk_frames


class KVCacheSettings(io.ComfyNode):
    """How many finished latent frames the model may look back at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeKVCacheSettings",
            display_name="KV Cache Settings",
            category=sockets.CATEGORY,
            description="How much of the past the model sees. A longer window remembers more and "
            "costs memory and time.",
            search_aliases=["window", "sink", "context length", "memory"],
            inputs=[
                io.Combo.Input(
                    "policy",
                    options=[WINDOW, FULL],
                    default=WINDOW,
                    tooltip="`window + sink` keeps memory constant however long the shot; `full` "
                    "keeps every latent frame and grows with the length: only for short shots.",
                ),
                io.Int.Input(
                    "window_frames",
                    default=DEMO.window_frames,
                    min=1,
                    max=4096,
                    tooltip="Latent frames kept, 1 to 4096, sink included (one is 4 frames of "
                    "video). Raise it for models that remember far back; lower it for speed and "
                    "memory. The demo model gains nothing above the default. Not used by `full`.",
                ),
                io.Int.Input(
                    "sink_frames",
                    default=DEMO.sink_frames,
                    min=0,
                    max=4095,
                    tooltip="How many of the very first latent frames are never dropped, 0 to "
                    "4095. 1 to 3 can steady long shots of distilled models; 0 for the demo. Not "
                    "used by `full`.",
                ),
            ],
            outputs=[sockets.KVCache.Output(display_name="kv_cache")],
        )

    @classmethod
    def execute(cls, policy: str, window_frames: int, sink_frames: int) -> io.NodeOutput:
        """The cache policy."""
        if policy == FULL:
            return io.NodeOutput(FullHistory())
        if sink_frames >= window_frames:
            raise BadInput(
                f"sink_frames is {sink_frames} and window_frames {window_frames}; the sink is part "
                "of the window and must be smaller."
            )
        return io.NodeOutput(WindowSink(window_frames, sink_frames))


class DiffusionForcingSchedule(io.ComfyNode):
    """Chunks, steps and noise levels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeSchedule",
            display_name="Diffusion-Forcing Schedule",
            category=sockets.CATEGORY,
            description="Chunk by chunk: how many latent frames are made together, and by which "
            "steps their noise falls.",
            search_aliases=["sigmas", "scheduler", "shift", "steps"],
            inputs=[
                io.Int.Input(
                    "chunk_frames",
                    default=DEMO.chunk_frames,
                    min=1,
                    max=8,
                    tooltip="Latent frames made together, 1 to 8 (one is 4 frames of video). Must "
                    "suit the model: the demo knows 1 and 3. Fewer show up sooner and react to a "
                    "prompt sooner.",
                ),
                io.Int.Input(
                    "steps",
                    default=DEMO.steps,
                    min=1,
                    max=100,
                    tooltip="Model evaluations per chunk, 1 to 100. 4 is enough for the demo and "
                    "for distilled models; undistilled ones want 20 to 50.",
                ),
                io.Float.Input(
                    "shift",
                    default=DEMO.shift,
                    min=0.01,
                    max=100.0,
                    step=0.1,
                    tooltip="How much of the steps goes to high noise (no unit, 0.01 to 100; 1 is "
                    "even). Demo 2; Wan-sized pictures 5 to 8.",
                ),
                io.Combo.Input(
                    "solver",
                    options=[EULER, RENOISE],
                    default=EULER,
                    tooltip="`euler` for the demo and undistilled models; `re-noise` for few-step "
                    "distilled models (Self-Forcing, Causal-Forcing, LongLive).",
                ),
                io.Float.Input(
                    "context_noise",
                    default=DEMO.context_noise,
                    min=0.0,
                    max=0.9,
                    step=0.01,
                    tooltip="Noise level, 0 to 0.9, at which finished frames enter the history. A "
                    "little (0.05) can keep a model that was trained for it from drifting.",
                ),
            ],
            outputs=[sockets.Schedule.Output(display_name="schedule")],
        )

    @classmethod
    def execute(
        cls, chunk_frames: int, steps: int, shift: float, solver: str, context_noise: float
    ) -> io.NodeOutput:
        """The schedule, its solver and the context noise."""
        if not 0 <= context_noise < 1:
            raise BadInput(f"context_noise is {context_noise}; it must be from 0 to 0.9.")
        schedule = causal_chunks(flow_ladder(steps, shift), chunk_frames)
        made = ScheduleSettings(
            schedule, ReNoise() if solver == RENOISE else Euler(), context_noise
        )
        return io.NodeOutput(made)
