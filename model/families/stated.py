"""What a file's metadata states of its model, checked: odd sizes, quantised layers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from ...errors import BadInput
from ..files.header import Header

QUANTISATION = "_quantization_metadata"  # the host's name
SCALES = (".scale_weight", ".weight_scale")
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


def unscale(dtypes: Mapping[str, str], weights: Collection[str]) -> str | None:
    """The first of the `weights` that is stored as whole numbers of a layer without a scale."""
    scaled = {n.rpartition(".")[0] for n in dtypes if n.endswith((*SCALES, ".weight_s_rel"))}
    for name in weights:
        if dtypes[name] in WHOLE_NUMBERS and name.rpartition(".")[0] not in scaled:
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
