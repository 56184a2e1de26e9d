"""How long generators and stages took in this session, for the plan of the next run."""

from __future__ import annotations

MAX_KEYS = 64


class WorkFactors:
    """Seconds of work for a second of video, by what works; the oldest leave first."""

    def __init__(self) -> None:
        self._factors: dict[str, float] = {}

    def note(self, key: str, factor: float | None) -> None:
        """Remember the newest factor of `key`, if it is known."""
        if factor is None:
            return
        self._factors.pop(key, None)
        self._factors[key] = factor
        while len(self._factors) > MAX_KEYS:
            del self._factors[next(iter(self._factors))]

    def of(self, key: str) -> float | None:
        """The factor of `key`; None where nothing has been measured in this session."""
        return self._factors.get(key)
