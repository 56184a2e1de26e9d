"""LoRA adapters that a trainer left beside the weights of its file (PEFT).

PEFT names a layer's own weight `q.base_layer.weight` and the adapter's factors
`q.lora_A.default.weight` and `q.lora_B.default.weight`. Their product adds to the weight, times
alpha over the rank (huggingface/peft `tuners/lora/layer.py`, `get_delta_weight`). No tensor of such
a file says alpha, so that only the family's row can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from ..files.header import Header
from .names import Copy
from .others import Refused

FLOATS = ("F32", "BF16", "F16")
_FACTOR = re.compile(r"(?P<layer>.+)\.lora_(?P<factor>[AB])\.\w+\.weight")


@dataclass(frozen=True, slots=True)
class Adapters:
    """The adapters of a file, by the official name of the weight that each adds to.

    `factors` are the stored names of `lora_A` (rank, inputs) and `lora_B` (outputs, rank).
    """

    factors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    alpha: float = 0.0

    @property
    def reason(self) -> str:
        """What `inspect` says of them."""
        if not self.factors:
            return ""
        return f"weights: with the LoRA that the file holds beside them, alpha {self.alpha:g}"

    def add(self, name: str, weight: Tensor, read: Callable[[str], Tensor]) -> Tensor:
        """The weight of this official name with its adapter; `read` takes stored names."""
        if name not in self.factors:
            return weight
        down, up = (read(self.factors[name][factor]).float() for factor in "AB")
        return (weight.float() + self.alpha / len(down) * (up @ down)).to(weight.dtype)


def without_adapters(model_copy: Copy) -> tuple[Copy, Adapters]:
    """A copy without the tensors of adapters, and these."""
    factors: dict[str, dict[str, str]] = {}
    own = dict[str, str]()
    for name, stored in model_copy.names.items():
        match = _FACTOR.fullmatch(name)
        if match is None:
            own[name] = stored
        else:
            factors.setdefault(f"{match['layer']}.weight", {})[match["factor"]] = stored
    return replace(model_copy, names=own), Adapters(factors)


def with_alpha(
    adapters: Adapters, alpha: float, header: Header, names: Mapping[str, str]
) -> Adapters:
    """The adapters at their family's `alpha`; a refusal where they cannot be added.

    `names` are the stored names of the copy's tensors, by official name.
    """
    if not adapters.factors:
        return adapters
    if not alpha:
        raise Refused(
            header.path,
            "holds a LoRA beside its weights, and nothing says how strong it is",
            "use a file with the LoRA merged into the weights",
        )
    for name, factors in adapters.factors.items():
        problem = _problem(name, factors, header, names)
        if problem:
            raise _broken(header.path, problem)
    return replace(adapters, alpha=alpha)


def _problem(
    name: str, factors: Mapping[str, str], header: Header, names: Mapping[str, str]
) -> str | None:
    """What is wrong with the adapter of the weight `name`."""
    if name not in names:
        return f"there is no {name} that it adds to"
    if len(factors) != len("AB"):
        return f"of that of {name} one factor is missing"
    weight, down, up = (
        header.tensors[stored] for stored in (names[name], factors["A"], factors["B"])
    )
    if weight.dtype not in FLOATS:
        return f"{name} is {weight.dtype}"
    rank = down.shape[0] if down.shape else 0
    if (down.shape, up.shape) != ((rank, *weight.shape[1:]), (*weight.shape[:1], rank)) or not rank:
        return f"that of {name} has the sizes {down.shape} and {up.shape}"
    return None


def _broken(path: Path, problem: str) -> Refused:
    finding = f"holds a LoRA beside its weights that cannot be added: {problem}"
    return Refused(path, finding, "use the unmodified file")
