"""How much the speed bench of attention measures: histories, rounds and cases."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .cases import BOTH, CASES, FULL, MAIN, TEMP, WINDOW, WINDOW_CASE


@dataclass(frozen=True, slots=True)
class Plan:
    """Histories in latent frames, rising, and rounds at each. Of cases over the full history, three
    at least, and no more once they took `budget_s`. From `long_from` on, only those of MAIN; beyond
    `reach`, where there is one, none over the full history. `of` begins every label. `flat_at` are
    the histories that chunks of one case are compared between, None for all that fill its cache.
    """

    histories: tuple[int, ...] = (64, 256, 1024, 2048, 4096)
    rounds: int = 16
    budget_s: float = 90.0
    long_from: int = 512
    cases: tuple[str, ...] = tuple(CASES)
    reach: int | None = None
    of: str = ""
    flat_at: tuple[int, ...] | None = None

    def at(self, history: int) -> list[str]:
        """The cases that are timed at a history."""
        beyond = self.reach is not None and history > self.reach
        asked = [name for name in self.cases if history < self.long_from or name in MAIN]
        return [name for name in asked if not (beyond and CASES[name].cache == FULL)]

    @property
    def flat(self) -> tuple[list[str], list[int]]:
        """The cases whose cost must not grow with the history, and the histories between which that
        is seen; none where there is nothing to compare.
        """
        asked = self.histories if self.flat_at is None else self.flat_at
        lengths = [at for at in self.histories if at in asked and at >= WINDOW.window_frames]
        names = [name for name in (BOTH, TEMP, WINDOW_CASE) if name in self.cases]
        return (names, lengths) if len(lengths) > 1 else ([], [])

    def only(self, names: tuple[str, ...]) -> Plan:
        """With these cases at every history; with none named, as it is."""
        chosen = tuple(name for name in CASES if name in names)
        return replace(self, cases=chosen, long_from=self.histories[-1] + 1) if chosen else self

    def label(self, name: str, history: int) -> str:
        """A case at a history."""
        return f"{self.of}{name}, history {history}"


ON_CPU = Plan()
ON_GPU = Plan((33, 63, 126, 210), cases=tuple(MAIN), flat_at=(33, 210))
"""Of the embedded model, and of 1.3B: as far as dense attention to everything fits the memory of an
H200 (140 GB) beside the baselines' caches; flat between two histories, since what a bounded cache
held after each waits in main memory, 10 GB a case.
"""
