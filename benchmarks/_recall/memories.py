"""Scenery that returns, by memories of equal resident bytes, and what each of them recalls.

The clip, the noise and the measure are those of `attention_recall`. All memories get the keys and
values of a full history, so that they differ only in what they hold; `served_figures` instead runs
the sampling loop itself, whose commits see no more than the memory.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ...attention.cache.policy import CachePolicy, FullHistory, WindowSink
from ...attention.history import HistoryCache, open_cache, planned_bytes
from ...attention.recall.content import ContentCache
from ...attention.recall.window import RecallWindow
from ...attention.storage.dense import DENSE
from ...attention.storage.shape import CacheShape
from ...model.preset import DEMO
from ...samplers.camera.implied import turning_path
from ...samplers.camera.path import CameraPath
from ...samplers.camera.track import CameraTrack
from ...samplers.history.recall import view_scores
from ...samplers.history.runs import best_runs
from ...training.evaluation.kit import Kit, Recipe
from ...training.evaluation.measures import entering_agreement
from ...training.evaluation.returns import (
    CHUNK,
    TRUTH,
    CameraTurn,
    Clip,
    Memory,
    entering_figures,
    there_and_back,
    whole_way_figures,
)
from .._attention.chunk import decode_chunk
from .._attention.recall import FULL, denoise, encode_prompt, fill_caches, merge
from .._shared.passes import Passes

WINDOW_FRAMES, SINK_FRAMES, RECALL_FRAMES = DEMO.window_frames, 3, 9
WINDOW, SINK, TEMP = "window", "window and sink", "TempCache"
VIEW, TWO_VIEWS, CONTENT = "view", "view, two runs", "content"
RANDOM_RUN, RANDOM_FRAMES = "random run", "random frames"
RECALL = RecallWindow(WINDOW_FRAMES, 0, RECALL_FRAMES, by="content", flat_world=True)


@dataclass(frozen=True, slots=True)
class Returning:
    """A clip before its last chunk, with its texts encoded."""

    kit: Kit
    clip: Clip
    seed: int

    @property
    def history(self) -> int:
        """Latent frames before the chunk."""
        return len(self.clip.latents) - CHUNK

    def text_at(self, frame: int) -> str:
        """The caption in force at a latent frame."""
        return self.clip.back if frame >= self.clip.turn else self.clip.away

    def path_at(self, frame: int) -> CameraPath:
        """The camera's path at a latent frame, by the captions' words."""
        return turning_path(self.text_at(frame), self.clip.away, frame - self.clip.turn)

    def agreement(self, chunk: torch.Tensor) -> float:
        """How well the scenery that enters in a chunk (f, c, h, w) agrees with the truth."""
        shown = decode_chunk(self.kit, self.clip.latents[:-CHUNK], chunk)
        return entering_agreement(shown[-1], self.clip.truth)


@torch.inference_mode()
def held_figures(kit: Kit, turn: CameraTurn, seed: int) -> dict[str, float]:
    """Agreement, resident megabytes and first frame recalled, by memory."""
    case = Returning(kit, there_and_back(kit, turn, seed), seed)
    texts = {text: encode_prompt(kit, text) for text in (case.clip.away, case.clip.back)}
    passes, caches = Passes(kit, case.clip.prompts), _open_caches(case)
    fill_caches(passes, case.clip, texts, caches)
    figures = {TRUTH: case.agreement(case.clip.latents[-CHUNK:])}

    def add(name: str, cache: HistoryCache) -> None:
        figures[name] = case.agreement(denoise(passes, texts[case.clip.back], cache, seed))
        figures[f"MB: {name}"] = cache.bytes / 1e6

    for name, cache in caches.items():
        if not isinstance(cache, ContentCache):
            add(name, cache)
            continue
        for choice, frames in _choices(case, cache).items():
            cache.recall(frames)
            add(choice, cache)
            figures[f"first frame: {choice}"] = min(frames)
    return figures


def _open_caches(case: Returning) -> dict[str, HistoryCache]:
    """Open all memories of the suite, without content."""
    c, latents = case.kit.config, case.clip.latents
    side = latents.shape[-2] // 2, latents.shape[-1] // 2
    shape = CacheShape(c.num_layers, 2, c.num_heads, c.head_dim, *side, CHUNK)
    return {name: open_cache(shape, policy, DENSE, case.history, "cpu")
            for name, policy in _policies(shape).items()}  # fmt: skip


def _policies(shape: CacheShape) -> dict[str, CachePolicy]:
    """The policies, all but the full history of at most the window's bytes on the device."""
    window = WindowSink(WINDOW_FRAMES)
    most, tokens = planned_bytes(shape, window, DENSE, None), WINDOW_FRAMES * shape.frame_tokens
    while planned_bytes(shape, merge(tokens / shape.frame_tokens), DENSE, None) > most:
        tokens -= 1
    return {
        FULL: FullHistory(),
        WINDOW: window,
        SINK: WindowSink(WINDOW_FRAMES, SINK_FRAMES),
        TEMP: merge(tokens / shape.frame_tokens),
        "recall": RECALL,
    }


def _choices(case: Returning, cache: ContentCache) -> dict[str, list[int]]:
    """The past frames that each way to choose recalls."""
    past, rng = sorted(cache.archive.frames), random.Random(case.seed)
    views = _view_scores(case, past)
    start = rng.randrange(len(past) - RECALL_FRAMES + 1)

    def chosen(scores: Sequence[float], runs: int) -> list[int]:
        return [past[i] for i in best_runs(scores, RECALL_FRAMES, runs)]

    return {
        VIEW: chosen(views, 1),
        TWO_VIEWS: chosen(views, 2),
        CONTENT: chosen(cache.scores(past), 1),
        RANDOM_RUN: past[start : start + RECALL_FRAMES],
        RANDOM_FRAMES: sorted(rng.sample(past, RECALL_FRAMES)),
    }


def _view_scores(case: Returning, past: Sequence[int]) -> list[float]:
    """How much of what the chunk sees each past frame saw, by the captions' pans."""
    track = CameraTrack(case.clip.latents.shape[-1], flat_world=True)
    track.extend([case.path_at(frame) for frame in range(case.history)])
    ahead = range(case.history, case.history + CHUNK)
    return view_scores(track, track.ahead([case.path_at(frame) for frame in ahead]), past)


SERVED: Mapping[str, Memory] = {
    WINDOW: Memory(WindowSink(WINDOW_FRAMES)),
    VIEW: Memory(replace(RECALL, by="view")),
    CONTENT: Memory(RECALL),
}
"""The memories of rollouts in which the sampling loop makes all commits."""


def served_figures(kit: Kit, turn: CameraTurn, seed: int) -> dict[str, float]:
    """Agreement by memory in one chunk, where the sampling loop makes all commits."""
    return entering_figures(kit, seed, turn=turn, memories=SERVED, recipe=Recipe())


def whole_figures(kit: Kit, turn: CameraTurn, seed: int) -> dict[str, float]:
    """Agreement by memory over the way back, which the model makes itself."""
    return whole_way_figures(kit, seed, turn=turn, memories=SERVED, recipe=Recipe())
