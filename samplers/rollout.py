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
from dataclasses import dataclass

import torch
from torch import Tensor

from .branches import Branches
from .denoiser import Denoiser
from .schedule import Row
from .settings import RolloutSettings


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
    x = state.branches.nothing()
    done: tuple[int, Tensor] | None = None
    starting = True
    for row in settings.schedule.rows(frames, settings.length):
        if starting:
            began, evals = time.perf_counter(), state.branches.evals
            state.begin(row.first, done)
        x = state.step(row, x)
        starting = row.finished > 0
        if not starting:
            continue
        clean, x = x[: row.finished], x[row.finished :]
        state.branches.check_finite(clean, row.first)
        done = (row.first, clean)
        if chunks >= known:
            made, seconds = state.branches.evals - evals, time.perf_counter() - began
            latents, prompt = clean.float().cpu(), state.branches.prompt.text
            kv_bytes = state.branches.cache.bytes
            yield Chunk(chunks, row.first, latents, prompt, made, seconds, kv_bytes)
        chunks += 1


class _Rollout:
    """The loop's state while it is hot: the branches and what is in force."""

    def __init__(
        self, settings: RolloutSettings, model: Denoiser, settings_at: SettingsAt | None
    ) -> None:
        self.settings, self.device = settings, model.device
        self.settings_at: SettingsAt = settings_at or (lambda _: settings)
        self.branches = Branches(settings, model)

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
                    self.branches.commit(ready.first_frame, ready.latents.to(self.device))
                chunks, frames, waiting = chunks + len(waiting), end, []
        return chunks, frames, len(waiting)

    def begin(self, first: int, done: tuple[int, Tensor] | None = None) -> None:
        """Claim the model for a chunk from frame `first`, commit the one that is `done` before it.

        The commit still belongs to the old prompt; then the new one is projected, if it changed.
        """
        self.branches.claim()
        if done is not None:
            self.branches.commit(*done)
        self.settings = self.settings_at(first)
        self.branches.use(self.settings, self.settings.prompts.at(first))

    def step(self, row: Row, x: Tensor) -> Tensor:
        """One row: x (active before, c, h, w) float32 to all its frames at their next level."""
        frames = range(row.first, row.first + len(row.now))
        if len(x) < len(frames):
            x = torch.cat([x, self.branches.noise(frames[len(x) :], 0, "start")])
        now, after = (
            torch.tensor(levels, device=x.device).view(-1, 1, 1, 1)
            for levels in (row.now, row.after)
        )
        v = self.branches.velocity(x, row.now)
        noise = None
        if self.settings.solver.stochastic:
            addresses = zip(frames, row.steps, strict=True)
            parts = [
                self.branches.noise(range(f, f + 1), step + 1, "renoise") for f, step in addresses
            ]
            noise = torch.cat(parts)
        return self.settings.solver.step(x, v, now, after, noise)
