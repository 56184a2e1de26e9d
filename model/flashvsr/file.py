"""Reads FlashVSR's projector, decoder and prompt; sizes come from the tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..checkpoint import Checkpoint, load_exactly
from ..config import DiTConfig
from ..files.number_checks import check_numbers
from ..files.weights import open_weights
from ..vae.taehv import layer_numbers, rename, stored_name
from .decoder import GuidedDecoder
from .header_sizes import (
    PREFIX,
    check_together,
    decoder_widths,
    incomplete,
    projector_sizes,
    transformer_of,
)
from .parts import Parts
from .projector import Projector

Network = TypeVar("Network", Projector, GuidedDecoder)


@dataclass(frozen=True, slots=True)
class FlashVSRFile:
    """All parts: the transformer still unread, the others in float32 on the CPU.

    `prompt` (1, 1, l, c) is the embedding that cross-attention reads.
    """

    transformer: Checkpoint
    projector: Projector
    decoder: GuidedDecoder
    prompt: Tensor

    @property
    def config(self) -> DiTConfig:
        """The sizes of the transformer."""
        return self.transformer.recognition.config


def open_flashvsr(parts: Parts, *, causal: bool) -> FlashVSRFile:
    """Open all parts; `causal` is version 1.1. BadInput where they do not belong together."""
    weights = open_weights(parts.transformer)
    transformer = Checkpoint(transformer_of(weights.header), weights)
    config = transformer.recognition.config
    projector = _projector(parts.projector, causal=causal)
    prompt = _prompt(parts.prompt)
    check_together(parts, config, projector.config, prompt.shape[-1])
    return FlashVSRFile(transformer, projector, _decoder(parts.decoder), prompt)


def _projector(path: Path, *, causal: bool) -> Projector:
    state = _state(path)
    sizes = projector_sizes(_shapes(state), path, causal=causal)
    with torch.device("meta"):
        projector = Projector(sizes)
    return _filled(projector, state, path)


def _decoder(path: Path) -> GuidedDecoder:
    read = _state(path)
    with torch.device("meta"):
        decoder = GuidedDecoder(decoder_widths(_shapes(read), path))
    state = {n.removeprefix(PREFIX): t for n, t in read.items() if n.startswith(PREFIX)}
    try:
        renamed = rename(state, decoder)
    except (KeyError, ValueError) as error:
        raise incomplete(path, f"its layers are not those of the decoder: {error}") from error
    number = layer_numbers(state, decoder)
    return _filled(decoder, renamed, path, lambda name: PREFIX + stored_name(name, number))


def _prompt(path: Path) -> Tensor:
    (prompt,) = _state(path).values()
    return prompt.reshape(1, 1, *prompt.shape[-2:])


def _filled(
    module: Network, state: Mapping[str, Tensor], path: Path, stored: Callable[[str], str] = str
) -> Network:
    """The module with these weights, which take the place of its own."""
    module.to_empty(device="cpu")
    load_exactly(module, state, path, stored)
    return module


def _state(path: Path) -> dict[str, Tensor]:
    """All tensors of a file in float32."""
    weights = open_weights(path)
    state = {name: weights.read(name) for name in weights.header.tensors}
    check_numbers(state, path)
    return {name: tensor.float() for name, tensor in state.items()}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
