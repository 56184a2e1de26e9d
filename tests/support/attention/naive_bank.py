"""A memory bank that keeps whole lists of frames, and comparisons of a bank cache with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from longtake.attention.cache.by_layer.bank_cache import BankCache
from longtake.attention.cache.policy import MemoryBank
from longtake.attention.cache.prompt_keys import PromptKeys
from longtake.attention.dense import attend
from longtake.attention.rope import rotate, rotation
from longtake.tests.support.attention.bank_loop import LayerBank
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv
from longtake.tests.support.tiny_model import (
    randn,
)

LAYERS, HEADS, WIDTH = SHAPE.layers, SHAPE.heads, SHAPE.head_dim
NO_WORDS = torch.zeros(4, HEADS, WIDTH)

KeysValues = list[tuple[Tensor, Tensor]]


class Naive:
    """The window as a list of frames and the bank as in the authors' code.

    Keys are (1, s, n, d) in the window and (s, n, d) in the bank.
    """

    def __init__(self, policy: MemoryBank) -> None:
        self.policy = policy
        self.forget_bank()
        self.window: dict[int, KeysValues] = {}  # by latent frame

    def forget_bank(self) -> None:
        self.banks = [LayerBank(self.policy.bank_frames) for _ in range(LAYERS)]
        self.chunks = 0

    def before_chunk(self, words: Tensor) -> None:
        """Update the bank; `words` (l, n, d) are the prompt's keys when the next chunk begins."""
        for bank in self.banks:
            bank.before_block(words, [rotate_keys(k, at) for at, k, _ in bank.held])

    def commit(self, frames: Sequence[int], made: KeysValues) -> None:
        first = [(k[0, :TOKENS], v[0, :TOKENS]) for k, v in made]
        if self.chunks % self.policy.every == 0:
            for bank, (k, v) in zip(self.banks, first, strict=True):
                bank.record((frames[0], k, v))
        self.chunks += 1
        self.put(frames, made)
        for frame in sorted(self.window)[self.policy.sink_frames :]:
            if len(self.window) > self.policy.window_frames:
                del self.window[frame]

    def put(self, frames: Sequence[int], made: KeysValues) -> None:
        for i, frame in enumerate(frames):
            at = slice(i * TOKENS, (i + 1) * TOKENS)
            self.window[frame] = [(k[:, at], v[:, at]) for k, v in made]

    def attention(
        self, layer: int, active: Sequence[int], seen: Sequence[int], qkv: Sequence[Tensor]
    ) -> Tensor:
        """Attention of `active` frames to the bank, the window frames `seen`, and themselves.

        A frame's place is its number.
        """
        q, k, v = qkv
        bank = self.banks[layer].held
        of_window = [self.window[frame][layer] for frame in seen]
        keys = [*(one[1][None] for one in bank), *(one for one, _ in of_window), k]
        values = [*(one[2][None] for one in bank), *(one for _, one in of_window), v]
        by, now = (
            rotation_table([*(one[0] for one in bank), *seen, *active]),
            rotation_table(active),
        )
        return attend(rotate(q, now), rotate(torch.cat(keys, 1), by), torch.cat(values, 1))


def rotation_table(frames: Sequence[int]) -> Any:
    return rotation(frames, SHAPE.rows, SHAPE.columns, WIDTH)


def rotate_keys(k: Tensor, frame: int) -> Tensor:
    """Rotate keys (s, n, d) to a frame's place in the shot."""
    return rotate(k[None], rotation_table([frame]))[0]


def random_qkv(frames: int, seed: int) -> list[Tensor]:
    return [randn(1, frames * TOKENS, HEADS, WIDTH, seed=seed + i) for i in range(3)]


def prompt_keys(words: Tensor) -> PromptKeys:
    return PromptKeys((words.mean(0),) * LAYERS)


def compare(cache: BankCache, naive: Naive, seed: int) -> None:
    """Compare the attention of the next two frames in every layer."""
    active, qkv = range(cache.committed, cache.committed + 2), random_qkv(2, seed)
    for layer in range(LAYERS):
        found = cache.attention(2)(layer, *qkv)
        expected = naive.attention(layer, active, sorted(naive.window), qkv)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        seen = sorted(frame for frame, _, _ in naive.banks[layer].held)
        assert sorted(cache.rotated_keys.frames(layer)) == sorted([*seen, *naive.window])


def recommit(cache: BankCache, naive: Naive, chunks: Sequence[range], seed: int) -> None:
    """Commit the window again under another prompt; each chunk sees the bank and earlier frames."""
    cache.restart()
    naive.before_chunk(NO_WORDS)  # `_recache_after_switch` wipes the prompt's keys, and then asks
    held, seen = sorted(naive.window), list[int]()
    for number, chunk in enumerate(chunks):
        frames = [frame for frame in chunk if frame in held]
        if not frames:
            continue
        made = chunk_kv([1000 + seed + frame for frame in frames])
        qkv = random_qkv(len(frames), seed + number)
        attention = cache.attention_of_commit((len(frames),) * len(frames))
        for layer in range(LAYERS):
            expected = naive.attention(layer, frames, seen, qkv)
            torch.testing.assert_close(attention(layer, *qkv), expected, rtol=1e-4, atol=1e-5)
        cache.commit(made, prompt_keys(NO_WORDS))
        naive.put(frames, made)
        seen += frames
    naive.before_chunk(NO_WORDS)
