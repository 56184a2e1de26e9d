"""Compare Rollouts: two to four shots side by side, each with a label."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import PIL
from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...stream.lazy.grid import Grid
from ...stream.video.spec import MAX_SIDE
from .. import categories, sockets
from ..frames.decoded import HostFrames
from ..frames.joined import JoinedFrames, Uses, check_rate, planned_chunk
from ..frames.pictures import all_to_frames, frames_input
from ..frames.source import FrameSource
from ..schema import build

MAX_SHOTS = 4
COLUMNS = {"row": MAX_SHOTS, "column": 1, "grid": 2}


class CompareRollouts(io.ComfyNode):
    """Several FRAMES to one FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeCompareRollouts",
            display_name="Compare Rollouts",
            category=categories.ROLLOUT,
            description="Shows two to four shots side by side in one video, each with a "
            "label: forks, seeds, settings. They are made together, chunk by chunk. A shot that "
            "ends early shows its last frame.",
            search_aliases=["side by side", "grid", "ab test", "difference", "versus"],
            inputs=[
                _shot("a"),
                _shot("b"),
                io.Combo.Input(
                    "layout",
                    options=list(COLUMNS),
                    default="row",
                    tooltip="`row`: side by side. `column`: one below the other. `grid`: two per "
                    "row.",
                ),
                io.String.Input(
                    "labels",
                    multiline=True,
                    default="",
                    tooltip="One line per shot, drawn in its upper left corner. Without a line, "
                    "the label is the shot's letter; a line with one space draws none.",
                ),
                _shot("c", optional=True),
                _shot("d", optional=True),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        frames_a: Tensor | FrameSource,
        frames_b: Tensor | FrameSource,
        layout: str,
        labels: str,
        frames_c: Tensor | FrameSource | None = None,
        frames_d: Tensor | FrameSource | None = None,
    ) -> io.NodeOutput:
        """Join the streams; chunks are made when an output asks for them."""
        shots = {"A": frames_a, "B": frames_b, "C": frames_c, "D": frames_d}
        connected = {letter: shot for letter, shot in shots.items() if shot is not None}
        sources = all_to_frames(list(connected.values()))
        check_rate(sources)
        columns = min(COLUMNS[layout], len(sources))
        texts = _labels(labels, list(connected))
        grid = Grid(texts, sources[0].width, sources[0].height, columns)
        _check_size(grid.size)
        totals = [source.frame_total for source in sources]
        total = None if None in totals else max(count for count in totals if count is not None)
        return io.NodeOutput(ComparedFrames(sources, grid, total))


class ComparedFrames(JoinedFrames):
    """Several shots side by side. A piece ends where a chunk of any of them does."""

    def __init__(self, sources: Sequence[FrameSource], grid: Grid, total: int | None) -> None:
        super().__init__(sources, grid.join, grid.size, total, _pieces(sources))
        self.identity = f"{grid} {PIL.__version__}"  # which draws the labels
        self._starts = [0]

    def planned_uses(self, index: int) -> Uses | None:
        """Every shot's chunks up to the one that is shown where the piece starts, or its last."""
        while len(self._starts) <= index:
            if not self._find_start():
                return None
        start = self._starts[index]
        if start == self.frame_total:
            return None
        shown = [planned_chunk(source, _at_most(start, source)) for source in self.sources]
        return None if None in shown else tuple(chunk + 1 for chunk in shown)

    def planned_piece(self, frame: int) -> int | None:
        while self._starts[-1] <= frame:
            if not self._find_start():
                return None
        return bisect_right(self._starts, frame) - 1

    def _find_start(self) -> bool:
        """Note where the next piece starts; False at the end, or where that is unknown."""
        ends = [_chunk_end(source, self._starts[-1]) for source in self.sources]
        known = [end for end in ends if end is not None]
        if not known or None in [planned_chunk(source, 0) for source in self.sources]:
            return False
        self._starts.append(min(known))
        return True


def _at_most(frame: int, source: FrameSource) -> int:
    """The number of a frame, or of the shot's last one."""
    return frame if source.frame_total is None else min(frame, source.frame_total - 1)


def _chunk_end(source: FrameSource, frame: int) -> int | None:
    """The frame after the chunk with frame number `frame`; None after the end, or if unknown."""
    chunk, total, reach = planned_chunk(source, _at_most(frame, source)), source.frame_total, 1
    if chunk is None or (total is not None and frame >= total):
        return None
    while _at_most(frame + reach, source) == frame + reach:
        if planned_chunk(source, frame + reach) != chunk:
            break
        reach *= 2
    frames = range(frame, _at_most(frame + reach, source) + 1)
    return frame + bisect_right(frames, chunk, key=partial(planned_chunk, source))


def _shot(letter: str, *, optional: bool = False) -> io.Input:
    return frames_input(
        f"frames_{letter}",
        f"Shot {letter.upper()}, from VAE Decode (Stream). All shots get the size of A.",
        optional=optional,
    )


def _labels(text: str, letters: Sequence[str]) -> tuple[str, ...]:
    lines = text.splitlines()[: len(letters)]
    lines += [""] * (len(letters) - len(lines))
    return tuple(line.strip() if line else letters[i] for i, line in enumerate(lines))


def _check_size(size: tuple[int, int]) -> None:
    if max(size) > MAX_SIDE:
        raise BadInput(
            f"Together the shots are {size[0]}x{size[1]}, but a video can have at most {MAX_SIDE} "
            "pixels per side; choose another layout, or compare fewer shots."
        )


def _pieces(sources: Sequence[FrameSource]) -> int | None:
    """Count the output chunks: one ends wherever a chunk of any source ends."""
    ends: set[int] = set()
    for source in sources:
        count: Any = source.chunk_count
        if count is None or not isinstance(source, HostFrames):
            return None
        latents = accumulate(source.rollout.span(index).count for index in range(count))
        ends |= set(latents)
    return len(ends)
