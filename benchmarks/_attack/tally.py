"""What an attack met: how often, and how often something did not hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Attempts by kind, and the problems that were met."""

    attempts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, kind: str) -> None:
        """Count one attempt of a kind."""
        self.attempts[kind] += 1

    def fail(self, problem: str) -> None:
        """Count something that did not hold."""
        self.problems.append(problem)

    @property
    def count(self) -> int:
        """The number of attempts of all kinds."""
        return self.attempts.total()

    @property
    def summary(self) -> str:
        """The attempts by kind, the most frequent first."""
        return ", ".join(f"{count} {kind}" for kind, count in self.attempts.most_common())
