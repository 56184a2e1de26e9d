"""The claimed model: projected prompts, and evaluations of a batch of branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ..attention.cache.prompt_keys import PromptKeys
from ..attention.sparse.prompt_attention import SparsePrompt
from ..attention.sparse.settings import Sparsity
from ..attention.sparse.thresholds import apply_measurements
from ..model.dit import (
    PassOptions,
    Prediction,
    Runs,
    SelfAttention,
    TextKV,
    predict,
    project_text,
)
from ..model.hooks import NO_HOOKS, Hooks
from .conditioning.reference import Reference
from .denoiser import Denoiser
from .guidance import Prompt
from .solvers.noise_process import NoiseProcess
from .steering import Steering

DENSE_ATTENTION = Sparsity()


@dataclass(frozen=True, slots=True)
class PassInputs:
    """What one pass evaluates: latents x (b, f, c, h, w), the latent `frames`, at `levels` (b, f).

    `prompts` holds one prompt per batch row. `texts` holds the index of each frame's text among
    its prompt's texts; empty stands for 0.
    """

    x: Tensor
    frames: Sequence[int]
    levels: Sequence[Sequence[float]]
    prompts: Sequence[Prompt]
    texts: Sequence[int] = ()


class Evaluator:
    """Evaluates a model under one of several prompts per batch row; `evals` counts rows.

    A prompt may have several texts, for latent frames of different times. `process` turns a noise
    level into the model's timestep. `reference` is the picture of a model that takes one.
    `sparsity` may make attention to prompts sparse. `steering` moves the camera of a model that
    takes one.
    """

    def __init__(
        self,
        model: Denoiser,
        process: NoiseProcess,
        reference: Reference | None = None,
        sparsity: Sparsity = DENSE_ATTENTION,
        steering: Steering | None = None,
    ) -> None:
        self.model, self.process, self.reference = model, process, reference
        self.evals = 0
        prompt_sparsity = apply_measurements(sparsity, model.device).prompt_sparsity
        self._to_prompt = None if prompt_sparsity is None else SparsePrompt(prompt_sparsity)
        self._tree: Any = None
        self._prompts: tuple[Prompt, ...] = ()
        self._text: TextKV | None = None
        self._rows: dict[tuple[tuple[int, ...], Runs], TextKV] = {}
        self._steering = steering

    def claim(self, kv_bytes: int) -> None:
        """Claim the model for a chunk, before `kv_bytes` are allocated."""
        self._tree = self.model.host.claim(kv_bytes)
        if self._steering is not None:
            self._steering.forget()

    @torch.no_grad()
    def project(self, embeddings: Mapping[Prompt, Sequence[Tensor]]) -> None:
        """Put prompts in force: the same number of texts (l, text_dim) for each prompt."""
        self._prompts = tuple(embeddings)
        context = torch.stack([torch.stack([*texts]) for texts in embeddings.values()])
        picture = None if self.reference is None else self.reference.features
        if picture is not None:
            picture = picture.to(self.model.device, self.model.dtype).expand(len(context), -1, -1)
        context = context.to(self.model.device, self.model.dtype)
        self._text = project_text(self._tree, context, picture)
        self._rows.clear()
        if self._to_prompt is not None:
            self._to_prompt.forget()

    def prompt_keys(self, prompt: Prompt, row: int) -> PromptKeys:
        """The keys of a prompt's first text, per layer, for a cache's batch `row`."""
        assert self._text is not None
        i = self._prompts.index(prompt)
        return PromptKeys(tuple(k[i, 0].float().mean(0) for k, _ in self._text.layers), row)

    @property
    def projected(self) -> bool:
        """Whether prompts are in force."""
        return self._text is not None

    @torch.no_grad()
    def evaluate(
        self, inputs: PassInputs, attention: SelfAttention, *, keep: bool = False
    ) -> Prediction:
        """Predict the velocity of `inputs`; `keep` returns keys and values of every layer."""
        x, frames = inputs.x, inputs.frames
        self.model.host.check_interrupted()
        self.evals += len(x)
        times = [[self.process.timestep(level) for level in row] for row in inputs.levels]
        t = torch.tensor(times, dtype=torch.float64)
        return predict(
            self._tree,
            self._with_reference(x, frames).to(self.model.dtype),
            t,
            self._text_rows(inputs.prompts, inputs.texts or (0,) * x.shape[1]),
            attention,
            PassOptions(self._to_prompt, keep, self.model.host.cast, self._hooks(frames)),
        )

    def _hooks(self, frames: Sequence[int]) -> Hooks:
        return NO_HOOKS if self._steering is None else self._steering.hooks(self._tree, frames)

    def _with_reference(self, x: Tensor, frames: Sequence[int]) -> Tensor:
        if self.reference is None:
            return x
        channels = self.reference.at(frames).to(x)
        return torch.cat([x, channels.expand(len(x), -1, -1, -1, -1)], 2)

    def _text_rows(self, prompts: Sequence[Prompt], texts: Sequence[int]) -> TextKV:
        assert self._text is not None
        indices = tuple(self._prompts.index(prompt) for prompt in prompts)
        several = self._text.layers[0][0].shape[1] > 1
        runs = tuple((text, len([*same])) for text, same in groupby(texts)) if several else ()
        if indices == tuple(range(len(self._prompts))) and not runs:
            return self._text
        if (indices, runs) not in self._rows:
            self._rows[indices, runs] = self._text.rows(indices, runs)
        return self._rows[indices, runs]
