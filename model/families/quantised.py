"""The quantised layers of a file: in which format each is, and whether the host would know it.

The host (ComfyUI `comfy/quant_ops.py`, `comfy/utils.py:convert_old_quants`) learns a layer's format
from a list in the header, from a `comfy_quant` tensor beside the layer or, fp8 alone, from one
`scaled_fp8` marker. LightX2V's files have none of these (ModelTC/LightX2V f8aee98
`tools/convert/converter.py`), so dtypes and shapes must tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import BadInput
from ..files.header import Header, TensorInfo
from .names import Copy
from .stated import MARKER, quantisation

FP8, FP8_WIDE, INT8, NVFP4 = "float8_e4m3fn", "float8_e5m2", "int8_tensorwise", "nvfp4"
MXFP8, ROTATED_INT8 = "mxfp8", "int8_tensorwise, rotated"
ROTATED_INT4, INT4 = "convrot_w4a4", "asym_w4a8_int8"
FP8_ROWS = "float8_e4m3fn, a scale for each row"
UNKNOWN = "a format that its header does not name"
PLAIN_SCALES = (FP8, FP8_WIDE, INT8)
"""Formats whose weights are the stored numbers times their scale."""

_TURING, _ADA, _BLACKWELL = "RTX 20 or newer", "RTX 40 or newer", "RTX 50, B100 or newer"
HOST_FORMATS = {
    FP8: ("fp8 with scales", _ADA),
    FP8_WIDE: ("fp8 (e5m2) with scales", _ADA),
    MXFP8: ("MXFP8", _BLACKWELL),
    NVFP4: ("NVFP4", _BLACKWELL),
    INT8: ("int8 with scales", _TURING),
    ROTATED_INT8: ("rotated int8", _TURING),
    ROTATED_INT4: ("rotated int4", _TURING),
    INT4: ("int4 with int8 activations", "RTX 30 or newer"),
}
"""Each format's title, and NVIDIA's cards that multiply in it (comfy_kitchen 0.2.31
`MIN_SM_VERSION`).
"""

INT4_BYTES = 32  # of one scale: 64 numbers in pairs
MARK = "comfy_quant"  # a tensor beside a layer that names its format, in JSON
_SCALES = ("weight_scale", "scale_weight", "weight_s_rel", MARK)


@dataclass(frozen=True, slots=True)
class Quantisation:
    """The format of each quantised layer, by official name.

    The host would not know the `unmarked` ones by itself.
    """

    formats: Mapping[str, str]
    unmarked: frozenset[str] = frozenset()

    def unmarked_in(self, form: str) -> list[str]:
        """The unmarked layers in one format."""
        return sorted(layer for layer in self.unmarked if self.formats[layer] == form)


def quantised_layers(header: Header, copy: Copy) -> Quantisation:
    """All quantised layers of a copy; BadInput for a format that we do not know."""
    tensors = {name: header.tensors[stored] for name, stored in copy.names.items()}
    stated = stated_formats(header, copy)
    scaled = (name.rpartition(".")[0] for name in tensors if name.rpartition(".")[2] in _SCALES)
    layers = dict.fromkeys(layer for layer in scaled if f"{layer}.weight" in tensors)
    formats = {layer: stated.get(layer) or _by_tensors(layer, tensors) for layer in layers}
    marked = {layer for layer in layers if layer in stated or _is_marked(layer, tensors)}
    if not _marker_is_right(formats):
        marked -= {layer for layer in layers if f"{layer}.scale_weight" in tensors}
    unmarked = frozenset(layers) - marked
    for layer, form in stated.items():
        if form not in (*HOST_FORMATS, UNKNOWN):
            raise _unknown(header.path, layer, form)
    for layer in unmarked:
        if formats[layer] in (UNKNOWN, MXFP8, ROTATED_INT4, INT4):
            raise BadInput(
                f"{header.path} holds {layer}.weight as {tensors[f'{layer}.weight'].dtype} in a "
                "packing that ComfyUI has no layers for; use an fp8, NVFP4, int8 or bf16 file."
            )
    return Quantisation(formats, unmarked)


def check_mark(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse (BadInput) the mark of a layer if that names a format without layers in the host.

    A header does not hold the marks, so that nothing is known of them before they are read.
    """
    layer, _, end = name.rpartition(".")
    if end == MARK and marked_format(tensor) not in HOST_FORMATS:
        raise _unknown(path, layer, marked_format(tensor))


def marked_format(mark: Tensor) -> str:
    """The format that the mark of a layer names; UNKNOWN where it cannot be read."""
    try:
        return _stated(json.loads(bytes(mark.tolist())))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return UNKNOWN


def _unknown(path: Path, layer: str, form: str) -> BadInput:
    return BadInput(
        f"{path} says that {layer}.weight is {form}, a format that Longtake does not know; use an "
        "fp8, MXFP8, NVFP4, int8, int4 (convrot_w4a4, asym_w4a8_int8) or bf16 file."
    )


def stated_formats(header: Header, copy: Copy) -> dict[str, str]:
    """What the header's own list says, by official names."""
    official = {stored: name for name, stored in copy.names.items()}
    listed: Mapping[str, Any] = quantisation(header).get("layers", {})
    formats = {}
    for stored, form in listed.items():
        layer = official.get(f"{stored}.weight", f"{stored}.weight").removesuffix(".weight")
        formats[layer] = _stated(form) if isinstance(form, dict) else UNKNOWN
    return formats


def describe(quantised: Quantisation) -> list[str]:
    """One line for each format in a file: layers, and the cards that multiply in it."""
    lines = []
    for form in dict.fromkeys(quantised.formats.values()):
        count = sum(other == form for other in quantised.formats.values())
        if form == FP8_ROWS:
            how = "fp8 with a scale for each row, loaded as bf16 since ComfyUI has no such layers"
        elif form in HOST_FORMATS:
            title, cards = HOST_FORMATS[form]
            how = f"{title}: multiplied as such on NVIDIA {cards}, unpacked on others"
        else:
            how = form
        lines.append(f"{how} ({count} layers)")
    return lines


def _stated(form: Mapping[str, Any]) -> str:
    nested = form.get("params")
    params = {**(nested if isinstance(nested, dict) else {}), **form}
    name = str(form.get("format") or UNKNOWN)
    return ROTATED_INT8 if name == INT8 and params.get("convrot") else name


def _is_marked(layer: str, tensors: Mapping[str, TensorInfo]) -> bool:
    old = f"{layer}.scale_weight" in tensors and MARKER in tensors
    return old or f"{layer}.{MARK}" in tensors


def _marker_is_right(formats: Mapping[str, str]) -> bool:
    """Whether all layers are what one `scaled_fp8` marker makes of them: e4m3 with one scale.

    The host takes e5m2 for e4m3 there, which cuts its large numbers off.
    """
    return not {FP8_WIDE, FP8_ROWS} & {*formats.values()}


def _by_tensors(layer: str, tensors: Mapping[str, TensorInfo]) -> str:
    """The format that dtypes and shapes show."""
    weight = tensors.get(f"{layer}.weight")
    scale = tensors.get(f"{layer}.weight_scale") or tensors.get(f"{layer}.scale_weight")
    if weight is not None and weight.dtype == "I8" and f"{layer}.weight_s_rel" in tensors:
        return INT4
    if weight is None or scale is None or not weight.shape:
        return UNKNOWN
    rows = weight.shape[0]
    match weight.dtype:
        case "F8_E4M3" if scale.dtype in ("U8", "F8_E8M0"):
            return MXFP8
        case "F8_E4M3" if scale.count in (1, rows):
            return FP8 if scale.count == 1 else FP8_ROWS
        case "F8_E5M2" if scale.count == 1:
            return FP8_WIDE
        case "I8" if scale.count in (1, rows):
            return INT8
        case "I8" if scale.count * INT4_BYTES == weight.count:
            return ROTATED_INT4
        case "U8" if _has_nvfp4_scales(layer, tensors):
            return NVFP4
        case _:
            return UNKNOWN


def _has_nvfp4_scales(layer: str, tensors: Mapping[str, TensorInfo]) -> bool:
    """The core's second scale of a marked layer, or LightX2V's."""
    has = {end for end in ("weight_scale_2", *NVFP4_SCALES) if f"{layer}.{end}" in tensors}
    own = "weight_scale_2" in has and _is_marked(layer, tensors)
    return own or "weight_global_scale" in has or {"alpha", "input_global_scale"} <= has


NVFP4_SCALES = ("weight_global_scale", "input_absmax", "input_global_scale", "alpha")
"""What LightX2V keeps beside an NVFP4 weight and its `weight_scale`."""
