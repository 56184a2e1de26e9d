"""Where a shot turns: the chunks one of which has the most evaluations.

Between two turning points, chunks take steps that repeat and see a history that only grows. So only
those near a turning point need to be counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ..conditioning.known_frame import KnownFrame
from ..guidance import AgeRange
from ..history.steady_state import steady_chunk
from ..settings import RolloutSettings
from .chunk_steps import ChunkSteps


def turning_points(chunks: ChunkSteps, changes: Sequence[int]) -> list[int]:
    """The first latent frames of the chunks near every turning point, in order.

    The prompt changes before the chunks at `changes`.
    """
    s = chunks.settings
    opening = (at for at in (chunks.from_on(0), chunks.from_on(s.origin)) if at is not None)
    sights = {0, *(known.lookahead for known in s.known_frames.frames)}
    points = {
        s.next_chunk(s.origin + 1),
        steady_chunk(s),
        *(change.start_frame for change in s.guidance_changes),
        *_full(s, changes),
        *changes,
        *(at - s.active_frames - sight for at in changes for sight in sights),  # comes into work
    }
    near = (at for point in points for at in chunks.near(point))
    return sorted({*opening, *near, *_of_known_frames(chunks), *chunks.last})


def _full(settings: RolloutSettings, changes: Sequence[int]) -> Iterator[int]:
    """Where the window or the range of a view becomes full."""
    s = settings
    views = [branch.view.frames for branch in s.guidance.all_branches]
    ages = [view.oldest for view in views if isinstance(view, AgeRange)]
    full = [count for count in (s.cache.limit, *ages) if count is not None]
    flushes = changes if s.on_prompt_change == "flush" else ()
    for begin in (0, *(at - 1 - s.cache.sink_frames for at in flushes)):
        yield from (begin + count for count in full)


def _of_known_frames(chunks: ChunkSteps) -> Iterator[int]:
    """The chunks with one end of a run of known frames in work, or with it just in sight."""
    s, size = chunks.settings, chunks.settings.schedule.chunk_frames
    back = -(-chunks.in_work // size)
    for run in _runs(s.known_frames.frames[s.origin :]):
        ends = run[0].frame, run[-1].frame + 1
        for end in ends:
            yield from chunks.near(end, back)
            if run[0].lookahead:
                yield from chunks.near(end - run[0].lookahead, back)
            if s.length is not None:  # the far end of a mirrored shot takes the same steps
                yield from chunks.near(s.origin + s.length - end, back)


def _runs(frames: Sequence[KnownFrame]) -> list[list[KnownFrame]]:
    """Known frames side by side that have one level and are seen as far ahead."""
    alike = groupby(
        enumerate(frames), lambda at: (at[1].frame - at[0], at[1].level, at[1].lookahead)
    )
    return [[known for _, known in run] for _, run in alike]
