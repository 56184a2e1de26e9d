"""Splice Rollouts: one shot after another, joined over an overlap."""

from __future__ import annotations

from comfy_api.latest import io

from ...errors import BadInput
from ...stream.lazy.joined import JoinedStream
from ...stream.lazy.splice import Splice
from ...stream.timecode import time_label
from .. import categories, host, sockets
from ..frames.joined import JoinedFrames, check_rate
from ..frames.source import FrameSource
from ..schema import build

MAX_OVERLAP = 256
FADE, CUT = "cross-fade", "best cut"


class SpliceRollouts(io.ComfyNode):
    """Two FRAMES to one, the second after the first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSpliceRollouts",
            display_name="Splice Rollouts",
            category=categories.ROLLOUT,
            description="Joins two shots into one video: the end of the first and the beginning "
            "of the second overlap, which hides the seam. Says how and where.",
            search_aliases=["join", "concatenate", "crossfade", "append video", "transition"],
            inputs=[
                sockets.Frames.Input("first", tooltip="The shot that comes first, with an end."),
                sockets.Frames.Input("second", tooltip="The shot that follows, of the same size."),
                io.Int.Input(
                    "overlap",
                    default=8,
                    min=0,
                    max=MAX_OVERLAP,
                    tooltip="How many frames of both meet, 0 to 256: the last ones of the first "
                    "and the first ones of the second. 0 is a plain cut. Half a second suits most "
                    "cross-fades.",
                ),
                io.Combo.Input(
                    "method",
                    options=[FADE, CUT],
                    default=FADE,
                    tooltip="`cross-fade` mixes the overlap in linear light; `best cut` goes over "
                    "from the one frame to the other where they are most alike, and mixes nothing: "
                    "best for forks, whose overlap looks much the same.",
                ),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, first: FrameSource, second: FrameSource, overlap: int, method: str
    ) -> io.NodeOutput:
        """Nothing is made yet."""
        sources = [first, second]
        check_rate(sources)
        _check(first, second)
        assert first.frame_total is not None
        shorter = min(one.frame_total or first.frame_total for one in sources)
        met = min(overlap, shorter)
        splice = Splice(met, CUT if method == CUT else FADE)
        total = None if second.frame_total is None else first.frame_total + second.frame_total - met
        chunks = JoinedStream([one.chunks for one in sources], splice.made, at_once=False)
        host.show_status(cls.hidden.unique_id, _said(first, met, method, total))
        return io.NodeOutput(JoinedFrames(sources, chunks, (first.width, first.height), total))


def _check(first: FrameSource, second: FrameSource) -> None:
    if first.frame_total is None:
        raise BadInput(
            "The first shot has no end (its length is 0), so nothing can follow it; rewind it or "
            "give it a length."
        )
    sizes = [(one.width, one.height) for one in (first, second)]
    if sizes[0] != sizes[1]:
        raise BadInput(
            f"The shots are {sizes[0][0]}x{sizes[0][1]} and {sizes[1][0]}x{sizes[1][1]}; bring "
            "them to one size with Upscale (Stream)."
        )


def _said(first: FrameSource, met: int, method: str, total: int | None) -> str:
    assert first.frame_total is not None
    starts = time_label((first.frame_total - met) / first.fps)
    how = {
        FADE: f"a cross-fade in linear light over {met} frames from {starts}",
        CUT: f"a cut where the frames are most alike, within {met} frames from {starts}",
    }[method]
    whole = "until Stop" if total is None else f"{total} frames"
    return f"Joined by {how if met else f'a plain cut at {starts}'}; {whole} in all."
