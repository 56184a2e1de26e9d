"""History views that come down to something else, since the window is too short for them."""

from __future__ import annotations

from .guidance import Ages
from .held import held_at_last
from .settings import RolloutSettings


def idle_views(settings: RolloutSettings) -> list[str]:
    """What of the guidance sees all of the window, or nothing at all, once that is full; a sentence
    each.
    """
    cache, frames = settings.cache, [frame for frame, _ in held_at_last(settings)]
    if cache.limit is None or len(frames) < cache.limit:
        return []
    found = []
    for view in dict.fromkeys(branch.view for branch in settings.guidance.summed):
        seen = view.seen
        if not isinstance(seen, Ages):
            continue
        ranks = seen.ranks(frames, cache.sink_frames)
        if not ranks:
            found.append(
                f"Guidance by {seen} sees nothing: that is older than the window of {cache.limit} "
                "latent frames; choose a nearer range or a longer window."
            )
        elif len(ranks) == len(frames) and view.level == 0 and not view.exact:
            found.append(
                f"Guidance by {seen} changes nothing: that is all of the window of {cache.limit} "
                "latent frames; choose fewer (short_frames, oldest) or a longer window."
            )
    return found
