"""The claimed model: projected prompts, and evaluations of a batch of branches."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.cache.prompt_keys import PromptKeys
from ..attention.delta.state import Gates
from ..attention.sparse.prompt_attention import SparsePrompt
from ..attention.sparse.settings import Sparsity
from ..attention.sparse.thresholds import apply_measurements
from ..machine.uploads import upload
from ..model.anyflow.flow_map import target_hooks
from ..model.arithmetic.times import KeptTimes
from ..model.blocks import ALL_BLOCKS
from ..model.delta import delta_hooks, gates
from ..model.dit import (
    COARSE_PATCHES,
    FINE_PATCHES,
    PassOptions,
    Prediction,
    SelfAttention,
    TextKV,
    project_picture,
)
from ..model.forward import ProjectedText
from ..model.hooks import NO_HOOKS, Hooks
from ..model.voice import voice_hooks
from .conditioning.reference import Reference
from .conditioning.text_rows import TextRows
from .denoiser import Denoiser
from .feature_caching import CachedPass, Evaluations
from .guidance import Prompt, Push
from .guided_prompt import push_hooks
from .pass_reader import PassReader
from .solvers.noise_process import NoiseProcess
from .steering import Steering

DENSE_ATTENTION = Sparsity()


@dataclass(frozen=True, slots=True)
class PassInputs:
    """What one pass evaluates: latents x (b, f, c, h, w), the latent `frames`, at `levels` (b, f).

    `prompts` holds one prompt per batch row. `texts` holds the index of each frame's text among
    its prompt's texts; empty stands for 0. `reader` gives modules what they read of the history.
    `push` is how attention to prompts is pushed from the negative prompt. `skipped` are layers that
    the pass leaves out. `targets` (b, f) are the levels that a flow map leads to; empty stands for
    `levels`. `coarse`: each token stands for 4 x 4 places, in a commit of an older past.
    """

    x: Tensor
    frames: Sequence[int]
    levels: Sequence[Sequence[float]]
    prompts: Sequence[Prompt]
    reader: PassReader
    texts: Sequence[int] = ()
    push: Push | None = None
    skipped: Sequence[int] = ()
    targets: Sequence[Sequence[float]] = ()
    coarse: bool = False


class Turn:
    """Whose turn it is: the weights of all others may have left the device.

    A turn does not keep its holder, so that projected prompts go when a shot ends.
    """

    def __init__(self) -> None:
        self._holder: weakref.ref[Evaluator] | None = None

    @property
    def holder(self) -> Evaluator | None:
        """The evaluator of the weights that were claimed last."""
        return None if self._holder is None else self._holder()

    def give(self, evaluator: Evaluator) -> None:
        """Let it be the turn of these weights."""
        self._holder = weakref.ref(evaluator)


class Evaluator:
    """Evaluates a model under one of several prompts per batch row; `evaluations` counts rows.

    A prompt may have several texts, for latent frames of different times. `process` turns a noise
    level into the model's timestep. `reference` is the picture of a model that takes one.
    `sparsity` may make attention to prompts sparse. `steering` moves the camera of a model that
    takes one, and reads a control video. Evaluators of several weights share a `turn`: a pass
    claims its weights where others were claimed since.
    """

    def __init__(
        self,
        model: Denoiser,
        process: NoiseProcess,
        reference: Reference | None = None,
        sparsity: Sparsity = DENSE_ATTENTION,
        steering: Steering | None = None,
        turn: Turn | None = None,
    ) -> None:
        self.model, self.process, self.reference = model, process, reference
        self.evaluations, self._turn = Evaluations(), turn or Turn()
        prompt_sparsity = apply_measurements(sparsity, model.device).prompt_sparsity
        self._to_prompt = None if prompt_sparsity is None else SparsePrompt(prompt_sparsity)
        self._tree: Any = None
        self._embeddings: Mapping[Prompt, Sequence[Tensor]] = {}
        self._prompts: tuple[Prompt, ...] = ()
        self._text: TextRows | None = None
        self._control_text: TextRows | None = None
        self._times = KeptTimes()
        self._threads = torch.get_num_threads()
        self._steering = steering
        self._control = None if steering is None else steering.control

    def claim(self, kv_bytes: int) -> None:
        """Claim the model, for a chunk or for its turn, before `kv_bytes` are allocated."""
        before = self._turn.holder
        self._turn.give(self)
        if before is not None and before is not self:
            before._step_back()
        self._tree = self.model.host.claim(kv_bytes)
        if self._steering is not None:
            self._steering.renew()

    def project(self, embeddings: Mapping[Prompt, Sequence[Tensor]]) -> None:
        """Put prompts in force: the same number of texts (l, text_dim) for each prompt."""
        self._embeddings, self._prompts = embeddings, tuple(embeddings)
        self._forget_text()
        if self._turn.holder is self:
            self._project()

    @torch.no_grad()
    def _project(self) -> TextRows:
        """The keys and values of the prompts in force.

        The number of threads changes their last bits. They are of the present one, so that a shot
        that resumes where threads are divided has the bits of one that began with all of them.
        """
        threads = torch.get_num_threads()
        if threads != self._threads:
            self._threads = threads
            self._forget_text()
        if self._text is None:
            texts = self._embeddings.values()
            context = torch.stack([torch.stack([*of_prompt]) for of_prompt in texts])
            context = upload(context.to(self.model.dtype), self.model.device)
            self._text = TextRows(self._read_text(context, self._picture(len(context))))
            if self._control is not None:
                self._control_text = TextRows(self._control.project(self._tree, context))
        return self._text

    def _picture(self, rows: int) -> Tensor | None:
        """The picture's CLIP features (b, s, c), the same for all rows."""
        features = None if self.reference is None else self.reference.features
        if features is None:
            return None
        return features.to(self.model.device, self.model.dtype).expand(rows, -1, -1)

    def _read_text(self, context: Tensor, picture: Tensor | None) -> ProjectedText:
        """Prompts as the model reads them, or the picture for a model that reads none."""
        if self.model.config.reads_prompt:
            return self.model.forward.project_text(self._tree, context, picture)
        assert picture is not None  # `check_camera` asks for the features
        return project_picture(self._tree, picture)

    def _step_back(self) -> None:
        """Leave the turn to other weights: only one set keeps projected prompts on the device."""
        self._forget_text()
        self._tree = None
        if self._steering is not None:
            self._steering.forget()

    def _forget_text(self) -> None:
        self._text = self._control_text = None
        self._times.forget()  # like text, it is read by the weights that were claimed
        if self._to_prompt is not None:
            self._to_prompt.forget()

    def prompt_keys(self, prompt: Prompt, row: int) -> PromptKeys:
        """The keys of a prompt's first text, per layer, for a cache's batch `row`."""
        i, text = self._prompts.index(prompt), self._project().text
        assert isinstance(text, TextKV)  # a memory bank is refused where text has no keys
        return PromptKeys(tuple(k[i, 0].float().mean(0) for k, _ in text.layers), row)

    @property
    def projected(self) -> bool:
        """Whether prompts are in force."""
        return bool(self._embeddings)

    @torch.no_grad()
    def evaluate(
        self,
        inputs: PassInputs,
        attention: SelfAttention,
        *,
        keep: bool = False,
        whole: bool = True,
        cached: CachedPass | None = None,
    ) -> Prediction:
        """Predict the velocity of `inputs`; `keep` returns keys and values of every layer.

        A pass that is not `whole` ends with these and predicts nothing. A `cached` pass may take
        over the work of the last one.
        """
        if self._turn.holder is not self:
            self.claim(0)
        self.model.host.check_interrupted()
        x, reference = inputs.x, self.reference
        x = x if reference is None else reference.beside(x, inputs.frames)
        prediction = self.model.forward.predict(
            self._tree,
            x.to(self.model.dtype),
            self._timesteps(inputs.levels),
            self._project().select(*self._rows(inputs)),
            attention,
            PassOptions(
                self._to_prompt,
                keep,
                self.model.host.cast,
                self._hooks(inputs, keep),
                whole,
                self.model.arithmetic,
                cached or ALL_BLOCKS,
                self.model.layers,
                self._times,
                inputs.skipped,
                COARSE_PATCHES if inputs.coarse else FINE_PATCHES,
            ),
        )
        replaced = cached is not None and cached.replaced
        self.evaluations += Evaluations(0, len(x)) if replaced else Evaluations(len(x))
        return prediction

    def _rows(self, inputs: PassInputs) -> tuple[list[int], Sequence[int]]:
        """The number of each batch row's prompt, and of each latent frame's text."""
        prompts = [self._prompts.index(prompt) for prompt in inputs.prompts]
        return prompts, inputs.texts or (0,) * inputs.x.shape[1]

    @torch.no_grad()
    def gates(self, layer: int, values: Tensor) -> Gates:
        """The gates of latent frames that leave the window, by their values (b, f, s, n, d)."""
        return gates(self._tree, layer, values)

    def _hooks(self, inputs: PassInputs, commits: bool) -> Hooks:
        """The hooks of all modules that read something in this pass."""
        hooks, state = self._inputs_hooks(inputs, commits), inputs.reader.state()
        if inputs.push is not None:
            hooks = hooks.then(self._push_hooks(inputs, inputs.push))
        if self.model.config.flow_map:
            targets = self._timesteps(inputs.targets or inputs.levels)
            model = self.model
            hooks = hooks.then(target_hooks(self._tree, targets, model.dtype, model.device))
        return hooks if state is None else hooks.then(delta_hooks(self._tree, state))

    def _timesteps(self, levels: Sequence[Sequence[float]]) -> Tensor:
        """The model's timesteps (b, f) for noise `levels`, float64 on the CPU."""
        times = [[self.process.timestep(level) for level in row] for row in levels]
        return torch.tensor(times, dtype=torch.float64)

    def _push_hooks(self, inputs: PassInputs, push: Push) -> Hooks:
        """The hook that pushes rows of other prompts from the negative one."""
        negative = self._project().select([self._prompts.index("negative")], (0,))
        assert isinstance(negative, TextKV)  # others are refused
        rows = [0.0 if prompt == "negative" else 1.0 for prompt in inputs.prompts]
        strengths = torch.outer(torch.tensor(rows), torch.tensor(push.strengths))
        if not strengths.any():
            return NO_HOOKS
        return push_hooks(
            push.attention, negative, upload(strengths, self.model.device), self._to_prompt
        )

    def _voice_hooks(self, frames: Sequence[int]) -> Hooks:
        """The hooks of a model that speaks."""
        features = None if self.reference is None else self.reference.voice_at(frames)
        if features is None:
            return NO_HOOKS
        return voice_hooks(self._tree, upload(features.to(self.model.dtype), self.model.device))

    def _inputs_hooks(self, inputs: PassInputs, commits: bool) -> Hooks:
        """The hooks of voice and camera, and on steps those of the control video."""
        hooks = self._voice_hooks(inputs.frames)
        if self._steering is None:
            return hooks
        hooks = hooks.then(self._steering.hooks(self._tree, inputs.frames, inputs.reader))
        if self._control is None or self._control_text is None or commits:
            return hooks
        text = self._control_text.select(*self._rows(inputs))
        return hooks.then(self._control.hooks(self._tree, inputs.frames, text))
