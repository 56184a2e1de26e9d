"""Feature caching in words, for the plan and the report."""

from __future__ import annotations

from ..feature_caching import Evaluations
from ..settings import RolloutSettings
from .chunk_rows import typical_rows


def describe_caching(settings: RolloutSettings) -> str | None:
    """What feature caching can save at most, a sentence; None without it or without steps."""
    caching, rows = settings.feature_caching, typical_rows(settings)
    if caching is None or not rows:
        return None
    count = caching.replaceable(rows)
    if not count:
        return (
            "Feature caching saves nothing here: every step is a chunk's first or last; take more "
            "steps, or leave it out."
        )
    return (
        f"Feature caching at {caching.threshold:g} replaces up to {count} of the {len(rows)} steps "
        "of a chunk; the report tells how many it replaced."
    )


def describe_replaced(settings: RolloutSettings, evaluations: Evaluations) -> str | None:
    """How many model evaluations feature caching has replaced; None without it."""
    caching = settings.feature_caching
    if caching is None:
        return None
    count = evaluations.computed + evaluations.replaced
    return (
        f"threshold {caching.threshold:g}: {evaluations.replaced} of {count} model evaluations "
        "replaced"
    )
