"""Scenery that returns after the camera turned round, by memory of the history.

The clips are those of `training.evaluation.returns`. Each memory denoises the chunk after a true
history; half-way back, no window of half of the history reaches what enters. All memories get dense
attention's keys and values, so they differ only in what they keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ...attention.cache.policy import CachePolicy, FullHistory, WindowSink
from ...attention.history import HistoryCache, open_cache, planned_bytes
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT8
from ...attention.storage.shape import CacheShape
from ...attention.temp_cache.policy import REDUNDANT, TempCache
from ...model.dit import PassOptions, TextKV, project_text
from ...model.preset import DEMO
from ...samplers.schedule.levels import flow_ladder
from ...training.evaluation.kit import Kit
from ...training.evaluation.measures import entering_agreement
from ...training.evaluation.returns import CHUNK, CameraTurn, Clip, there_and_back
from .._shared.passes import Passes
from .chunk import decode_chunk, psnr_moving
from .drift import BALANCED

PRESETS: dict[str, tuple[CachePolicy, Storage]] = {
    "balanced": (BALANCED, DENSE), "balanced, int8": (BALANCED, Packed(INT8)),
}  # fmt: skip
"""The node's default memories, which do not depend on the share."""
AWAY = (16, 24, 32, 40)  # latent frames before the turn, within the trained history
SHARES = (0.10, 0.25, 0.50)
FULL, FULL_INT8 = "full", "full, int8"
KINDS = ("window", "window, int8", "TempCache", "TempCache, int8")


@torch.inference_mode()
def recall_figures(
    kit: Kit, turn: CameraTurn, seed: int, shares: Sequence[float] = SHARES
) -> dict[str, float]:
    """Return agreement of re-entering scenery with the truth, and megabytes, for every memory.

    `shares` are memory sizes as shares of the history's bytes. "decoded truth" is what the VAE
    alone reaches. The node's preset also gets the PSNR of its moving pixels against the full
    history.
    """
    clip = there_and_back(kit, turn, seed)
    texts = {text: encode_prompt(kit, text) for text in (clip.away, clip.back)}
    passes, caches = Passes(kit, clip.prompts), open_caches(kit, clip, shares)
    fill_caches(passes, clip, texts, caches)
    past = clip.latents[:-CHUNK]
    shown = decode_chunk(kit, past, clip.latents[-CHUNK:])
    figures = {"decoded truth": entering_agreement(shown[-1], clip.truth)}
    chunks = {n: denoise(passes, texts[clip.back], cache, seed) for n, cache in caches.items()}
    dense = decode_chunk(kit, past, chunks[FULL])
    for name, cache in caches.items():
        shown = decode_chunk(kit, past, chunks[name])
        figures[name] = entering_agreement(shown[-1], clip.truth)
        if name in PRESETS:
            figures[f"PSNR: {name}"] = psnr_moving(shown, dense)
        figures[f"MB: {name}"] = cache.bytes / 1e6
    return figures


def memories(
    shape: CacheShape, history: int, shares: Sequence[float] = SHARES
) -> dict[str, tuple[CachePolicy, Storage]]:
    """Return all memories for `history` latent frames.

    These are the full history, the same in int8, and for each share a window. Within the window's
    bytes there are also a window in int8 and TempCaches, which never keep more than the history. A
    window's bytes count whole latent frames, a TempCache's count entries.
    """
    choices: dict[str, tuple[CachePolicy, Storage]] = {
        FULL: (FullHistory(), DENSE), FULL_INT8: (FullHistory(), Packed(INT8, CHUNK)),
    }  # fmt: skip
    for share in shares:
        window = WindowSink(max(CHUNK, round(share * history)))
        most = planned_bytes(shape, window, DENSE, None)
        kinds: dict[str, tuple[Callable[[int], CachePolicy], Storage]] = {
            "window, int8": (partial(_frames, shape), Packed(INT8, CHUNK)),
            "TempCache": (partial(_entries, shape), DENSE),
            "TempCache, int8": (partial(_entries, shape), Packed(INT8, 0)),
        }
        choices[f"window, {share:.0%}"] = window, DENSE
        for kind, (policy, storage) in kinds.items():
            tokens = history * shape.frame_tokens
            while planned_bytes(shape, policy(tokens), storage, None) > most:
                tokens -= 1
            choices[f"{kind}, {share:.0%}"] = policy(tokens), storage
    return choices


def merge(entry_frames: float) -> TempCache:
    """Return the node's TempCache for this model: positions never exceed the trained reach.

    The limit matters after far turns only.
    """
    return TempCache(entry_frames, eviction=REDUNDANT, reach_frames=DEMO.trained_reach)


def _frames(shape: CacheShape, tokens: int) -> WindowSink:
    return WindowSink(tokens // shape.frame_tokens)


def _entries(shape: CacheShape, tokens: int) -> TempCache:
    return merge(tokens / shape.frame_tokens)


def open_caches(kit: Kit, clip: Clip, shares: Sequence[float]) -> dict[str, HistoryCache]:
    """Open every memory for a clip, without content."""
    c, history = kit.config, len(clip.latents) - CHUNK
    side = clip.latents.shape[-2] // 2, clip.latents.shape[-1] // 2
    shape = CacheShape(c.num_layers, 2, c.num_heads, c.head_dim, *side, CHUNK)
    choices = {**memories(shape, history, shares), **PRESETS}
    return {n: open_cache(shape, p, store, history, "cpu") for n, (p, store) in choices.items()}


def fill_caches(
    passes: Passes, clip: Clip, texts: Mapping[str, TextKV], caches: Mapping[str, HistoryCache]
) -> None:
    """Commit the clip's history to all caches, with the keys and values that FULL gives."""
    for first in range(0, len(clip.latents) - CHUNK, CHUNK):
        text = texts[clip.back if first >= clip.turn else clip.away]
        x = clip.latents[first : first + CHUNK].expand(2, -1, -1, -1, -1)
        attention = caches[FULL].attention_of_commit((CHUNK,) * CHUNK)
        prediction = passes.predict(x, (first, 0.0), text, attention, PassOptions(keep=True))
        for cache in caches.values():
            cache.commit(prediction.keys_values)


def denoise(passes: Passes, text: TextKV, cache: HistoryCache, seed: int) -> Tensor:
    """Return the next chunk (f, c, h, w) from the seed's noise, with the demo's guidance."""
    size = CHUNK, 16, 2 * cache.shape.rows, 2 * cache.shape.columns
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    ladder = flow_ladder(DEMO.steps, DEMO.shift)
    for now, after in zip(ladder, ladder[1:], strict=False):
        at, attention = (cache.committed, now), cache.attention(CHUNK)
        both = passes.predict(x.expand(2, *size), at, text, attention).velocity
        x = x + (after - now) * (both[1] + DEMO.guidance_scale * (both[0] - both[1]))
    return x


def encode_prompt(kit: Kit, text: str) -> TextKV:
    """Return a text, and the empty text, as the two rows of a guided pass."""
    rows = torch.stack([kit.text.encode(words).embedding for words in (text, "")])
    return project_text(kit.dit, rows[:, None])
