"""Files in the quantised formats of ComfyUI's core, made by the core's own code."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from longtake.tests.support.model.family_files import SMALL, State, state
from longtake.tests.support.model.lightx2v_files import quantised_layers

WIDE = replace(SMALL, ffn_dim=512)
"""Every format divides its sizes, and its matrices are large enough for dynamic memory."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the core's name, its layout, how it quantises, and what a layer's entry adds."""

    name: str
    layout: str
    how: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def said(self) -> dict[str, Any]:
        """What a file says of each layer in this format."""
        return {"format": self.name, **self.more}

    def file(self) -> tuple[State, State]:
        """The core's own quantisation of every matrix, and the plain weights it stands for."""
        from comfy.quant_ops import QuantizedTensor

        stored, plain = state(WIDE), state(WIDE)
        for name in quantised_layers(stored):
            scale = {"scale": "recalculate"} if "FP8E" in self.layout else {}
            packed = QuantizedTensor.from_float(stored.pop(name), self.layout, **scale, **self.how)
            plain[name] = packed.dequantize()[: plain[name].shape[0], : plain[name].shape[1]]
            parts = packed.layout_cls.state_dict_tensors(packed._qdata, packed._params)
            stored |= {f"{name}{end}": part for end, part in parts.items()}
        return stored, plain

    def header(self) -> dict[str, str]:
        """The metadata of a file whose header lists its layers."""
        layers = [name.removesuffix(".weight") for name in quantised_layers(state(WIDE))]
        return {
            "_quantization_metadata": json.dumps({"layers": dict.fromkeys(layers, self.said())})
        }


ROTATED = {"convrot_groupsize": 16}
FORMATS = (
    Format("float8_e4m3fn", "TensorCoreFP8E4M3Layout"),
    Format("float8_e5m2", "TensorCoreFP8E5M2Layout"),
    Format("mxfp8", "TensorCoreMXFP8Layout"),
    Format("nvfp4", "TensorCoreNVFP4Layout"),
    Format("int8_tensorwise", "TensorWiseINT8Layout"),
    Format("int8_tensorwise", "TensorWiseINT8Layout", {"per_channel": True}),
    Format("int8_tensorwise", "TensorWiseINT8Layout",
           {"per_channel": True, "convrot": True, **ROTATED}, {"convrot": True, **ROTATED}),
)  # fmt: skip
IN_FOUR_BITS = (
    Format("convrot_w4a4", "TensorCoreConvRotW4A4Layout", ROTATED, ROTATED),
    Format("asym_w4a8_int8", "AsymW4A8Int8Layout", {"group_size": 16, **ROTATED},
           {"group_size": 16, **ROTATED}),
)  # fmt: skip
"""Formats whose products make tensors of their own on the device, which a stand-in cannot see."""
