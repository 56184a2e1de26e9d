"""One more chunk after a history: from the KV cache, or recomputed at every step.

Neither way gives the model a camera, so both run the demo's transformer without one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ...attention.cache.kv_cache import KVCache
from ...attention.cache.policy import CachePolicy, FullHistory, WindowSink
from ...attention.dense import WholeSequence, block_causal_mask
from ...attention.rope import rotation
from ...attention.storage.shape import CacheShape
from ...model.config import PATCH
from ...model.dit import PassOptions, SelfAttention, TextKV, predict, project_text
from ...model.preset import DEMO
from ...samplers.schedule.levels import flow_ladder
from .demo import COLUMNS, ROWS, plain_dit, random_latents, random_prompt
from .paired import Prepare

CHUNK = DEMO.chunk_frames
GRID = (ROWS // PATCH, COLUMNS // PATCH)
CASES = ("recompute", "cached, full", "cached, window")


def history_case(name: str, history: int) -> Prepare:
    """Prepare case `name` with `history` latent frames before the chunk, in the demo's sizes."""
    bench, x = HistoryBench(), random_latents(history + CHUNK)[None]
    if name == "recompute":
        return lambda: lambda: bench.generate_recomputed(x)
    cache = bench.fill_cache(bench.policy(name), history)

    def prepare() -> Callable[[], object]:
        own = copy.deepcopy(cache)
        return lambda: bench.generate_cached(own, x[:, -CHUNK:])

    return prepare


def history_once(name: str, history: int) -> Prepare:
    """Prepare the case for a single run, without a second cache to copy from."""
    bench, x = HistoryBench(), random_latents(history + CHUNK)[None]
    if name == "recompute":
        return lambda: lambda: bench.generate_recomputed(x)
    cache = bench.fill_cache(bench.policy(name), history)
    return lambda: lambda: bench.generate_cached(cache, x[:, -CHUNK:])


def cache_bytes(name: str, history: int) -> int:
    """Return the bytes of the KV cache in a cached case."""
    bench = HistoryBench()
    return KVCache(bench.shape, bench.policy(name), history + CHUNK).bytes


class HistoryBench:
    """A model, a prompt and a noise ladder."""

    def __init__(self) -> None:
        self.tree, sizes = plain_dit()
        prompt = random_prompt(sizes.text_dim).at(0).values
        self.text: TextKV = project_text(self.tree, prompt[None, None])
        self.shape = CacheShape(
            sizes.num_layers, 1, sizes.num_heads, sizes.head_dim, *GRID, chunk_frames=CHUNK
        )

    @staticmethod
    def policy(name: str) -> CachePolicy:
        return FullHistory() if name == "cached, full" else WindowSink(DEMO.window_frames)

    def generate_recomputed(self, x: Tensor) -> Tensor:
        """Run all steps of the last chunk of x (1, f, c, h, w), each over the whole history."""
        frames, tokens = x.shape[1], GRID[0] * GRID[1]
        missing = -frames % CHUNK  # a short first chunk makes the last one whole
        mask = block_causal_mask(missing + frames, tokens, CHUNK)
        mask = mask[missing * tokens :, missing * tokens :]
        attention = WholeSequence(rotation(range(frames), *GRID, self.shape.head_dim), mask)
        return self._denoise(x, lambda: attention)

    @torch.no_grad()
    def generate_cached(self, cache: KVCache, x: Tensor) -> Tensor:
        """Run all steps of the chunk x (1, f, c, h, w) over the cache, and commit it."""
        x = self._denoise(x, lambda: cache.attention(CHUNK))
        self.commit(cache, x)
        return x

    @torch.no_grad()
    def fill_cache(self, policy: CachePolicy, history: int) -> KVCache:
        """Return a cache after `history` latent frames."""
        cache = KVCache(self.shape, policy, history + CHUNK)
        past = random_latents(history + CHUNK)[None, :history]
        for stop in range((history - 1) % CHUNK + 1, history + 1, CHUNK):  # a short chunk first
            self.commit(cache, past[:, cache.committed : stop])
        return cache

    @torch.no_grad()
    def commit(self, cache: KVCache, clean: Tensor) -> None:
        """Pass clean latents (1, f, c, h, w) through the model and commit their keys and values."""
        frames = clean.shape[1]
        t = torch.zeros(1, frames, dtype=torch.float64)
        prediction = predict(
            self.tree, clean, t, self.text, cache.attention(frames), PassOptions(keep=True)
        )
        cache.commit(prediction.keys_values)

    @torch.no_grad()
    def _denoise(self, x: Tensor, attention: Callable[[], SelfAttention]) -> Tensor:
        """Denoise the last chunk of x (1, f, c, h, w) with Euler steps."""
        ladder = flow_ladder(DEMO.steps, DEMO.shift)
        t = torch.zeros(1, x.shape[1], dtype=torch.float64)
        for now, after in zip(ladder, ladder[1:], strict=False):
            t[:, -CHUNK:] = 1000 * now
            v = predict(self.tree, x, t, self.text, attention()).velocity
            x = torch.cat([x[:, :-CHUNK], x[:, -CHUNK:] + (after - now) * v[:, -CHUNK:]], 1)
        return x[:, -CHUNK:]
