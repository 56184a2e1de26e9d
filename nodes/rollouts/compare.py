"""Compare Rollouts: two to four shots side by side, each with a label."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...stream.lazy.grid import Grid
from ...stream.lazy.joined import JoinedStream, from_start
from ...stream.video.spec import MAX_SIDE
from .. import categories, sockets
from ..frames.decoded import HostFrames
from ..frames.joined import JoinedFrames, check_rate
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
        chunks = JoinedStream(
            [source.chunks for source in sources], from_start(grid.join), length=_pieces(sources)
        )  # fmt: skip
        return io.NodeOutput(JoinedFrames(sources, chunks, grid.size, total))


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
