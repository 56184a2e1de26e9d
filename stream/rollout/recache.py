"""Going on quickly, when that is asked for: only what the window holds is committed again.

A replay commits all finished chunks, and has the uninterrupted run's bits; of an hour of video it
takes minutes. A recache commits those of the sink and of the window alone. Keys and values of deep
layers then do not remember what was evicted, so that what follows is another video, if one much
alike: from there on its chunks have addresses of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ...attention.cache.policy import CachePolicy
from ...errors import Unsupported
from ..journal.chain import Chain

Resume = Literal["exact", "recache"]
"""How a shot goes on where no state is kept: with the same bits, or from its window alone."""


def check(resume: Resume, policy: CachePolicy) -> None:
    """Refuse what cannot be made anew from a window."""
    if resume == "recache" and policy.remembers:
        raise Unsupported(
            "resume is recache and the KV cache remembers frames that have left the window",
            "recache",
            cache=policy,
        )


def recached(chain: Chain, index: int) -> Chain | None:
    """The chain whose history is made anew from its window before chunk `index`; None where that
    leaves nothing out.
    """
    settings, first = chain.settings, chain.span(index).first
    if settings.cache.limit is None or first <= settings.cache.limit:
        return None
    marked = replace(settings, recached=(*settings.recached, first))
    return chain.branched(index, marked)


def since(chain: Chain, index: int) -> int:
    """The chunk at which the history that chunk `index` sees was last made anew; 0 where never."""
    first = chain.span(index).first
    marks = [mark for mark in chain.settings.recached if mark <= first]
    return chain.chunk_at(marks[-1]) if marks else 0


def committed_again(chain: Chain, index: int) -> Sequence[int]:
    """The chunks to commit before chunk `index` where nothing is kept of the state: all since the
    history was last made anew, and then those of the sink and of the window.
    """
    mark = since(chain, index)
    policy, at = chain.settings.cache, chain.span(mark).first
    if not mark or policy.limit is None:
        return range(index)
    newest = at - (policy.limit - policy.sink_frames)
    spans = (chain.span(i) for i in range(mark))
    seen = [i for i, span in enumerate(spans)
            if span.first < policy.sink_frames or span.first + span.count > newest]  # fmt: skip
    return [*seen, *range(mark, index)]
