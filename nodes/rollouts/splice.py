"""Splice Rollouts: join two shots over an overlap, or the end of one to its own beginning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from comfy_api.latest import io

from ...errors import BadInput
from ...stream.lazy.splice import Splice
from ...stream.timecode import time_label
from ...stream.work_meter import WorkMeter
from ...units import count_of
from .. import categories, host, sockets
from ..frames.joined import JoinedFrames, Uses, check_rate, planned_chunk
from ..frames.pictures import all_to_frames, frames_input
from ..frames.source import FrameSource, stage_works
from ..schema import build

MAX_OVERLAP = 256
FADE, CUT = "cross-fade", "best cut"


class SpliceRollouts(io.ComfyNode):
    """Two FRAMES to one FRAMES, the second after the first; or one that repeats."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSpliceRollouts",
            display_name="Splice Rollouts",
            category=categories.ROLLOUT,
            description="Joins two shots into one video, or makes one shot repeat without a seam. "
            "The end of the first overlaps the start of the second, which hides the seam.",
            search_aliases=[
                "join",
                "concatenate",
                "crossfade",
                "append video",
                "transition",
                "seamless loop",
                "loop video",
            ],
            inputs=[
                frames_input("first", "The first shot; it must have an end."),
                frames_input(
                    "second",
                    "The second shot, of the same size. Left open: the end of the first overlaps "
                    "its own start, and the video repeats without a seam.",
                    optional=True,
                ),
                io.Int.Input(
                    "overlap",
                    default=8,
                    min=0,
                    max=MAX_OVERLAP,
                    tooltip="Number of overlapping frames, 0 to 256. 0: a plain cut. Half a second "
                    "suits most cross-fades.",
                ),
                io.Combo.Input(
                    "method",
                    options=[FADE, CUT],
                    default=FADE,
                    tooltip="`cross-fade`: mixes the overlap in linear light. `best cut`: switches "
                    "at the two most similar frames and mixes nothing; best for forks, whose "
                    "overlaps look alike.",
                ),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, first: FrameSource, overlap: int, method: str, second: FrameSource | None = None
    ) -> io.NodeOutput:
        """Join the streams; chunks are made when an output asks for them."""
        if second is None:
            return cls._loop(first, overlap, method)
        first, second = sources = all_to_frames([first, second])
        check_rate(sources)
        _check(first, second)
        assert first.frame_total is not None
        shorter = min(source.frame_total or first.frame_total for source in sources)
        shared = min(overlap, shorter)
        splice = Splice(shared, CUT if method == CUT else FADE)
        total = (
            None if second.frame_total is None else first.frame_total + second.frame_total - shared
        )
        host.show_status(cls.hidden.unique_id, _summary(first, shared, method, total))
        return io.NodeOutput(SplicedFrames(sources, splice, total))

    @classmethod
    def _loop(cls, shot: FrameSource, overlap: int, method: str) -> io.NodeOutput:
        """Join the end of a shot to its own beginning."""
        [shot] = all_to_frames([shot])
        total = _check_end(shot, "it cannot repeat")
        shared = min(overlap, total // 2)
        if not shared:
            raise BadInput(
                "Without a second shot, the first one repeats, and its ends need an `overlap` of 1 "
                "frame or more."
            )
        frames = LoopedFrames(shot, Splice(shared, CUT if method == CUT else FADE), total)
        host.show_status(
            cls.hidden.unique_id,
            f"Repeats without a seam: {_seam(method, shared, (total - 2 * shared) / shot.fps)}; "
            f"{count_of(total - shared, 'frame')} in all.",
        )
        return io.NodeOutput(frames)


class SplicedFrames(JoinedFrames):
    """One shot after another; the second one begins at frame `second_from`."""

    reads_at_once = False

    def __init__(self, sources: Sequence[FrameSource], splice: Splice, total: int | None) -> None:
        first, second = sources
        join = partial(splice.join, partial(_let_end_empty, second))
        super().__init__(sources, join, (first.width, first.height), total)
        self.identity, self._overlap = str(splice), splice.overlap
        self.second_from = first.frame_total - splice.overlap

    def planned_uses(self, index: int) -> Uses | None:
        """A piece for each chunk of the first shot from frame `overlap` on; the next piece has the
        second shot's chunks up to the overlap's end.
        """
        if self._places is None:
            return None
        begin, end, seam = self._places
        alone = end - begin  # pieces of the first shot only
        return (begin + index + 1, 0) if index < alone else (end, seam + 1 + index - alone)

    def planned_piece(self, frame: int) -> int | None:
        first, second = self.sources
        since = frame - self.second_from
        chunk = planned_chunk(*((first, frame + self._overlap) if since < 0 else (second, since)))
        if self._places is None or chunk is None:
            return None
        begin, end, seam = self._places
        return chunk - begin if since < 0 else end - begin + max(chunk - seam, 0)

    @property
    def _places(self) -> tuple[int, int, int] | None:
        """The first shot's chunk with frame `overlap`, its number of chunks, and the second shot's
        chunk with the overlap's last frame; None where one is unknown.
        """
        first, second = self.sources
        last = planned_chunk(first, first.frame_total - 1)
        seam = planned_chunk(second, max(self._overlap - 1, 0))
        if last is None or seam is None:
            return None
        begin = planned_chunk(first, self._overlap) if self.second_from else last + 1
        return begin, last + 1, seam

    @property
    def stage_works(self) -> tuple[WorkMeter, ...]:
        """The times of the stages of the first shot that has any: each works for its own video."""
        return next(filter(None, map(stage_works, self.sources)), ())

    def seed_of(self, frame: int) -> int | None:
        """That of the shot that frame number `frame` comes from."""
        first, second = self.sources
        since = frame - self.second_from
        return first.seed_of(frame) if since < 0 else second.seed_of(since)


class LoopedFrames(JoinedFrames):
    """A shot from frame `overlap` on, whose end leads back to there."""

    def __init__(self, shot: FrameSource, splice: Splice, frames: int) -> None:
        self.identity, self._overlap, self._frames = f"loop {splice}", splice.overlap, frames
        size, total = (shot.width, shot.height), frames - splice.overlap
        super().__init__([shot], splice.join_ends, size, total)

    def planned_uses(self, index: int) -> Uses | None:
        """A piece for each chunk from frame 2 x `overlap` on; the last piece needs all of them."""
        if self._places is None:
            return None
        begin, end = self._places
        return (min(begin + index + 1, end),) if index <= end - begin else None

    def planned_piece(self, frame: int) -> int | None:
        if self._places is None:
            return None
        begin, end = self._places
        if frame >= self._frames - 2 * self._overlap:
            return end - begin
        chunk = planned_chunk(self.sources[0], frame + 2 * self._overlap)
        return None if chunk is None else chunk - begin

    @property
    def _places(self) -> tuple[int, int] | None:
        """The shot's chunk with frame 2 x `overlap`, and its number of chunks; None if unknown."""
        [shot] = self.sources
        last = planned_chunk(shot, self._frames - 1)
        if last is None:
            return None
        is_short = 2 * self._overlap >= self._frames
        begin = last + 1 if is_short else planned_chunk(shot, 2 * self._overlap)
        return None if begin is None else (begin, last + 1)

    def seed_of(self, frame: int) -> int | None:
        """That of the shot at its own time."""
        return self.sources[0].seed_of(frame + self._overlap)


def _let_end_empty(shot: FrameSource) -> None:
    """Let a stop leave out a shot whose video has pictures of another one before it."""
    for run in shot.controls.members:
        run.may_be_empty = True


def _check_end(first: FrameSource, effect: str) -> int:
    """The number of frames of the first shot, which must have an end."""
    if first.frame_total is None:
        raise BadInput(
            f"The first shot has no end (its length is 0), so {effect}; rewind it, or set a length."
        )
    return first.frame_total


def _check(first: FrameSource, second: FrameSource) -> None:
    _check_end(first, "nothing can follow it")
    sizes = [(shot.width, shot.height) for shot in (first, second)]
    if sizes[0] != sizes[1]:
        raise BadInput(
            f"The shots are {sizes[0][0]}x{sizes[0][1]} and {sizes[1][0]}x{sizes[1][1]}; give "
            "them one size with Upscale (Stream)."
        )


def _summary(first: FrameSource, shared: int, method: str, total: int | None) -> str:
    assert first.frame_total is not None
    seam = _seam(method, shared, (first.frame_total - shared) / first.fps)
    whole = "until Stop" if total is None else count_of(total, "frame")
    return f"Joined by {seam}; {whole} in all."


def _seam(method: str, shared: int, start_s: float) -> str:
    """How the pictures change over, and from which time on."""
    starts, frames = time_label(start_s), count_of(shared, "frame")
    if not shared:
        return f"a plain cut at {starts}"
    return {
        FADE: f"a cross-fade in linear light over {frames} from {starts}",
        CUT: f"a cut where the frames are most alike, within {frames} from {starts}",
    }[method]
