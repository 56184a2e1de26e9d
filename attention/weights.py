"""How strongly each latent frame of a history is read: a log weight, -inf for a frame not read.

A weight w is added to the logits of a frame's keys, which multiplies their attention by exp w
before the softmax divides. Keys of frames that are not read are left out. Where heads hold other
frames, sparse attention hides them instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..machine.uploads import upload
from .layout import AttentionInputs, HistoryReader, attend_inputs, seen_runs, select_frames
from .readable import NOT_READ, KeyCounts, leave_out_keys
from .retrieval import retrieve_frames


class FrameWeights(Protocol):
    """The log weights of a history's frames, which end before `next_frame`.

    Frames at least `horizon` before it weigh the same, except the first `sink_frames`.
    """

    @property
    def next_frame(self) -> int: ...

    @property
    def horizon(self) -> int: ...

    @property
    def sink_frames(self) -> int: ...

    @property
    def layers(self) -> int: ...

    def log_weight(self, layer: int, frame: int) -> float:
        """The log weight of latent frame `frame` in `layer`."""

    def retrieved_share(self, frame: int) -> float:
        """The share of frames like `frame` that a pass reads, chosen by its queries; 1 is all."""


@dataclass(frozen=True, slots=True)
class WeightedHistory:
    """The `attention` of the active frames [first, stop) to a history of weighted frames.

    `counts` holds how many keys are read, until the history changes.
    """

    attention: HistoryReader
    weights: FrameWeights
    first: int
    stop: int
    counts: KeyCounts = field(default_factory=KeyCounts)

    @property
    def rows(self) -> slice:
        """The batch rows of the cache that attend."""
        return self.attention.rows

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d); returns the output of these frames alone."""
        inputs = self.gather(layer, q, k, v)
        if NOT_READ in inputs.weights:
            at = layer, self.weights.next_frame
            inputs = leave_out_keys(inputs, self.counts.most(*at, inputs.weights, self._count_read))
        return attend_inputs(inputs).transpose(1, 2)

    def key_frames(self, layer: int) -> Tensor | None:
        """The latent frame (b, n, t) of each key of the history; None where the inputs tell."""
        return self.attention.key_frames(layer)

    def gather(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        """The inputs of these frames; valid until the next layer is gathered."""
        inputs = select_frames(self.attention.gather(layer, q, k, v), self.first, self.stop)
        mixed = self.attention.key_frames(layer)
        if mixed is None:
            weights = [self.weights.log_weight(layer, frame) for frame in inputs.frames]
            read = weigh_frames(inputs, weights)
            return retrieve_frames(read, [self.weights.retrieved_share(f) for f in read.frames])
        return weigh_keys(inputs, layer, mixed, self.weights)

    def _count_read(self, read: Tensor) -> list[int]:
        """The most keys that a head of each layer has of the ages that are `read` (w,)."""
        counts = list[Tensor]()
        for layer in range(self.weights.layers):
            frames = self.attention.key_frames(layer)
            if frames is None or frames.is_meta:
                return [0 if frames is None else frames.shape[-1]] * self.weights.layers
            seen = read.to(frames.device)[_numbers(frames, self.weights)]
            counts.append(seen.sum(-1).max())
        return torch.stack(counts).tolist()


def weigh_frames(inputs: AttentionInputs, weights: Sequence[float]) -> AttentionInputs:
    """The inputs with a log weight for each of their frames; frames of -inf are left out."""
    if not any(weights):
        return inputs
    seen = [weight != NOT_READ for weight in weights]
    if not all(seen):
        inputs = _leave_out(inputs, seen)
    finite = tuple(weight for weight in weights if weight != NOT_READ)
    if not any(finite):
        return inputs
    by_frame = upload(torch.tensor(finite, dtype=torch.float32), inputs.keys.device)
    by_key = by_frame.repeat_interleave(inputs.frame_tokens)[: inputs.past]
    return _add_bias(inputs, by_key.expand(*inputs.keys.shape[:2], -1), finite)


def weigh_keys(
    inputs: AttentionInputs, layer: int, key_frames: Tensor, weights: FrameWeights
) -> AttentionInputs:
    """The inputs with the log weight of each key's latent frame `key_frames` (b, n, past)."""
    newest = weights.next_frame - 1
    recent = [weights.log_weight(layer, newest - i) for i in range(weights.horizon)]
    first = [weights.log_weight(layer, frame) for frame in range(weights.sink_frames)]
    values = (*recent, *first)
    if not any(values):
        return inputs
    table = upload(torch.tensor(values, dtype=torch.float32), key_frames.device)
    by_key = table[_numbers(key_frames, weights)].expand(*inputs.keys.shape[:2], -1)
    return _add_bias(inputs, by_key, values)


def _numbers(key_frames: Tensor, weights: FrameWeights) -> Tensor:
    """For each key's latent frame its number among the weights: ages first, then the sink's."""
    number = (weights.next_frame - 1 - key_frames).clamp(0, weights.horizon - 1)
    in_sink = key_frames < weights.sink_frames
    return torch.where(in_sink, weights.horizon + key_frames, number).long()


def _behind_one_another(x: Tensor, runs: Sequence[slice]) -> Tensor:
    """The `runs` of x (b, n, t, ...) behind one another; nothing for no runs."""
    if not runs:
        return x[:, :, :0]
    return x[:, :, runs[0]] if len(runs) == 1 else torch.cat([x[:, :, run] for run in runs], 2)


def _leave_out(inputs: AttentionInputs, seen: Sequence[bool]) -> AttentionInputs:
    """The inputs without the history's frames that are not `seen`."""
    joined = seen_runs(inputs, seen)
    return replace(
        inputs,
        keys=_behind_one_another(inputs.keys, joined),
        values=_behind_one_another(inputs.values, joined),
        bias=None if inputs.bias is None else _behind_one_another(inputs.bias, joined),
        past=sum(seen) * inputs.frame_tokens,
        frames=[*compress(inputs.frames, seen)],
    )


def _add_bias(
    inputs: AttentionInputs, by_key: Tensor, weights: tuple[float, ...]
) -> AttentionInputs:
    """The inputs with `by_key` (b, n, past) added to the logits of the history's keys."""
    own = inputs.keys.shape[2] - inputs.past
    bias = F.pad(by_key, (0, own))
    if inputs.bias is not None:
        bias = bias + inputs.bias
    return replace(inputs, bias=bias, weights=weights)
