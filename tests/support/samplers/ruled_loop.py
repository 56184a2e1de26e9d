"""Rollouts under memory rules with plain lists: every pass attends to a list of frames with a full
table of log weights, written from the papers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longtake.attention.rope import rotate, rotation
from longtake.model.dit import PassOptions, TextKV, WanDiT, predict, project_text
from longtake.samplers.conditioning.prompts import PromptTimeline
from longtake.samplers.noise import addressed_noise
from longtake.tests.support.tiny_model import TINY

ROWS, COLUMNS, SEED, CHUNK = 4, 6, 5, 3


@dataclass(frozen=True)
class Rules:
    """The memory rules of one shot, and its window."""

    window: int
    sink: int = 0
    commit_sees: int | None = None
    recency: float = 0.0
    past: tuple[float, int] = (1.0, 0)
    change: int = 0
    near: int | None = None
    far_steps: int = 1
    far_layers: tuple[int, ...] = ()
    trained: int | None = None
    anchor: float = 0.0
    picture: Tensor | None = None

    def weight(self, frame: int, start: int, layer: int, step: int, steps: int) -> float:
        """The log weight of a frame in one step of the chunk from `start`."""
        weight, chunks = self.past
        log_past = 0.0
        if self.change <= start < self.change + chunks * CHUNK and frame < self.change:
            log_past = math.log(weight) if weight else -math.inf
        if frame < self.sink:
            return log_past
        late = step in range(steps - self.far_steps, steps) and layer in self.far_layers
        if self.near is not None and start - frame > self.near and not late:
            return -math.inf
        distance = math.ceil((start - frame) / CHUNK)  # in chunks
        gamma = {1: [0.2], 2: [0.2, 0.8], 3: [0.2, 0.2 * 2 ** (4 / 3), 0.2 * 2 ** (8 / 3)],
                 4: [0.2, 0.4, 0.8, 1.6]}[steps][step]  # fmt: skip
        return log_past - self.recency * min(1, max(0, distance - 1) / 4) ** gamma

    def commit_weight(self, frame: int, start: int) -> float:
        """The log weight of a frame for the commit of the chunk from `start`."""
        newest = self.commit_sees is None or start - frame <= self.commit_sees
        seen = newest and (self.commit_sees is None or frame >= self.sink)
        return 0.0 if seen else -math.inf


FrameKeys = list[tuple[Tensor, Tensor]]
"""Un-rotated keys and values (s, n, d) of one frame in every layer."""


@dataclass
class Past:
    """The frames held, by number."""

    rules: Rules
    frames: dict[int, FrameKeys] = field(default_factory=dict)

    def positions(self, frames: int) -> tuple[list[int], list[int]]:
        """The positions of the held frames and of so many that follow.

        In a trained range, those that follow end at its top, and only the sink stays at the bottom.
        """
        count, numbers = len(self.frames), [*self.frames]
        following = max(numbers, default=-1) + 1
        start = count
        if self.rules.trained is not None:
            start = max(count, min(following, self.rules.trained - CHUNK))
        held = [n if n < self.rules.sink else start - (following - n) for n in numbers]
        return held, [*range(start, start + frames)]

    def add(self, frame: int, keys: FrameKeys) -> None:
        """Append a frame; the oldest one outside the sink leaves a full window."""
        self.frames[frame] = keys
        if len(self.frames) > self.rules.window:
            del self.frames[min(f for f in self.frames if f >= self.rules.sink)]


@dataclass
class WeightedPass:
    """Attention of one pass; `weights` holds the log weight of each (layer, frame) held."""

    past: Past
    weights: Mapping[tuple[int, int], float]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tokens = ROWS * COLUMNS // 4
        held, active = self.past.positions(q.shape[1] // tokens)
        keys = [kv[layer][0] for kv in self.past.frames.values()]
        values = [kv[layer][1] for kv in self.past.frames.values()]
        key = rotate(torch.cat([*keys, k[0]])[None], turn([*held, *active]))[0]
        value = torch.cat([*values, v[0]])
        query = rotate(q, turn(active))[0]
        table = torch.zeros(len(query), len(key))
        for i, frame in enumerate(self.past.frames):
            table[:, i * tokens : (i + 1) * tokens] = self.weights[layer, frame]
        logits = torch.einsum("snd,tnd->nst", query, key) / query.shape[-1] ** 0.5 + table
        return torch.einsum("nst,tnd->snd", logits.softmax(-1), value)[None]


def turn(positions: list[int]):  # noqa: ANN201
    """The rotation of frames at `positions`."""
    return rotation(positions, ROWS // 2, COLUMNS // 2, TINY.head_dim)


def ruled_loop(
    dit: WanDiT, prompts: PromptTimeline, ladder: list[float], rules: Rules, length: int
) -> Tensor:
    """All latent frames (f, c, h, w), chunk after chunk by Euler steps, each then committed."""
    past, chunks = Past(rules), list[Tensor]()
    for start in range(0, length, CHUNK):
        frames = range(start, min(start + CHUNK, length))
        text = project_text(dit, prompts.at(start).embedding[None, None])
        x = torch.stack([start_noise(frame) for frame in frames])
        steps = len(ladder) - 1
        for step, (now, after) in enumerate(zip(ladder, ladder[1:], strict=False)):
            weights = {
                (layer, f): rules.weight(f, start, layer, step, steps)
                for layer in range(TINY.num_layers)
                for f in past.frames
            }
            x = x + (after - now) * one_pass(dit, x, now, text, WeightedPass(past, weights))[0]
        if rules.anchor:
            first = rules.picture if rules.picture is not None else anchor_of(start, chunks, rules)
            x = anchored(x, first, rules.anchor) if first is not None else x
        weights = {
            (layer, f): rules.commit_weight(f, start)
            for layer in range(TINY.num_layers)
            for f in past.frames
        }
        _, layers = one_pass(dit, x, 0.0, text, WeightedPass(past, weights))
        for i, frame in enumerate(frames):
            past.add(frame, [tuple(t[0].chunk(len(frames))[i] for t in kv) for kv in layers])
        chunks.append(x)
    return torch.cat(chunks)


def anchor_of(start: int, chunks: list[Tensor], rules: Rules) -> Tensor | None:
    """The first chunk under the prompt of the chunk from `start`; None for that chunk itself."""
    first = rules.change if rules.change <= start else 0
    return chunks[first // CHUNK] if first < start else None


def anchored(x: Tensor, anchor: Tensor, strength: float) -> Tensor:
    """Channel by channel: mean and deviation moved toward those of the anchor (f, c, h, w)."""
    out = x.clone()
    for c in range(x.shape[1]):
        own, target = x[:, c].flatten(), anchor[:, c].flatten()
        spread = ((own - own.mean()) ** 2).mean().sqrt()
        anchor_spread = ((target - target.mean()) ** 2).mean().sqrt()
        moved = (x[:, c] - own.mean()) / spread * anchor_spread + target.mean()
        out[:, c] = (1 - strength) * x[:, c] + strength * moved
    return out


def start_noise(frame: int) -> Tensor:
    """The noise from which a latent frame starts."""
    shape = (TINY.out_channels, ROWS, COLUMNS)
    return addressed_noise(SEED, frame, 0, "start", shape)


def one_pass(
    dit: WanDiT, x: Tensor, level: float, text: TextKV, attention: WeightedPass
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The velocity (f, c, h, w), and keys and values of every layer."""
    t = torch.full((1, len(x)), 1000 * level, dtype=torch.float64)
    prediction = predict(dit, x[None], t, text, attention, PassOptions(keep=True))
    return prediction.velocity[0], [*prediction.keys_values]
