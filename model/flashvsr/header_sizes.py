"""The sizes of FlashVSR's networks, told from the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import BadInput
from ..config import DiTConfig
from ..families.others import Refused
from ..families.recognise import Recognition, recognise
from ..files.header import Header
from ..files.known_files import FLASHVSR
from .parts import Parts
from .projector import ProjectorConfig

PREFIX = "decoder."
WIDTHS = ("1", "10", "16", "22")
"""The numbers of the convolutions that set the decoder's widths in the authors' list of layers."""

PLAIN_WAN = "wan21-t2v"

Shapes = Mapping[str, tuple[int, ...]]


def transformer_of(header: Header) -> Recognition:
    """The transformer, which is a plain Wan 2.1 by its tensors; BadInput for any other file."""
    try:
        return recognise(header, PLAIN_WAN)
    except Refused as error:
        raise BadInput(
            f"{header.path} {error.finding}; choose FlashVSR's transformer, {FLASHVSR}."
        ) from error


def projector_sizes(shapes: Shapes, path: Path, *, causal: bool) -> ProjectorConfig:
    """The projector's sizes; `causal` is version 1.1. BadInput where a tensor is missing."""
    try:
        middle, wide = shapes["conv1.weight"][0], shapes["conv2.weight"][0]
        tokens = shapes["linear_layers.0.weight"][0]
    except KeyError as error:
        raise incomplete(path, f"it has no {error.args[0]}") from error
    blocks = sum(name.startswith("linear_layers.") for name in shapes) // 2
    return ProjectorConfig(middle, wide, tokens, blocks, causal)


def decoder_widths(shapes: Shapes, path: Path) -> tuple[int, int, int, int]:
    """The decoder's four widths; BadInput where a tensor is missing."""
    try:
        a, b, c, d = (shapes[f"{PREFIX}{number}.weight"][0] for number in WIDTHS)
    except KeyError as error:
        raise incomplete(path, f"it has no {error.args[0]}") from error
    return a, b, c, d


def check_together(
    parts: Parts, config: DiTConfig, projector: ProjectorConfig, prompt_channels: int
) -> None:
    """Raise BadInput where the parts are not of one FlashVSR."""
    if projector.tokens != config.dim or projector.blocks > config.num_layers:
        raise BadInput(
            f"{parts.projector} makes tokens of {projector.tokens} channels for {projector.blocks} "
            f"blocks, and {parts.transformer} has {config.num_layers} blocks of {config.dim}; "
            "choose files of one FlashVSR."
        )
    if prompt_channels != config.text_dim:
        raise BadInput(
            f"{parts.prompt} has {prompt_channels} channels, and {parts.transformer} reads "
            f"{config.text_dim}; choose files of one FlashVSR."
        )


def incomplete(path: Path, reason: str) -> BadInput:
    """The refusal of a part that lacks tensors."""
    return BadInput(f"{path} is no whole part of FlashVSR ({reason}); download it again.")
