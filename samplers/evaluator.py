"""The model while it is claimed: projected prompts, and evaluations of a batch of branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ..attention.cache.prompt_keys import PromptKeys
from ..attention.sparse.prompt_attention import SparsePrompt
from ..model.dit import Prediction, Runs, SelfAttention, TextKV, predict, project_text
from .conditioning.reference import Reference
from .denoiser import Denoiser
from .guidance import Prompt
from .solvers.noise_process import NoiseProcess


class Evaluator:
    """Evaluates a model under one of several prompts per batch row; `evals` counts rows.

    Of each there may be several texts, for latent frames of different times. `process` says what
    the model is told of a noise level, `reference` of its picture, `to_prompt` how it attends to
    prompts where that is not dense.
    """

    def __init__(
        self, model: Denoiser, process: NoiseProcess, reference: Reference | None = None
    ) -> None:
        self.model, self.process, self.reference = model, process, reference
        self.evals = 0
        self.to_prompt: SparsePrompt | None = None
        self._tree: Any = None
        self._prompts: tuple[Prompt, ...] = ()
        self._text: TextKV | None = None
        self._rows: dict[tuple[tuple[int, ...], Runs], TextKV] = {}

    def claim(self, kv_bytes: int) -> None:
        """Claim the model for a chunk, `kv_bytes` being about to be allocated."""
        self._tree = self.model.host.claim(kv_bytes)

    @torch.no_grad()
    def project(self, embeddings: Mapping[Prompt, Sequence[Tensor]]) -> None:
        """Put prompts in force: texts (l, text_dim) by name, as many of each."""
        self._prompts = tuple(embeddings)
        context = torch.stack([torch.stack([*texts]) for texts in embeddings.values()])
        picture = None if self.reference is None else self.reference.features
        if picture is not None:
            picture = picture.to(self.model.device, self.model.dtype).expand(len(context), -1, -1)
        context = context.to(self.model.device, self.model.dtype)
        self._text = project_text(self._tree, context, picture)
        self._rows.clear()
        if self.to_prompt is not None:
            self.to_prompt.forget()

    def prompt_keys(self, prompt: Prompt, row: int) -> PromptKeys:
        """The first of a prompt's texts, as a cache's `row` is asked about it."""
        assert self._text is not None
        i = self._prompts.index(prompt)
        return PromptKeys(tuple(k[i, 0].float().mean(0) for k, _ in self._text.layers), row)

    @property
    def projected(self) -> bool:
        """Whether there are prompts in force."""
        return self._text is not None

    @torch.no_grad()
    def evaluate(  # noqa: PLR0913
        self,
        x: Tensor,
        levels: Sequence[Sequence[float]],
        prompts: Sequence[Prompt],
        attention: SelfAttention,
        *,
        frames: Sequence[int],
        texts: Sequence[int] = (),
        keep: bool = False,
    ) -> Prediction:
        """Predict for x (b, f, c, h, w), those latent `frames`, at noise `levels` (b, f), a prompt
        per row.

        `texts` says which of the prompt's texts each latent frame has, the first one unless told.
        `keep` returns keys and values of every layer, for a commit.
        """
        self.model.host.check_interrupted()
        self.evals += len(x)
        told = [[self.process.timestep(level) for level in of_row] for of_row in levels]
        t = torch.tensor(told, dtype=torch.float64)
        return predict(
            self._tree,
            self._with_reference(x, frames).to(self.model.dtype),
            t,
            self._text_rows(prompts, texts or (0,) * x.shape[1]),
            attention,
            to_prompt=self.to_prompt,
            keep=keep,
            cast=self.model.host.cast,
        )

    def _with_reference(self, x: Tensor, frames: Sequence[int]) -> Tensor:
        if self.reference is None:
            return x
        beside = self.reference.at(frames).to(x)
        return torch.cat([x, beside.expand(len(x), -1, -1, -1, -1)], 2)

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
