"""Heads of three kinds: each reads one part of a history, and all read the active frames.

sink     reads the sink alone
window   reads all that follows the sink
dummy    reads the newest frames alone, since it hardly looks at the past

After Dummy Forcing (csguoh/DummyForcing 28128ed, `wan/modules/dummyforcing.py`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress

import torch
import torch.nn.functional as F
from torch import Tensor

from ....machine.uploads import upload
from ...layout import AttentionInputs, HistoryAttention, attend_inputs, seen_runs
from ...readable import NOT_READ

SINK, WINDOW, DUMMY = range(3)
KINDS = (SINK, WINDOW, DUMMY)


def kinds_of_heads(on_sink: Tensor, on_window: Tensor, dummy_share: float) -> Tensor:
    """The kind (layers, n) of each head, by its shares (layers, n) of attention.

    `on_sink` and `on_window` are the shares on the sink and on the rest of the history. Each is
    divided by its sum over all heads, and a head counts by the larger of the two. The `dummy_share`
    of all heads that count least are dummies.
    """
    sink, window = (x / x.sum().clamp_min(torch.finfo(x.dtype).tiny) for x in (on_sink, on_window))
    kinds = torch.where(sink < window, WINDOW, SINK)
    least = torch.maximum(sink, window).flatten().argsort(stable=True)
    kinds.view(-1)[least[: round(dummy_share * kinds.numel())]] = DUMMY
    return kinds


@dataclass(frozen=True, slots=True)
class HeadGroups:
    """The kind of each head by layer, and what heads of each kind read.

    `by_kind` (layers, n) are the heads' numbers, in the order of their kinds, where attention is
    computed. The history begins with `sink_frames`; dummies read its newest `dummy_frames`.
    """

    kinds: tuple[tuple[int, ...], ...]
    by_kind: Tensor
    sink_frames: int
    dummy_frames: int

    def heads(self, layer: int, kind: int) -> Tensor:
        """The numbers of a layer's heads of one kind."""
        kinds = sorted(self.kinds[layer])
        return self.by_kind[layer, bisect_left(kinds, kind) : bisect_right(kinds, kind)]

    def seen(self, kind: int, frames: Sequence[int]) -> list[bool]:
        """Whether heads of one kind read each of a history's `frames`."""
        if kind == SINK:
            return [frame < self.sink_frames for frame in frames]
        if kind == WINDOW:
            return [frame >= self.sink_frames for frame in frames]
        newest = sorted(frames)[max(0, len(frames) - self.dummy_frames) :]
        return [frame in newest for frame in frames]


@dataclass(frozen=True, slots=True)
class HeadKindAttention(HistoryAttention):
    """Self-attention of active frames to a history of which each head reads its part."""

    groups: HeadGroups = field(kw_only=True)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames, one kind after another."""
        inputs = HistoryAttention.gather(self, layer, q, k, v)
        out = torch.empty_like(q)
        for heads, part in self._parts(layer, inputs):
            out.index_copy_(2, heads, attend_inputs(part).transpose(1, 2))
        return out

    def gather(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        """The inputs of all heads; a bias hides what a head does not read.

        Valid until the next layer is gathered.
        """
        inputs = HistoryAttention.gather(self, layer, q, k, v)
        seen = [self.groups.seen(kind, inputs.frames) for kind in self.groups.kinds[layer]]
        hidden = torch.tensor([[0.0 if each else NOT_READ for each in head] for head in seen])
        by_key = upload(hidden, inputs.keys.device).repeat_interleave(inputs.frame_tokens, 1)
        bias = F.pad(by_key, (0, inputs.keys.shape[2] - inputs.past))
        return replace(inputs, bias=bias.expand(*inputs.keys.shape[:2], -1))

    def _parts(
        self, layer: int, inputs: AttentionInputs
    ) -> Iterator[tuple[Tensor, AttentionInputs]]:
        """The heads of each kind that the layer has, and what they read."""
        for kind in KINDS:
            heads = self.groups.heads(layer, kind)
            if len(heads):
                yield heads, _part(inputs, heads, self.groups.seen(kind, inputs.frames))


def _part(inputs: AttentionInputs, heads: Tensor, seen: Sequence[bool]) -> AttentionInputs:
    """The inputs of some heads, with the history's frames that these see."""
    runs = seen_runs(inputs, seen)
    by_run = ([x[:, :, run][:, heads] for run in runs] for x in (inputs.keys, inputs.values))
    keys, values = (x[0] if len(x) == 1 else torch.cat(x, 2) for x in by_run)
    return replace(
        inputs, q=inputs.q[:, heads], keys=keys, values=values,
        past=sum(seen) * inputs.frame_tokens, frames=[*compress(inputs.frames, seen)],
    )  # fmt: skip
