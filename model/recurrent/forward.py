"""The forward pass of a recurrent model, with the signature of the transformer's.

What a transformer asks of the history with queries, this network asks with nothing: the history
answers with a layer's state. What a transformer keeps of a frame as keys and values, this one
keeps as hidden state and cell. So caches, commits and views need not know which of the two runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...machine.uploads import upload
from ..cross_attention import KeysValues, Runs
from ..dit import PLAIN, PassOptions, Prediction, SelfAttention
from .network import LayerState


@dataclass(frozen=True, slots=True)
class TextVectors:
    """One vector for each prompt: `vectors` (b, p, c).

    p is 1 if all latent frames share the prompt, or the number of latent frames, or the number of
    prompts. In the last case `runs` says which prompt serves how many frames in a row.
    """

    vectors: Tensor
    runs: Runs = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and prompts of a row."""
        return self.vectors.shape[0], self.vectors.shape[1]

    def rows(self, indices: Sequence[int]) -> TextVectors:
        """Select rows by `indices`."""
        picked = upload(torch.tensor([*indices]), self.vectors.device)
        return TextVectors(self.vectors[picked])

    def in_runs(self, runs: Runs) -> TextVectors:
        """The same prompts, each for so many latent frames in a row."""
        return replace(self, runs=runs)

    def of_frames(self, count: int) -> Tensor:
        """The vectors of `count` latent frames: (b, f, c)."""
        if self.runs:
            numbers = [number for number, frames in self.runs for _ in range(frames)]
            return self.vectors[:, upload(torch.tensor(numbers), self.vectors.device)]
        return self.vectors.expand(-1, count, -1)


def project_text(tree: Any, context: Tensor, picture: Tensor | None = None) -> TextVectors:
    """The mean of a prompt's words, embedded: `context` (b, p, l, text_dim), padded with zeros."""
    words = (context != 0).any(-1, keepdim=True).to(context)
    mean = (context * words).sum(2) / words.sum(2).clamp(min=1)
    return TextVectors(tree.text_embedding(mean))


def predict(  # noqa: PLR0913
    tree: Any,
    x: Tensor,
    t: Tensor,
    text: TextVectors,
    attention: SelfAttention,
    options: PassOptions = PLAIN,
) -> Prediction:
    """The flow velocity of latents x (b, f, c, h, w) at timesteps t (b, f) in 0..1000.

    Frames are read in order, so that each one is denoised from the history and the frames before
    it in the pass. The states after each of them are kept as pairs (b, f h w, 1, c).
    """
    frames = x.shape[1]
    conditions = options.times(tree, t, x) + text.of_frames(frames)
    states = [_state(attention, layer, x, tree.dim) for layer in range(len(tree.layers))]
    features, after = [], list[list[LayerState]]()
    for i in range(frames):
        y = tree.stem(x[:, i])
        for number, layer in enumerate(tree.layers):
            y, states[number] = layer(y, conditions[:, i], states[number])
        features.append(y)
        after.append(list(states))
    pairs = _pairs(after) if options.keep else ()
    if not options.whole:
        return Prediction(x[:0], pairs)
    out = tree.head(F.silu(tree.norm(torch.cat(features))))
    return Prediction(rearrange(out, "(f b) c h w -> b f c h w", f=frames), pairs)


def _state(attention: SelfAttention, layer: int, x: Tensor, dim: int) -> LayerState:
    """The state of a layer before the pass: what the history answers for its batch rows."""
    nothing = x.new_empty(len(x), 0, 1, dim)
    answer = attention(layer, nothing, nothing, nothing)
    hidden, cell = rearrange(answer, "b (k h w) n c -> k b (n c) h w", k=2, h=x.shape[-2])
    return hidden, cell


def _pairs(after: Sequence[Sequence[LayerState]]) -> tuple[KeysValues, ...]:
    """States by frame and layer as a pair for each layer, (b, f h w, 1, c)."""
    pairs = []
    for by_frame in zip(*after, strict=True):
        hidden, cell = (
            rearrange(list(part), "f b c h w -> b (f h w) 1 c")
            for part in zip(*by_frame, strict=True)
        )
        pairs.append((hidden, cell))
    return tuple(pairs)
