"""What a LoRA changes in the stand-in: plain pairs of matrices, and differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ....errors import BadInput

PAIR = ("lora_up.weight", "lora_down.weight", "alpha")


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to one weight at strength 1; the tensors as the file has them."""

    weights: tuple[Tensor, ...]

    def on(self, weight: Tensor) -> Tensor:
        """The difference for `weight`: up, down and alpha multiplied out, or as it is."""
        first, *rest = (tensor.to(weight) for tensor in self.weights)
        if not rest:
            return first.reshape(weight.shape)
        down, alpha = rest
        change = first.flatten(1) @ down.flatten(1)
        return (change * (alpha / len(down))).reshape(weight.shape)


def changes(lora: Mapping[str, Tensor], layers: Mapping[str, Tensor]) -> dict[str, Change]:
    """The changes by weight name of a LoRA in the host's words, for the `layers` of a model."""
    left = dict(lora)
    found: dict[str, Change] = {}
    for weight in (name for name in layers if name.endswith(".weight")):
        layer = weight.removesuffix(".weight")
        if f"{layer}.{PAIR[0]}" in left:
            found[weight] = Change(tuple(left.pop(f"{layer}.{word}") for word in PAIR))
        for word, changed in (("diff", weight), ("diff_b", f"{layer}.bias")):
            if f"{layer}.{word}" in left:
                found[changed] = Change((left.pop(f"{layer}.{word}"),))
    if left:
        raise BadInput(
            f"The LoRA changes weights in a way that needs ComfyUI ({next(iter(left))}); give "
            "--comfy DIR."
        )
    return found
