"""The inputs of attention in memory: the history first, then the active latent frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .dense import Parts
from .kernels.biased import attend_biased
from .rope import Rotation, rotate


@dataclass(frozen=True, slots=True)
class AttentionInputs:
    """One layer's rotated queries (b, n, s, d), keys and values (b, n, t, d), and biases.

    The first `past` keys are the history's. `bias` (b, n, t) is added to each key's logits; None
    stands for all 0. `parts` are runs of queries and how many active keys each run sees. `frames`
    is the latent frame of each `frame_tokens` keys of the history, -1 where they are of several.

    `bias` includes the `weights`, one for each of `frames` or of the ages that their keys may have;
    empty stands for all 0. Dense attention may multiply in the dtype of `products`.
    """

    q: Tensor
    keys: Tensor
    values: Tensor
    bias: Tensor | None
    past: int
    parts: Parts
    frames: Sequence[int]
    frame_tokens: int
    weights: tuple[float, ...] = ()
    products: torch.dtype = torch.float32


def attend_inputs(inputs: AttentionInputs) -> Tensor:
    """Dense attention (b, n, s, d) to all keys that each query sees."""
    outputs = []
    for queries, own in inputs.parts:
        stop = inputs.past + own
        bias = None if inputs.bias is None else inputs.bias[:, :, :stop]
        keys, values = inputs.keys[:, :, :stop], inputs.values[:, :, :stop]
        outputs.append(attend_biased(inputs.q[:, :, queries], keys, values, bias, inputs.products))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)


def select_heads(inputs: AttentionInputs, row: int, heads: slice) -> AttentionInputs:
    """The inputs of neighbouring heads of one batch row; copies nothing."""
    bias = None if inputs.bias is None else inputs.bias[row : row + 1, heads]
    q, keys, values = (x[row : row + 1, heads] for x in (inputs.q, inputs.keys, inputs.values))
    return replace(inputs, q=q, keys=keys, values=values, bias=bias)


def select_frames(inputs: AttentionInputs, first: int, stop: int) -> AttentionInputs:
    """The inputs of the active latent frames [first, stop) as queries; copies nothing."""
    start, end = first * inputs.frame_tokens, stop * inputs.frame_tokens
    parts = tuple(
        (slice(max(at.start, start) - start, min(at.stop, end) - start), own)
        for at, own in inputs.parts
        if at.start < end and start < at.stop
    )
    return replace(inputs, q=inputs.q[:, :, start:end], parts=parts)


def seen_runs(inputs: AttentionInputs, seen: Sequence[bool]) -> list[slice]:
    """Where the keys lie of the history's frames that are `seen`, and of the active ones."""
    tokens, past, end = inputs.frame_tokens, inputs.past, inputs.keys.shape[2]
    by_value = [(value, [*run]) for value, run in groupby(range(len(seen)), seen.__getitem__)]
    runs = [slice(run[0] * tokens, (run[-1] + 1) * tokens) for value, run in by_value if value]
    if runs and runs[-1].stop == past:
        return [*runs[:-1], slice(runs[-1].start, end)]
    return [*runs, slice(past, end)]


class RotatedHistory(Protocol):
    """Rotated keys and values of a history, with room for the active frames behind them."""

    @property
    def frame_tokens(self) -> int:
        """Tokens of one latent frame."""

    def length(self, layer: int) -> int:
        """Keys of the history in `layer`."""

    def frames(self, layer: int) -> list[int]:
        """The latent frame of each `frame_tokens` keys, -1 where the keys are of several."""

    def key_frames(self, layer: int, rows: slice = slice(None)) -> Tensor | None:
        """The latent frame (b, n, t) of each key, b and n may be 1; None where `frames` tells."""

    def workspace(
        self, layer: int, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values (b, n, t, d) and biases (b, n, t) of the batch `rows`, None for all 0.

        The history comes first. The tensors are views, valid until the next layer is read.
        """


class InputGatherer(Protocol):
    """An attention whose inputs another attention can compute with."""

    @property
    def rows(self) -> slice:
        """The batch rows of the cache that attend."""

    def gather(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        """The inputs for un-rotated q, k, v (b, s, n, d), valid until the next layer."""


class PassAttention(Protocol):
    """What the latent frames of a pass ask of a history, layer by layer."""

    @property
    def is_observed(self) -> bool:
        """Whether the history wants to see the attention of every layer."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""


@runtime_checkable
class HistoryReader(InputGatherer, Protocol):
    """An attention to a history, whose inputs another one can change or compute with."""

    def key_frames(self, layer: int) -> Tensor | None:
        """The latent frame (b, n, t) of each key of the history; None where the inputs tell."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""


def key_reader(attention: object) -> HistoryReader:
    """The attention, if its history has keys; ValueError for a history that is a state."""
    if not isinstance(attention, HistoryReader):
        raise ValueError("a history without keys cannot be weighed or made sparse")
    return attention


@dataclass(frozen=True, slots=True)
class HistoryAttention:
    """Self-attention of the active latent frames over a history and themselves.

    `parts` says which active keys each run of queries sees, so no mask is ever made. `rows` are the
    batch rows of the cache that attend; `rotation` is that of the active frames. Dense attention
    may multiply in the dtype of `products`. `record`, if given, receives the inputs of every layer,
    and `prepare` its un-rotated queries (b, s, n, d) before the history is read. Valid until the
    next commit.
    """

    history: RotatedHistory
    parts: Parts
    rows: slice
    rotation: Rotation
    products: torch.dtype = torch.float32
    record: Callable[[int, AttentionInputs], None] | None = None
    prepare: Callable[[int, Tensor], None] | None = None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        return attend_inputs(self.gather(layer, q, k, v)).transpose(1, 2)

    @property
    def is_observed(self) -> bool:
        """Whether a cache wants to see the attention of every layer."""
        return self.record is not None or self.prepare is not None

    def key_frames(self, layer: int) -> Tensor | None:
        """The latent frame (b, n, t) of each key of the history; None where the inputs tell."""
        return self.history.key_frames(layer, self.rows)

    def gather(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        """Put the active keys and values behind the history, in the cache's own memory.

        Valid until the next layer is gathered.
        """
        if self.prepare is not None:
            self.prepare(layer, q)
        past, own = self.history.length(layer), k.shape[1]
        stop = past + own
        keys, values, bias = self.history.workspace(layer, self.rows)
        keys.narrow(2, past, own).copy_(rotate(k, self.rotation).transpose(1, 2))
        values.narrow(2, past, own).copy_(v.transpose(1, 2))
        inputs = AttentionInputs(
            rotate(q, self.rotation).transpose(1, 2), keys[:, :, :stop], values[:, :, :stop],
            None if bias is None else bias[:, :, :stop],
            past, self.parts, self.history.frames(layer), self.history.frame_tokens,
            products=self.products,
        )  # fmt: skip
        if self.record is not None:
            self.record(layer, inputs)
        return inputs
