"""KV Cache Settings: how much past the model sees."""

from __future__ import annotations

from comfy_api.latest import io

from ..attention.cache_policy import FullHistory, WindowSink
from ..errors import BadInput
from ..model.preset import DEMO
from ..samplers.cache_settings import CacheSettings
from . import sockets
from .schema import build

WINDOW, FULL = "window + sink", "full"


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
            return io.NodeOutput(CacheSettings(FullHistory()))
        if sink_frames >= window_frames:
            raise BadInput(
                f"sink_frames is {sink_frames} and window_frames {window_frames}; the sink is part "
                "of the window and must be smaller."
            )
        return io.NodeOutput(CacheSettings(WindowSink(window_frames, sink_frames)))
