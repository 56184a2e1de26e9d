"""The chunks and rows that stand for all others of a shot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from ...attention.cache.policy import capacity
from ..guidance import AgeRange, Guidance
from ..guidance.terms import weights_by_view
from ..loop import by_chunk
from ..schedule.row import Row
from ..settings import RolloutSettings

PLAIN = Guidance()
CHUNKS_BACK = 64
"""Chunks of which one leads a full row, but for the strangest fractions of a row between them."""


def typical_rows(settings: RolloutSettings) -> list[Row]:
    """The rows of the second generated chunk, or of the only one; a first one may take more steps.

    Empty if all latent frames are given.
    """
    chunks = [*islice(by_chunk(settings.noise_rows(settings.origin)), 2)]
    return chunks[-1] if chunks else []


def frames_before(settings: RolloutSettings) -> int:
    """The latent frame with the longest history of those that may lead a full row."""
    chunk, active = settings.schedule.chunk_frames, settings.active_frames
    base, length = settings.chunk_base, settings.length
    most = capacity(settings.cache, settings.length)
    if length is not None:
        most = max(0, length - active)
    elif settings.cache.limit is None:
        most -= active
    chunks = -(-(most - base) // chunk) if length is None else (most - base) // chunk
    return max(0 if settings.origin == length else settings.origin, base + chunks * chunk)


def leading_frames(settings: RolloutSettings) -> list[int]:
    """The latent frame that `frames_before` tells, and the last one up to it that leads a full row.

    Where chunks start a fraction of a row apart, not every one does. Where the window is not full
    by then, also the last one of all, which has a longer history and fewer frames in work.
    """
    longest = first = frames_before(settings)
    most = settings.schedule.active_frames(settings.length, settings.origin)
    for _ in range(CHUNKS_BACK):
        rows = next(by_chunk(settings.noise_rows(first)))
        if first <= settings.origin or len(fullest(rows, 1)[0].frames) >= most:
            break
        first = settings.chunk_start(first - 1)
    return sorted({first, longest, *_last_leading(settings, longest)})


def _last_leading(settings: RolloutSettings, longest: int) -> list[int]:
    """The latent frame that leads the last chunk, if the window is not full before `longest`."""
    if settings.length is None or longest >= capacity(settings.cache, settings.length):
        return []
    return [row.first for row in _last_two_finishes(settings)][-1:]


def first_with_history(settings: RolloutSettings) -> list[int]:
    """The first latent frames of two chunks: the first with a history, and the first whose history
    is long enough for each view to see another part of it, or else the last.
    """
    enough, later = enough_history(settings), list[int]()
    for first in (rows[0].first for rows in by_chunk(settings.noise_rows())):  # perhaps endless
        later += [first] if first else []
        if first >= enough:
            break
    return sorted({*later[:1], *later[-1:]})


def enough_history(settings: RolloutSettings) -> int:
    """The latent frames of history from which on each view sees another part of it."""
    views = [branch.view.frames for branch in settings.guidance.all_branches]
    ages = (view.oldest for view in views if isinstance(view, AgeRange))
    return 1 + max(settings.cache.sink_frames, *ages, 0)


def fullest(rows: Sequence[Row], count: int, guidance: Guidance = PLAIN) -> list[Row]:
    """So many neighbouring `rows` of a chunk, from the first with the largest pass on.

    A pass has each active latent frame once for each branch that `guidance` evaluates together, and
    guidance acts in some of the rows.
    """
    sizes = [len(row.frames) * _branches_of_pass(guidance, row) for row in rows]
    at = max(0, min(sizes.index(max(sizes)), len(rows) - count))
    return [*rows[at : at + count]]


def _branches_of_pass(guidance: Guidance, row: Row) -> int:
    """The most branches that a pass of `row` evaluates together."""
    steps = zip(row.now, row.steps, strict=True)
    weights = [guidance.weights(*step, started=row.first > 0) for step in steps]
    inputs = weights_by_view(guidance, weights, row.now, lambda branch: branch.inputs)
    together = Counter(skipped and skipped.layers for _, _, skipped in inputs)
    return max(together.values()) if guidance.in_one_pass else 1


def last_commit(settings: RolloutSettings) -> tuple[int, int] | None:
    """First latent frame and number of those that are committed at the end; None if none are.

    Where chunks start less than a row apart, as many as any commit of the shot has.
    """
    most, length, chunk = _most_committed(settings), settings.length, settings.schedule.chunk_frames
    if length is None:
        return frames_before(settings), most
    finishes = _last_two_finishes(settings)
    if len(finishes) < 2:
        return None
    last = (length - most - settings.chunk_base) // chunk * chunk + settings.chunk_base
    return max(0, min(finishes[-2].first, last)), most


def _most_committed(settings: RolloutSettings) -> int:
    """The most latent frames that become clean together before a shot's last ones do.

    Chunks that start less than a row apart do so at the beginning, but for a first one of its own
    steps. The first rows know, since later ones may take long to have as many again.
    """
    starts = {0, settings.origin}  # given frames, and the first generated ones
    finishes = [islice(filter(_finishes, settings.noise_rows(first)), 3) for first in starts]
    ends = [(row.first + row.finished, row.finished) for rows in finishes for row in rows]
    return max((count for end, count in ends if end != settings.length), default=0)


def _finishes(row: Row) -> bool:
    return row.finished > 0


def _last_two_finishes(settings: RolloutSettings) -> list[Row]:
    """The rows in which the last latent frames of a shot become clean: two, if it has as many."""
    assert settings.length is not None
    start = settings.schedule.before_two_finishes(settings.length, settings.origin)
    rows = settings.noise_rows(start if start > settings.origin else 0)
    return [row for row in rows if row.finished]
