"""Rewind Rollout and Continue Rollout: a shorter and a longer one of the same shot."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...errors import BadInput
from ...model.vae.latent_format import FRAMES_PER_LATENT
from ...stream.rollout.fork import continued
from ...stream.timecode import time_label
from .. import categories, host, sockets
from ..length import MAX_SECONDS
from ..runtime.host_rollout import HostRollout
from ..runtime.session import session
from ..schema import build
from .derive import chunk_near, derive_rollout, first_frame, time_of


class RewindRollout(io.ComfyNode):
    """ROLLOUT to a shorter ROLLOUT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeRewindRollout",
            display_name="Rewind Rollout",
            category=categories.ROLLOUT,
            description="The same shot up to a time, to fork it or go on from there. What is cut "
            "off stays on disk; nothing is made again.",
            search_aliases=["trim", "undo", "cut", "shorten", "go back"],
            inputs=[
                sockets.Rollout.Input("rollout", tooltip="The shot to rewind."),
                io.Float.Input(
                    "to",
                    default=5.0,
                    min=0.0,
                    max=float(MAX_SECONDS),
                    step=0.01,
                    tooltip="Where it ends now, in seconds from the start, 0 to "
                    f"{MAX_SECONDS:,}; the chunk that ends nearest is the last one, and "
                    "one chunk always stays.",
                ),
            ],
            outputs=[sockets.Rollout.Output(display_name="rollout")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, rollout: HostRollout, to: float) -> io.NodeOutput:
        """The same settings, cut."""
        cut = max(1, chunk_near(rollout, to, "to"))
        rewound = derive_rollout(rollout, rollout.settings, cls.hidden.unique_id, cut=cut)
        ends = time_label(time_of(rollout, first_frame(rollout, cut)))
        host.show_status(cls.hidden.unique_id, f"Rewound to {ends}, after {cut} chunks.")
        return io.NodeOutput(rewound)

    @classmethod
    def fingerprint_inputs(cls, **widgets: Any) -> int:
        """As the sampler's: after a stop or live edits it is to be run again."""
        return session.times_altered(cls.hidden.unique_id)


class ContinueRollout(io.ComfyNode):
    """ROLLOUT to a longer ROLLOUT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeContinueRollout",
            display_name="Continue Rollout",
            category=categories.ROLLOUT,
            description="The same shot, longer: it goes on where the given one ends, under the "
            "prompt that is in force there. What exists is not made again.",
            search_aliases=["extend", "longer", "resume", "append", "go on"],
            inputs=[
                sockets.Rollout.Input(
                    "rollout", tooltip="The shot to go on with: new, loaded, rewound or forked."
                ),
                io.Float.Input(
                    "more",
                    default=5.0,
                    min=0.01,
                    max=float(MAX_SECONDS),
                    step=0.01,
                    tooltip="How much longer it becomes, in seconds, 0.01 to "
                    f"{MAX_SECONDS:,}, up to whole chunks.",
                ),
            ],
            outputs=[sockets.Rollout.Output(display_name="rollout")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, rollout: HostRollout, more: float) -> io.NodeOutput:
        """The same settings, longer."""
        end = rollout.latent_frames
        if end is None:
            raise BadInput(
                "The rollout has no end (its length is 0), so it goes on anyway; rewind it first "
                "to go on from an earlier time."
            )
        added = max(1, round(more * rollout.fps / FRAMES_PER_LATENT))
        settings = continued(rollout.settings, end, added)
        longer = derive_rollout(rollout, settings, cls.hidden.unique_id)
        return io.NodeOutput(longer)

    @classmethod
    def fingerprint_inputs(cls, **widgets: Any) -> int:
        """As the sampler's: after a stop or live edits it is to be run again."""
        return session.times_altered(cls.hidden.unique_id)
