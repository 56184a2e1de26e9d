"""A MODEL that carries a second one, which makes some of the passes of a shot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import BadInput
from ...samplers.denoiser import Commits, LowNoise
from .. import host

KEY = "longtake.second"


@dataclass(frozen=True, slots=True)
class SecondModel:
    """The second MODEL of a pair, with patches of its own, and the passes that it makes.

    `first_patches` is how many patches the first MODEL had when the two were joined.
    """

    model: Any
    passes: LowNoise | Commits
    first_patches: int


def pair(model: Any, second: Any, passes: LowNoise | Commits) -> Any:
    """A clone of `model` that carries `second`; BadInput where one of them is a pair already."""
    if second_model(model) is not None or second_model(second) is not None:
        raise BadInput(
            "One of the two models is a pair already; connect a single model to each input."
        )
    host.module_tree(second)
    return _carrying(model, SecondModel(second, passes, host.patch_count(model)))


def _carrying(model: Any, second: SecondModel) -> Any:
    clone = model.clone()
    host.attach(clone, KEY, second)
    return clone


def refuse_experts(model: Any, node: str) -> None:
    """Refuse (BadInput) a pair of experts to a node that is meant for one of them."""
    second = second_model(model)
    if second is not None and isinstance(second.passes, LowNoise):
        raise BadInput(f"The model is a pair; put {node} on each of its models, before Model Pair.")


def in_both(model: Any, change: Callable[[Any], Any]) -> Any:
    """A MODEL after `change`, and the second model of a pair too."""
    second, changed = second_model(model), change(model)
    if second is None:
        return changed
    count = second.first_patches if half_patched(model) else host.patch_count(changed)
    return _carrying(changed, SecondModel(change(second.model), second.passes, count))


def half_patched(model: Any) -> str:
    """What to do where a node patched the first model of a pair alone; else empty."""
    second = second_model(model)
    if second is None or second.first_patches == host.patch_count(model):
        return ""
    remedy = (
        "put that node on each of the two models, before Model Pair"
        if isinstance(second.passes, LowNoise)
        else "use Load Wan LoRA, which changes both"
    )
    return (
        "A node after the two models were joined, such as a LoRA loader, changes the weights of "
        f"the first one alone; {remedy}."
    )


def second_model(model: Any) -> SecondModel | None:
    """The second model that a MODEL carries, if it is a pair."""
    carried: SecondModel | None = host.get_attachment(model, KEY)
    return carried
