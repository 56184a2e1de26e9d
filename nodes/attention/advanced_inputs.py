"""Inputs of ANN-Sparse Attention that a first week does not need, and the layers they name."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import io

from ...attention.kernels import choice
from ...attention.sparse.settings import SparseCross, SparseSelf
from ...characters import excerpt, list_entries
from ...errors import BadInput
from .. import host
from ..from_model import FROM_MODEL, TIP

FIRST_LAYER = "0"
MAX_TOKENS = 512  # of a Wan prompt
MAX_FRAMES = 4096


def dense_layers(model: Any, text: str) -> tuple[int, ...]:
    """Read layers of `model` from a text such as `0, 5-7`."""
    numbers = read_layers(text)
    if max(numbers, default=0) > 0:  # every model has a first layer
        tree = host.module_tree(model)
        count = len(getattr(tree, "blocks", None) or tree.layers)
        if max(numbers) >= count:
            raise BadInput(
                f"dense_layers of ANN-Sparse Attention names layer {max(numbers)}, but the model "
                f"has layers 0 to {count - 1}."
            )
    return tuple(sorted(numbers))


def read_layers(dense_layers: str) -> set[int]:
    """Read numbers of layers; BadInput for a word that is none."""
    numbers = set[int]()
    for word in list_entries(dense_layers):
        part = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", word)
        layers = range(int(part[1]), int(part[2] or part[1]) + 1) if part else ()
        if not layers:
            raise BadInput(
                f"dense_layers of ANN-Sparse Attention has {excerpt(word)}, which is not a layer; "
                "write numbers from 0, such as 0, 5-7."
            )
        numbers |= set(layers)
    return numbers


def inputs() -> list[io.Input]:
    """The inputs, part by part."""
    return [*_entries(), *_shares(), *_blocks(), _fewest_tokens()]


def _entries() -> list[io.Input]:
    return [
        io.Int.Input(
            "entry_frames",
            default=FROM_MODEL,
            min=FROM_MODEL,
            max=MAX_FRAMES,
            optional=True,
            advanced=True,
            tooltip="With `custom`: entries, counted in latent frames, 1 to 4096. -1: as many as "
            "the window of KV Cache Settings.",
        ),
        io.Int.Input(
            "reach_frames",
            default=FROM_MODEL,
            min=FROM_MODEL,
            max=MAX_FRAMES,
            optional=True,
            advanced=True,
            tooltip="How far back an entry may lie, in latent frames, 1 to 4096; never less than "
            f"the window. {TIP} The demo has 64, others their own window.",
        ),
    ]


def _shares() -> list[io.Input]:
    return [
        io.Float.Input(
            "density",
            default=SparseSelf().density,
            min=0.05,
            max=1.0,
            step=0.05,
            optional=True,
            advanced=True,
            tooltip="With `custom`: share of the history's blocks that a query reads (no unit, "
            "0.05 to 1). Sink, newest frames and its own chunk are always read: of a 21-frame "
            "history, 0.3 reads about half.",
        ),
        io.Float.Input(
            "recall_floor",
            default=SparseSelf().recall_floor,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            advanced=True,
            tooltip="With `custom`: a head whose chosen blocks hold less than this share of its "
            "attention in a step is dense for the rest of the chunk (no unit, 0 to 1). The preview "
            "counts them.",
        ),
    ]


def _blocks() -> list[io.Input]:
    return [
        io.Float.Input(
            "dense_share",
            default=SparseSelf().dense_share,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            advanced=True,
            tooltip="First share of the steps that stays dense (no unit, 0 to 1).",
        ),
        io.String.Input(
            "dense_layers",
            default=FIRST_LAYER,
            optional=True,
            advanced=True,
            tooltip="Layers that are always dense, counted from 0, such as `0, 5-7`. Empty: none.",
        ),
        io.Combo.Input(
            "kernel",
            options=[*choice.NAMES],
            default=choice.AUTO,
            optional=True,
            advanced=True,
            tooltip="What attends to the chosen keys. `auto`: `gathered` (plain PyTorch) until "
            "another is measured to be faster. `flex`: compiled FlexAttention. `triton`: needs an "
            "NVIDIA GPU.",
        ),
    ]


def _fewest_tokens() -> io.Input:
    return io.Int.Input(
        "min_tokens",
        default=SparseCross().min_tokens,
        min=1,
        max=MAX_TOKENS,
        optional=True,
        advanced=True,
        tooltip="With `prune`: least number of prompt tokens that stay, the padding counted as "
        f"one, 1 to {MAX_TOKENS}.",
    )
