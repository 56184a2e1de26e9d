"""What the tensors of a LoRA are to a layer, in the host's words and in those of trainers."""

from __future__ import annotations

import re
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]
Part = tuple[str, str]
"""An official module name, and what a tensor is to it, in the host's word."""

UP, DOWN, ALPHA, BIAS = "lora_up.weight", "lora_down.weight", "alpha", "diff_b"
DIFFERENCE, REPLACEMENT, NORM, NORM_BIAS = "diff", "set_weight", "w_norm", "b_norm"
WAYS = (
    (re.compile(r"lora_(up|down)\.weight"), "a pair"),
    (re.compile(r"lokr_w.*"), "LoKr"),
    (re.compile(r"hada_w.*"), "LoHa"),
    (re.compile(r"[ab][12]\.weight"), "GLoRA"),
    (re.compile(r"oft_blocks"), "OFT"),
    (re.compile(rf"{DIFFERENCE}|{NORM}"), "a difference"),
    (re.compile(REPLACEMENT), "a new weight"),
)
"""What changes a weight. Of several for one layer the host takes the last."""
ALONE = {ALPHA, BIAS}  # parts that need no way of changing the weight beside them
GLORA = {f"{letter}{number}.weight" for letter in "ab" for number in "12"}
WHOLE_NUMBERS = (ALPHA, "reshape_weight")  # the parts that may be whole numbers
MAGNITUDE = "lora_magnitude_vector"
KNOWN_ROLES = re.compile(
    r"lora_(up|mid|down)\.weight|alpha|diff|diff_b|lora_magnitude_vector.*|set_weight|dora_scale|w_norm|b_norm"
    r"|reshape_weight|oft_blocks|rescale|(lokr|hada)_(w[12](_[ab])?|t[12])|[ab][12]\.weight"
)
"""The host's words for a pair, for differences, and for LyCORIS (LoKr, LoHa, GLoRA, OFT)."""
ROLES = (
    (re.compile(r"lora_B(\.(?!bias$)\w+)?(\.weight)?|lora(_linear_layer)?\.up\.weight"), UP),
    (re.compile(r"lora_A(\.\w+)?(\.weight)?|lora(_linear_layer)?\.down\.weight"), DOWN),
    (re.compile(r"lora_B(\.\w+)?\.bias"), BIAS),
)


def role_of(name: str) -> str:
    """The host's word for a part of a LoRA; the host's own words stay."""
    return next((role for pattern, role in ROLES if pattern.fullmatch(name)), name)
