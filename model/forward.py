"""How a model is evaluated: by the transformer's functions or by the recurrent network's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from . import dit
from .config import DiTConfig
from .cross_attention import Runs
from .dit import Prediction
from .recurrent import forward as recurrent
from .recurrent.config import RecurrentConfig

ModelConfig = DiTConfig | RecurrentConfig
"""The sizes of a model of any kind."""


class ProjectedText(Protocol):
    """Prompts as a model reads them in every pass; computed once."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and prompts of a row."""

    def rows(self, indices: Sequence[int]) -> Any:
        """Select rows by `indices`."""

    def in_runs(self, runs: Runs) -> Any:
        """The same prompts, each for so many latent frames in a row; nothing is copied."""


@dataclass(frozen=True, slots=True)
class Forward:
    """The two functions over a module tree that make a model.

    `project_text` takes (tree, context (b, p, l, text_dim), picture or None). `predict` takes
    (tree, x, t, text, attention, options): see `dit.predict`.
    """

    project_text: Callable[..., ProjectedText]
    predict: Callable[..., Prediction]


def forward_of(config: ModelConfig) -> Forward:
    """The functions for a model of these sizes."""
    if isinstance(config, RecurrentConfig):
        return Forward(recurrent.project_text, recurrent.predict)
    return Forward(dit.project_text, dit.predict)
