"""Layers that a guidance branch leaves out, so that it makes a worse prediction to push away from.

Source: Hyung et al., arXiv 2411.18664, who skip whole layers or their attention; Stability AI's
skip-layer guidance, which skips whole layers of a diffusion transformer, as here.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BadInput


@dataclass(frozen=True, slots=True)
class SkippedLayers:
    """Layers to leave out at noise levels inside `interval` (0..1, both included).

    The first layer is 0. At other levels the branch is a plain one. Without layers the branch is
    a plain one too, but has a pass of its own.
    """

    layers: tuple[int, ...]
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if any(b <= a for a, b in zip((-1, *self.layers), self.layers, strict=False)):
            raise BadInput(f"Layers to skip count from 0 and rise; got {self.layers}.")
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise BadInput(
                f"Layers are skipped from a lower to a higher noise level, 0 to 1; got {low} to "
                f"{high}."
            )

    def acts_at(self, level: float) -> bool:
        """Whether the layers are left out at a noise level."""
        low, high = self.interval
        return low <= level <= high

    def __str__(self) -> str:
        """Describe the layers, for example `without layers 9 and 10 up to noise 0.95`."""
        if not self.layers:
            return "in a pass of its own"
        *others, last = map(str, self.layers)
        names = f"layers {', '.join(others)} and {last}" if others else f"layer {last}"
        low, high = self.interval
        parts = [f"without {names}", f"from noise {low:g}" if low else ""]
        return " ".join(filter(None, [*parts, f"up to noise {high:g}" if high < 1 else ""]))
