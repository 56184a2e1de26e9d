"""A training run: gradient descent on a learning-rate curve, and a file to resume from.

A stopped run continues from its last save when the same command is given again. A resumed run draws
new random numbers, seeded by the seed and the step. So it is reproducible, but not identical to an
uninterrupted run.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import BadInput
from ..machine.temporary_files import rewriting
from .muon import Muon


@dataclass(frozen=True, slots=True)
class Curve:
    """Linear warm-up, flat, then linear decay to zero over the last `decay_share` of `steps`.

    The warm-up begins at step `begin`, where the optimisers know nothing yet.
    """

    steps: int
    warmup: int = 30
    decay_share: float = 0.4
    begin: int = 0

    def at(self, step: int) -> float:
        """Return the share (0 to 1) of the peak learning rate at `step`."""
        left = (self.steps - step) / (self.decay_share * self.steps)
        return min(1.0, (step + 1 - self.begin) / self.warmup, max(0.0, left))


class Descent:
    """Optimisers that step together; their initial rates are the peaks of one curve.

    The gradients of `clipped` parameters are clipped together to a norm of 1.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        curve: Curve,
        clipped: Sequence[nn.Parameter] = (),
    ) -> None:
        self.optimizers = optimizers
        self.curve = curve
        self.clipped = clipped
        self.peaks = [float(optimizer.param_groups[0]["lr"]) for optimizer in optimizers]

    def step(self, loss: Tensor, step: int) -> None:
        """Follow the gradient of `loss` as step number `step`, changing parameters in place."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.clipped:
            nn.utils.clip_grad_norm_(self.clipped, 1.0)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * self.curve.at(step)
            optimizer.step()


def matrix_descent(
    parameters: Sequence[nn.Parameter], curve: Curve, *, muon: float, adamw: float
) -> Descent:
    """Use Muon at peak rate `muon` for matrices and kernels, AdamW at `adamw` for vectors."""
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    rest = torch.optim.AdamW(vectors, adamw, weight_decay=0.0)
    return Descent([Muon(matrices, muon), rest], curve)


@dataclass(slots=True)
class TrainingRun:
    """The model in training, its state file, and the number of finished steps.

    `averaged` is a running mean of the weights; it stays empty for runs without one.
    """

    file: Path
    model: nn.Module
    descent: Descent
    averaged: dict[str, Tensor] = field(default_factory=dict)
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since this process started or resumed the run."""
        return time.monotonic() - self.began

    def is_due(self, every: int) -> bool:
        """Return True after every `every` steps and after the last step."""
        return self.done % every == 0 or self.done == self.descent.curve.steps

    def descend(self, loss: Tensor) -> None:
        self.descent.step(loss, self.done)
        self.done += 1

    @torch.no_grad()
    def average(self, keep: float) -> None:
        """Move the running mean towards the weights; `keep` of it stays, less at the start."""
        share = 1 - min(keep, (1 + self.done) / (10 + self.done))
        for name, value in self.model.state_dict().items():
            self.averaged.setdefault(name, value.clone()).lerp_(value, share)

    def resume(self, rng: random.Random, seed: int) -> None:
        """Continue from `file` if it exists; then reseed `rng` and torch by seed and step."""
        if not self.file.exists():
            return
        state = torch.load(self.file, weights_only=True)
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise BadInput(
                f"{self.file} belongs to a model of another shape; choose another --out folder."
            ) from error
        for optimizer, saved in zip(self.descent.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.averaged = state.get("averaged", {})
        self.done = state["step"]
        rng.seed(seed + self.done)
        torch.manual_seed(seed + self.done)

    def save(self) -> None:
        """Write the state to `file`, atomically."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.descent.optimizers],
            "step": self.done,
            **({"averaged": self.averaged} if self.averaged else {}),
        }
        partial = self.file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.file)


@dataclass(slots=True)
class RecentLosses:
    """A running mean of the loss of each task, for the log."""

    by_task: dict[str, float] = field(default_factory=dict)

    def add(self, task: str, loss: Tensor) -> None:
        value = float(loss.detach())
        self.by_task[task] = 0.97 * self.by_task.get(task, value) + 0.03 * value

    def __str__(self) -> str:
        return " ".join(f"{task} {value:.4f}" for task, value in self.by_task.items())


def save_half(
    weights: Mapping[str, Tensor], file: Path, header: Mapping[str, str] | None = None
) -> None:
    """Write `weights` in fp16 as safetensors."""
    half = {key: value.half().contiguous() for key, value in weights.items()}
    save_whole(half, file, header)


def save_whole(
    weights: Mapping[str, Tensor], file: Path, header: Mapping[str, str] | None = None
) -> None:
    """Write `weights` as safetensors; an older file stays until the new one is complete."""
    with rewriting(file) as temporary:
        save_file(dict(weights), temporary, None if header is None else dict(header))
