"""How much the attention speed bench measures: histories, rounds and cases."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .cases import BOTH, CASES, FULL, MAIN, TEMP, WINDOW, WINDOW_CASE


@dataclass(frozen=True, slots=True)
class SpeedPlan:
    """Histories in latent frames, rising, and rounds at each.

    Cases over the full history get at least three rounds, and no more after `budget_s`. From
    `long_from` latent frames on, only MAIN cases run. Beyond `reach` no case over the full history
    runs. `prefix` starts every label. `flat_at` lists the histories between which chunks of one
    case are compared; None means all histories that fill the cache.
    """

    histories: tuple[int, ...] = (64, 256, 1024, 2048, 4096)
    rounds: int = 16
    budget_s: float = 90.0
    long_from: int = 512
    cases: tuple[str, ...] = tuple(CASES)
    reach: int | None = None
    prefix: str = ""
    flat_at: tuple[int, ...] | None = None

    def cases_at(self, history: int) -> list[str]:
        """Return the cases that are timed at a history."""
        beyond = self.reach is not None and history > self.reach
        names = [name for name in self.cases if history < self.long_from or name in MAIN]
        return [name for name in names if not (beyond and CASES[name].cache == FULL)]

    @property
    def flat(self) -> tuple[list[str], list[int]]:
        """Cases whose cost must not grow, and the histories to compare; both empty without two
        histories.
        """
        candidates = self.histories if self.flat_at is None else self.flat_at
        lengths = [at for at in self.histories if at in candidates and at >= WINDOW.window_frames]
        names = [name for name in (BOTH, TEMP, WINDOW_CASE) if name in self.cases]
        return (names, lengths) if len(lengths) > 1 else ([], [])

    def only(self, names: tuple[str, ...]) -> SpeedPlan:
        """Return the plan with these cases at every history, or unchanged for an empty tuple."""
        chosen = tuple(name for name in CASES if name in names)
        return replace(self, cases=chosen, long_from=self.histories[-1] + 1) if chosen else self

    def label(self, name: str, history: int) -> str:
        return f"{self.prefix}{name}, history {history}"


ON_CPU = SpeedPlan()
ON_GPU = SpeedPlan((33, 63, 126, 210), cases=tuple(MAIN), flat_at=(33, 210))
"""The plans of the embedded model and of 1.3B.

On the GPU, histories end where dense attention to everything no longer fits into an H200's memory
(140 GB) beside the baselines' caches. Flatness compares only two histories, because snapshots of
the caches wait in main memory, 10 GB a case.
"""
