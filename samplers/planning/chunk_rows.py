"""The rows of a chunk that stands for all others."""

from __future__ import annotations

from itertools import islice

from ..loop import by_chunk
from ..schedule.row import Row
from ..settings import RolloutSettings


def typical_rows(settings: RolloutSettings) -> list[Row]:
    """The rows of the second generated chunk, or of the only one; a first one may take more steps.

    Empty if all latent frames are given.
    """
    chunks = [*islice(by_chunk(settings.noise_rows(settings.origin)), 2)]
    return chunks[-1] if chunks else []
