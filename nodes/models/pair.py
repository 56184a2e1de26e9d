"""A MODEL that carries a second one, which makes some of the passes of a shot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import BadInput
from ...samplers.denoiser import Commits, LowNoise
from .. import host

KEY = "longtake.second"


@dataclass(frozen=True, slots=True)
class SecondModel:
    """The second MODEL of a pair, with patches of its own, and the passes that it makes."""

    model: Any
    passes: LowNoise | Commits


def pair(model: Any, second: Any, passes: LowNoise | Commits) -> Any:
    """A clone of `model` that carries `second`; BadInput where one of them is a pair already."""
    if second_model(model) is not None or second_model(second) is not None:
        raise BadInput(
            "One of the two models is a pair already; connect a single model to each input."
        )
    host.module_tree(second)
    clone = model.clone()
    host.attach(clone, KEY, SecondModel(second, passes))
    return clone


def second_model(model: Any) -> SecondModel | None:
    """The second model that a MODEL carries, if it is a pair."""
    carried: SecondModel | None = host.get_attachment(model, KEY)
    return carried
