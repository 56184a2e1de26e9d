"""Inputs of ANN-Sparse Attention for experiments, and the values that they stand for."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import io

from ...attention.sparse.settings import ORDERS, SparseCross, SparseSelf
from ...errors import BadInput
from .. import host
from .attention_spec import NEVER, Merging

ONE, ALL = "one key", "all its keys"
FIRST_LAYER = "0"
MAX_TOKENS = 512  # of a Wan prompt

Thresholds = tuple[tuple[float, ...], ...]


def merging(model: Any, floor: float, counts_as: str, head_thresholds: str) -> Merging:
    """How TempCache merges in `model`."""
    select_heads: Thresholds | None = None
    if head_thresholds.strip():
        tree = host.module_tree(model)
        select_heads = thresholds(head_thresholds, len(tree.blocks), int(tree.num_heads))
    return Merging(floor, 1 if counts_as == ONE else None, select_heads)


def thresholds(text: str, layers: int, heads: int) -> Thresholds:
    """Read a cosine for each head from lines such as `0.9 0.95`, one for all layers or each."""
    lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    try:
        rows = tuple(tuple(float(word) for word in line) for line in lines)
    except ValueError as error:
        raise BadInput(
            f"head_thresholds of ANN-Sparse Attention has a word that is not a number ({error}); "
            "write cosines separated by spaces, such as 0.9 0.95."
        ) from error
    if len(rows) not in (1, layers) or any(len(row) != heads for row in rows):
        raise BadInput(
            f"head_thresholds of ANN-Sparse Attention needs {heads} cosines per line, and one line "
            f"or {layers}, one for each layer; got lines of "
            f"{', '.join(str(len(row)) for row in rows)}."
        )
    if any(not 0 <= cosine <= NEVER for row in rows for cosine in row):
        raise BadInput(
            f"head_thresholds of ANN-Sparse Attention are cosines from 0 to {NEVER}; got {text!r}."
        )
    return rows if len(rows) == layers else rows * layers


def dense_layers(model: Any, text: str) -> tuple[int, ...]:
    """Read layers of `model` from a text such as `0, 5-7`."""
    numbers = set[int]()
    for word in text.replace(",", " ").split():
        part = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", word)
        layers = range(int(part[1]), int(part[2] or part[1]) + 1) if part else ()
        if not layers:
            raise BadInput(
                f"dense_layers of ANN-Sparse Attention has {word!r}, which is not a layer; "
                "write numbers from 0, such as 0, 5-7."
            )
        numbers |= set(layers)
    if max(numbers, default=0) > 0:  # every model has a first layer
        count = len(host.module_tree(model).blocks)
        if max(numbers) >= count:
            raise BadInput(
                f"dense_layers of ANN-Sparse Attention names layer {max(numbers)}, but the model "
                f"has layers 0 to {count - 1}."
            )
    return tuple(sorted(numbers))


def inputs() -> list[io.Input]:
    """The inputs, part by part."""
    return [*_merge_options(), *_blocks(), _fewest_tokens()]


def _merge_options() -> list[io.Input]:
    return [
        io.Float.Input(
            "merge_floor",
            default=NEVER,
            min=0.0,
            max=NEVER,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="With `merged`: when the cache is full, keys more similar than this are merged "
            "before any is dropped (cosine, no unit, 0 to 1.01). No effect above merge_above.",
        ),
        io.Combo.Input(
            "counts_as",
            options=[ONE, ALL],
            default=ONE,
            optional=True,
            advanced=True,
            tooltip="With `merged`: the weight of an entry. `one key`: its newest key; far better "
            "on the demo. `all its keys`: as many as were merged, + log m in the logit, as in the "
            "paper.",
        ),
        io.String.Input(
            "head_thresholds",
            default="",
            multiline=True,
            optional=True,
            advanced=True,
            tooltip="With `merged`: a merge threshold for each head (cosines, 0 to 1.01, separated "
            "by spaces), in one line for all layers or one line per layer. Empty: merge_above, or "
            "the preset's.",
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
            "order",
            options=[*ORDERS],
            default=ORDERS[0],
            optional=True,
            advanced=True,
            tooltip="Which keys share a block. `auto` is `time`: neighbours in time and picture. "
            "`lsh`, `k-means`: keys of one bucket; with TempCache only if it is `merged` with that "
            "index. Diffusion-Forcing Sampler only.",
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
