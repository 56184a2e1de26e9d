"""Recache: continue quickly, by committing only the chunks that the window still holds.

A replay commits all finished chunks and gives the bits of the uninterrupted run; for an hour of
video it takes minutes. A recache commits only the chunks of the sink and of the window. Keys and
values of deep layers then do not remember evicted frames, so the video that follows is similar but
not the same. Its chunks therefore get addresses of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ...attention.cache.policy import CachePolicy
from ...errors import Unsupported
from ..journal.chain import Chain

Resume = Literal["exact", "recache"]
"""How to continue a shot whose state is lost: with the same bits, or from its window alone."""


def check(resume: Resume, policy: CachePolicy) -> None:
    """Refuse to recache a policy whose cache cannot be rebuilt from a window."""
    if resume == "recache" and policy.remembers:
        raise Unsupported(
            "resume is recache and the KV cache remembers frames that have left the window",
            "recache",
            cache=policy,
        )


def recached_chain(chain: Chain, index: int) -> Chain | None:
    """The chain whose history is rebuilt from its window before chunk `index`.

    None if the window still holds everything, so that a recache would change nothing.
    """
    settings, first = chain.settings, chain.span(index).first
    if settings.cache.limit is None or first <= settings.cache.limit:
        return None
    marked = replace(settings, recache_frames=(*settings.recache_frames, first))
    return chain.branch(index, marked)


def last_rebuild(chain: Chain, index: int) -> int:
    """The chunk at which the history of chunk `index` was last rebuilt; 0 if never."""
    first = chain.span(index).first
    marks = [mark for mark in chain.settings.recache_frames if mark <= first]
    return chain.chunk_at(marks[-1]) if marks else 0


def chunks_to_replay(chain: Chain, index: int) -> Sequence[int]:
    """The chunks to commit before chunk `index` if no state is available.

    These are the chunks of the sink and the window at the last rebuild, then all later ones.
    """
    mark = last_rebuild(chain, index)
    policy, at = chain.settings.cache, chain.span(mark).first
    if not mark or policy.limit is None:
        return range(index)
    newest = at - (policy.limit - policy.sink_frames)
    spans = (chain.span(i) for i in range(mark))
    visible = [i for i, span in enumerate(spans)
               if span.first < policy.sink_frames or span.first + span.count > newest]  # fmt: skip
    return [*visible, *range(mark, index)]
