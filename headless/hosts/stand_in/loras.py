"""LoRAs in the stand-in: plain pairs of matrices, and weight differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ....errors import BadInput

PAIR = ("lora_up.weight", "lora_down.weight", "alpha")


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one weight at strength 1, with the file's tensors."""

    weights: tuple[Tensor, ...]

    def on(self, weight: Tensor) -> Tensor:
        """Return the difference for `weight`: up, down and alpha multiplied out, or the
        stored one.
        """
        first, *rest = (tensor.to(weight) for tensor in self.weights)
        if not rest:
            return first.reshape(weight.shape)
        down, alpha = rest
        change = first.flatten(1) @ down.flatten(1)
        return (change * (alpha / len(down))).reshape(weight.shape)


def changes(lora: Mapping[str, Tensor], layers: Mapping[str, Tensor]) -> dict[str, Change]:
    """Return a LoRA's changes by weight name, for the `layers` of a model."""
    left = dict(lora)
    modulations = [name for name in layers if f"{name}.diff" in left]
    by_weight = {name: Change((left.pop(f"{name}.diff"),)) for name in modulations}
    for weight in (name for name in layers if name.endswith(".weight")):
        layer = weight.removesuffix(".weight")
        if f"{layer}.{PAIR[0]}" in left:
            by_weight[weight] = Change(tuple(left.pop(f"{layer}.{word}") for word in PAIR))
        for word, changed in (("diff", weight), ("diff_b", f"{layer}.bias")):
            if f"{layer}.{word}" in left:
                by_weight[changed] = Change((left.pop(f"{layer}.{word}"),))
    if left:
        raise BadInput(f"This LoRA needs ComfyUI (for {next(iter(left))}); add --comfy DIR.")
    return by_weight
