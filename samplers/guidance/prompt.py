"""The prompt of a guidance branch: the one in force, the negative one, or a fixed one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from ..conditioning.digest import embedding_digest


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class OwnPrompt:
    """A fixed prompt of one branch: its embedding (l, text_dim) and, if known, its text.

    Prompts with equal embeddings are equal.
    """

    embedding: Tensor
    text: str = ""
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", embedding_digest(self.embedding))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnPrompt) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"OwnPrompt({self.digest})"

    def __str__(self) -> str:
        return f"prompt {self.text!r}" if self.text else "own prompt"


Prompt = Literal["positive", "negative"] | OwnPrompt


def order(prompt: Prompt) -> tuple[bool, str]:
    """A key to sort prompts by: the one in force, fixed ones, the negative one.

    Batch rows, rows of caches and projected prompts share this order, so that no pass needs a copy
    of the prompts in another one.
    """
    return prompt != "positive", prompt if isinstance(prompt, str) else prompt.digest


def describe_prompt(prompt: Prompt) -> str:
    """Describe a prompt for people; empty for the prompt in force."""
    if prompt == "positive":
        return ""
    return "negative prompt" if prompt == "negative" else str(prompt)
