"""The settings and prompts in force: the one copy that everything under the loop reads."""

from __future__ import annotations

from .conditioning.prompts import ActivePrompts
from .settings import RolloutSettings


class CurrentSettings:
    """Settings and prompts in force at this moment.

    The loop owns this object. Live edits and prompt changes replace its fields between chunks.
    """

    def __init__(self, settings: RolloutSettings) -> None:
        self.settings = settings
        self.prompts: ActivePrompts = settings.active_prompts(0, 1)

    def use(self, settings: RolloutSettings, first: int) -> None:
        """Put `settings` in force from latent frame `first` on, with their prompts there."""
        self.settings = settings
        self.use_prompts(settings, first)

    def use_prompts(self, settings: RolloutSettings, first: int) -> None:
        """Put only the prompts that `settings` have at latent frame `first` in force."""
        stop = settings.schedule.active_stop(first, settings.length, settings.origin)
        self.prompts = settings.active_prompts(first, stop)
