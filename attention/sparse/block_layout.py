"""Which keys of a history every query reads, and which lie in blocks to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import compress

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..layout import AttentionInputs
from .blocks import Blocks, build_blocks


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """The keys of a layer's history: `always` read (m,), and `blocks` to choose from."""

    always: Tensor
    blocks: Blocks


def layout_history(
    inputs: AttentionInputs, always: Tensor, rest: Tensor, codes: Tensor | None = None
) -> BlockLayout:
    """The history as blocks of the keys `rest` (m,), beside those that are `always` read.

    Blocks follow the order of `rest`, or of `codes` (b, n, past) if given.
    """
    rest_codes = None if codes is None else codes[:, :, rest]
    return BlockLayout(always, build_blocks(inputs.keys, inputs.bias, rest, rest_codes))


def split_frames(
    inputs: AttentionInputs, sink_frames: int, recent_frames: int
) -> tuple[Tensor, Tensor]:
    """The keys of the sink and of the newest frames, and the rest, in the order of the slots."""
    newest = max(inputs.frames, default=-1)
    recent = range(max(0, newest + 1 - recent_frames), newest + 1)
    is_pinned = [0 <= frame < sink_frames or frame in recent for frame in inputs.frames]
    if inputs.keys.is_meta:  # a rehearsal: counts are enough
        keys = range(0, inputs.past, inputs.frame_tokens)  # the first of each frame
        counts = (min(inputs.frame_tokens, inputs.past - first) for first in keys)
        pinned_keys = sum(compress(counts, is_pinned))
        numbers = partial(inputs.keys.new_empty, dtype=torch.long)
        return numbers(pinned_keys), numbers(inputs.past - pinned_keys)
    pinned = torch.tensor(is_pinned, dtype=torch.bool)
    tokens = pinned.repeat_interleave(inputs.frame_tokens)[: inputs.past]
    return _numbers(tokens, inputs.keys), _numbers(~tokens, inputs.keys)


def split_tokens(
    numbers: Tensor, frame_tokens: int, sink_frames: int, recent_frames: int
) -> tuple[Tensor, Tensor]:
    """The keys of the sink and of the newest frames, and the rest, both by time and place.

    `numbers` (t,) are those of the keys' tokens in the rollout, -1 for an empty slot.
    """
    if numbers.is_meta:  # a rehearsal: counts are enough
        pinned = min(len(numbers), (sink_frames + recent_frames) * frame_tokens)
        return numbers.new_empty(pinned), numbers.new_empty(len(numbers) - pinned)
    order = numbers.argsort()
    frames = numbers[order].div(frame_tokens, rounding_mode="floor")
    is_recent = frames > frames[-1:] - recent_frames
    is_pinned = (frames >= 0) & ((frames < sink_frames) | is_recent)
    return order[is_pinned], order[~is_pinned]


def _numbers(chosen: Tensor, keys: Tensor) -> Tensor:
    """The numbers of the `chosen` ones (t,) among `keys`, on their device."""
    return upload(chosen.nonzero().flatten(), keys.device)
