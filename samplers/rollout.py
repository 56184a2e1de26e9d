"""The rollout: one sampling loop that turns a noise-level schedule into finished chunks, for ever
if asked.

A row of the schedule says which latent frames are active and their levels now and next. The loop
evaluates the model on them, combines the guidance branches, lets the solver step, and commits the
frames that became clean: one extra pass that gives the history its keys and values. Denoising only
reads the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..attention.kv_cache import CachePolicy, CacheShape, KVCache, WindowSink
from ..errors import BadInput, NotFinite
from ..model.config import PATCH, DiTConfig
from ..model.dit import Prediction, TextKV, predict, project_text
from .denoiser import Denoiser
from .guidance import Guidance
from .noise import frame_noise
from .prompts import PromptTimeline
from .schedule import NoiseSchedule, Row
from .solvers import Euler, Solver


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """Everything that decides what is generated, except the model.

    `rows` and `columns` are the latent picture's; `length` counts latent frames, None runs until
    stopped; `context_noise` is the noise level (0..1) at which finished frames enter the history,
    with noise to match.
    """

    prompts: PromptTimeline
    rows: int
    columns: int
    schedule: NoiseSchedule
    length: int | None = None
    seed: int = 0
    solver: Solver = field(default_factory=Euler)
    guidance: Guidance = field(default_factory=Guidance)
    cache: CachePolicy = field(default_factory=lambda: WindowSink(window_frames=21))
    context_noise: float = 0.0
    hold_rotated: bool = True

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < PATCH or self.rows % PATCH or self.columns % PATCH:
            raise BadInput(
                "latent rows and columns must be even and at least 2; "
                f"got {self.rows} x {self.columns}."
            )
        if self.length is not None and self.length < 1:
            raise BadInput(f"a rollout needs at least one latent frame; got {self.length}.")
        if not 0 <= self.context_noise < 1:
            raise BadInput(
                f"context_noise must be at least 0 and below 1; got {self.context_noise}."
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Latent frames that finished together: latents (f, c, h, w) float32 on the CPU, normalised.

    `first_frame` is the first latent frame's index in the rollout; `seconds` is the time it took to
    make, `kv_bytes` what the KV cache holds after it (0 when it was read back).
    """

    index: int
    first_frame: int
    latents: Tensor
    prompt: str = ""
    model_evals: int = 0
    seconds: float = 0.0
    kv_bytes: int = 0


SettingsAt = Callable[[int], RolloutSettings]
"""What is in force for the chunk that begins at a latent frame."""


def cache_shape(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> CacheShape:
    """The shape of this rollout's KV cache."""
    return CacheShape(
        layers=config.num_layers,
        batch=len(settings.guidance.branches),
        heads=config.num_heads,
        head_dim=config.head_dim,
        rows=settings.rows // PATCH,
        columns=settings.columns // PATCH,
        chunk_frames=settings.schedule.active_frames,
        dtype=dtype,
        hold_rotated=settings.hold_rotated,
    )


def generate(
    settings: RolloutSettings,
    model: Denoiser,
    finished: Iterable[Chunk] = (),
    settings_at: SettingsAt | None = None,
) -> Iterator[Chunk]:
    """Yield chunks, continuing after `finished` ones by replaying their commits (same bits).

    A chunk is yielded as soon as it is clean and committed only when the next one begins. Where the
    schedule lets chunks overlap, finished ones that overlap with unfinished ones are made again.
    `settings_at(first)` is asked as each chunk begins, replayed or new, and may change the prompts
    and the guidance weights in force from latent frame `first` on: live edits.
    """
    state = _Rollout(settings, model, settings_at)
    chunks, frames, redo = state.replay(finished)
    known = chunks + redo
    x = state.nothing()
    done: tuple[int, Tensor] | None = None
    starting = True
    for row in settings.schedule.rows(frames, settings.length):
        if starting:
            began, evals = time.perf_counter(), state.evals
            state.begin(row.first, done)
        x = state.step(row, x)
        starting = row.finished > 0
        if not starting:
            continue
        clean, x = x[: row.finished], x[row.finished :]
        state.check_finite(clean, row.first)
        done = (row.first, clean)
        if chunks >= known:
            made, seconds = state.evals - evals, time.perf_counter() - began
            latents, prompt = clean.float().cpu(), state.prompt.text
            yield Chunk(chunks, row.first, latents, prompt, made, seconds, state.cache.bytes)
        chunks += 1


class _Rollout:
    """The loop's state while it is hot: KV cache, claimed module tree, the prompt's projection."""

    def __init__(
        self, settings: RolloutSettings, model: Denoiser, settings_at: SettingsAt | None
    ) -> None:
        self.settings, self.model = settings, model
        self.settings_at: SettingsAt = settings_at or (lambda _: settings)
        self._cache: KVCache | None = None
        self.tree: Any = None
        self.text: TextKV | None = None
        self.prompt = settings.prompts.entries[0]
        self.evals = 0

    def replay(self, finished: Iterable[Chunk]) -> tuple[int, int, int]:
        """Commit `finished` chunks again; gives how many chunks and latent frames that was, and the
        chunks left over.

        A chunk is left over when frames after it were active before it was clean: their state is
        gone.
        """
        chunks, frames, waiting = 0, 0, list[Chunk]()
        for chunk in finished:
            waiting.append(chunk)
            end = chunk.first_frame + len(chunk.latents)
            if self.settings.schedule.can_start(end):
                for ready in waiting:
                    self.begin(ready.first_frame)
                    self.commit(ready.first_frame, ready.latents.to(self.model.device))
                chunks, frames, waiting = chunks + len(waiting), end, []
        return chunks, frames, len(waiting)

    def nothing(self) -> Tensor:
        """No active latent frames."""
        s, c = self.settings, self.model.config.out_channels
        return torch.empty(0, c, s.rows, s.columns, device=self.model.device)

    def begin(self, first: int, done: tuple[int, Tensor] | None = None) -> None:
        """Claim the model for a chunk from frame `first`, commit the one that is `done` before it.

        The commit still belongs to the old prompt; then the new one is projected, if it changed.
        """
        self._claim()
        if done is not None:
            self.commit(*done)
        self.settings = self.settings_at(first)
        prompt = self.settings.prompts.at(first)
        if self.text is None or prompt is not self.prompt:
            self.text, self.prompt = self._projected(prompt.embedding), prompt

    @property
    def cache(self) -> KVCache:
        """The history; it exists from the first claim on."""
        assert self._cache is not None
        return self._cache

    def step(self, row: Row, x: Tensor) -> Tensor:
        """One row: x (active before, c, h, w) float32 to all its frames at their next level."""
        frames = range(row.first, row.first + len(row.now))
        if len(x) < len(frames):
            x = torch.cat([x, self._noise(frames[len(x) :], 0, "start")])
        now, after = (
            torch.tensor(levels, device=x.device).view(-1, 1, 1, 1)
            for levels in (row.now, row.after)
        )
        v = self._velocity(x.to(self.model.dtype), row.now)
        noise = None
        if self.settings.solver.stochastic:
            addresses = zip(frames, row.steps, strict=True)
            parts = [self._noise(range(f, f + 1), step + 1, "renoise") for f, step in addresses]
            noise = torch.cat(parts)
        return self.settings.solver.step(x, v, now, after, noise)

    def commit(self, first: int, clean: Tensor) -> None:
        """Pass finished latents (f, c, h, w) once more, at the context noise level, and store them.

        Every branch stores the same composed latents: guidance and solver never see this pass.
        """
        level, clean = self.settings.context_noise, clean.to(self.model.dtype)
        if level > 0:
            noise = self._noise(range(first, first + len(clean)), 0, "context")
            clean = (1 - level) * clean + level * noise.to(clean.dtype)
        prediction = self._evaluate(clean, (level,) * len(clean), keep=True)
        self.cache.commit(prediction.keys_values)

    def check_finite(self, latents: Tensor, first: int) -> None:
        """Raise NotFinite, naming the layer, unless the latents from frame `first` are finite."""
        if torch.isfinite(latents).all():
            return
        noise = self._noise(range(first, first + len(latents)), 0, "start").to(self.model.dtype)
        layers = self._evaluate(noise, (1.0,) * len(latents), keep=True).keys_values
        bad = (
            f"layer {i}" for i, kv in enumerate(layers) if not all(x.isfinite().all() for x in kv)
        )
        raise NotFinite(
            f"the model produced values that are not finite at latent frame {first}, first seen in "
            f"{next(bad, 'its output')}, in {self.model.dtype}; earlier chunks are kept: "
            "try float32 or bfloat16 weights, or a lower guidance scale."
        )

    def _claim(self) -> None:
        """Claim the model; the first time with the KV cache's bytes, which are allocated then."""
        if self._cache is not None:
            self.tree = self.model.claim(0)
            return
        s = self.settings
        shape = cache_shape(s, self.model.config, self.model.dtype)
        self.tree = self.model.claim(shape.planned_bytes(s.cache, s.length))
        self._cache = KVCache(shape, s.cache, s.length, self.model.device)

    @torch.no_grad()
    def _projected(self, positive: Tensor) -> TextKV:
        texts = {"positive": positive, "negative": self.settings.prompts.negative}
        rows = [texts[branch.prompt] for branch in self.settings.guidance.branches]
        context = torch.stack(rows).unsqueeze(1)  # (b, 1, l, c)
        return project_text(self.tree, context.to(self.model.device, self.model.dtype))

    def _velocity(self, x: Tensor, levels: tuple[float, ...]) -> Tensor:
        return self.settings.guidance.combine(
            self._evaluate(x, levels, keep=False).velocity.float()
        )

    @torch.no_grad()
    def _evaluate(self, x: Tensor, levels: tuple[float, ...], *, keep: bool) -> Prediction:
        self.model.check()
        assert self.text is not None
        branches = len(self.settings.guidance.branches)
        t = 1000 * torch.tensor(levels, dtype=torch.float64).expand(branches, -1)
        attention = self.cache.attention(len(x))
        self.evals += branches
        return predict(
            self.tree,
            x.expand(branches, -1, -1, -1, -1),
            t,
            self.text,
            attention,
            keep=keep,
            cast=self.model.cast,
        )

    def _noise(self, frames: range, step: int, purpose: str) -> Tensor:
        s = self.settings
        shape = (self.model.config.out_channels, s.rows, s.columns)
        return frame_noise(s.seed, frames, step, purpose, shape).to(self.model.device)
