"""Other guidance for the first chunk of a shot."""

from __future__ import annotations

from dataclasses import replace

from .guidance import Guidance
from .settings import RolloutSettings, TimedGuidance


def with_opening(settings: RolloutSettings, guidance: Guidance) -> RolloutSettings:
    """Use other guidance for the first chunk, which has no past to go by.

    Nothing changes where there is a past already, where chunks overlap, and where guidance changes
    as the shot begins.
    """
    changes, second = settings.guidance_changes, settings.schedule.chunk_frames
    starts = {change.start_frame for change in changes}
    if settings.origin or settings.active_frames > second or 0 in starts:
        return settings
    rest = () if second in starts else (TimedGuidance(second, settings.guidance),)
    return replace(settings, guidance=guidance, guidance_changes=(*rest, *changes))
