"""FRAMES made of several FRAMES: what outputs ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import BadInput
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.joined import JoinedStream
from .decoded import HostFrames
from .source import DerivedFrames, FrameSource


class JoinedFrames(DerivedFrames):
    """Frames of several sources as one; plan, controls and measurements are those of the first one
    that is generated.
    """

    def __init__(
        self,
        sources: Sequence[FrameSource],
        chunks: JoinedStream[FrameChunk, FrameChunk],
        size: tuple[int, int],
        total: int | None,
    ) -> None:
        made = (source for source in sources if not _is_given(source))
        super().__init__(next(made, sources[0]), chunks)
        self.sources = sources
        self.width, self.height = size
        self._total = total

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

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        models = [model for source in self.sources for model in source.get_models()]
        return [model for i, model in enumerate(models) if model not in models[:i]]


def check_rate(sources: Sequence[FrameSource]) -> None:
    """Refuse videos of different frame rates."""
    rates = sorted({source.fps for source in sources})
    if len(rates) > 1:
        raise BadInput(
            f"The videos have {rates[0]:g} and {rates[-1]:g} frames a second; give ones of the "
            "same rate."
        )


def _is_given(source: FrameSource) -> bool:
    """Whether the frames come from a file, and not from a rollout."""
    while isinstance(source, DerivedFrames):
        source = source.source
    return not isinstance(source, HostFrames)
