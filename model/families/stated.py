"""What a file's metadata states of its model, checked: odd sizes, quantised layers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import BadInput
from ..files.header import Header

METADATA_KEY = "longtake"  # of what `longtake convert` writes
QUANTISATION = "_quantization_metadata"  # the host's name
SCALES = (".scale_weight", ".weight_scale")
MARKER = "scaled_fp8"
FP8S = ("F8_E4M3", "F8_E5M2")
WHOLE_NUMBERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")


def transformer_config(header: Header) -> Mapping[str, Any]:
    """What the header says of the transformer, the way the host reads it."""
    transformer = _object(header, "config").get("transformer", {})
    return transformer if isinstance(transformer, dict) else {}


def quantisation(header: Header) -> dict[str, Any]:
    """The host's list of quantised layers, {} where the header has none."""
    stated = _object(header, QUANTISATION)
    if stated and not isinstance(stated.get("layers"), dict):
        raise _broken(header, QUANTISATION)
    return stated


def note(header: Header) -> dict[str, Any]:
    """What `longtake convert` wrote into the metadata."""
    try:
        noted = json.loads(header.metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return noted if isinstance(noted, dict) else {}


def unscale(dtypes: Mapping[str, str], weights: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first of the `weights` (name and shape) that must have a scale and has none.

    Whole numbers must have one. So must a block's fp8 matrix where other layers have theirs, or
    where a marker or a scale of an unknown name says that it is scaled.
    """
    scaled = {n.rpartition(".")[0] for n in dtypes if n.endswith((*SCALES, ".weight_s_rel"))}
    says_scaled = bool(scaled) or MARKER in dtypes
    unknown = {n.rpartition(".")[0] for n in dtypes if "scale" in n.rpartition(".")[2]}
    for name, shape in weights.items():
        layer, dtype = name.rpartition(".")[0], dtypes[name]
        is_matrix = name.startswith("blocks.") and len(shape) == 2
        small = is_matrix and dtype in FP8S and (says_scaled or layer in unknown)
        if (small or dtype in WHOLE_NUMBERS) and layer not in scaled:
            return name
    return None


def _object(header: Header, key: str) -> dict[str, Any]:
    try:
        content = json.loads(header.metadata.get(key) or "{}")
    except (ValueError, RecursionError) as error:
        raise _broken(header, key) from error
    if not isinstance(content, dict):
        raise _broken(header, key)
    return content


def _broken(header: Header, key: str) -> BadInput:
    return BadInput(
        f"{header.path}: its `{key}` metadata is not the JSON object it should be; repair it."
    )
