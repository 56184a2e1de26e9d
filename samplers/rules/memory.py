"""Which rules hold of a rollout's memory; by default none."""

from __future__ import annotations

from dataclasses import dataclass

from .reading import NewestFrames, ReadingRule


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """Rules on what passes read of the history.

    `commit` is what a commit sees (Commit Forcing); None sees all that denoising may see.
    """

    commit: NewestFrames | None = None

    @property
    def of_commits(self) -> tuple[ReadingRule, ...]:
        """The rules of commits."""
        return () if self.commit is None else (self.commit,)
