"""FRAMES made of several FRAMES: what outputs ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import BadInput
from ..stream.album import Album
from ..stream.frames import FrameChunk
from ..stream.joined import JoinedStream
from ..stream.metrics import Meter, Report
from ..stream.take_record import Plan
from .streams import HostFrames


class JoinedFrames(HostFrames):
    """Frames of several sources as one; plan, controls and measurements are the first one's."""

    def __init__(
        self,
        sources: Sequence[HostFrames],
        chunks: JoinedStream[FrameChunk, FrameChunk],
        size: tuple[int, int],
        total: int | None,
    ) -> None:
        first = sources[0]
        super().__init__(first.rollout, first.open_decoder, first.fps)
        self.sources = sources
        self.chunks = chunks
        self.album = Album()
        self._size, self._total = size, total

    @property
    def chunk_count(self) -> int | None:
        """Known only where the recipe says so."""
        return self.chunks.length

    @property
    def frame_total(self) -> int | None:
        """How many pictures there will be."""
        return self._total

    @property
    def plan_only(self) -> bool:
        """Whether nothing is made of any source."""
        return any(source.plan_only for source in self.sources)

    @property
    def plan(self) -> Plan:
        """What was to be expected of the first source."""
        return self.sources[0].plan

    @property
    def width(self) -> int:
        """Picture width in pixels."""
        return self._size[0]

    @property
    def height(self) -> int:
        """Picture height in pixels."""
        return self._size[1]

    @property
    def meter(self) -> Meter | None:
        """What the making of the first source's chunks measured."""
        return self.sources[0].meter

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        models = [model for source in self.sources for model in source.get_models()]
        return [model for i, model in enumerate(models) if model not in models[:i]]

    def report(self, output_files: list[str]) -> Report:
        """The facts about the first source's run so far, with the size of these frames."""
        return replace(self.sources[0].report(output_files), width=self.width, height=self.height)


def check_rate(sources: Sequence[HostFrames]) -> None:
    """Refuse videos of different frame rates."""
    rates = sorted({source.fps for source in sources})
    if len(rates) > 1:
        raise BadInput(
            f"The videos have {rates[0]:g} and {rates[-1]:g} frames a second; give ones of the "
            "same rate."
        )
