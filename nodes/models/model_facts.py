"""The family of a MODEL, and the preset behind every `from model`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...machine.products import computes_in_bfloat16, has_wide_products
from ...model.families.architecture import OtherInputs, architecture
from ...model.families.family import Family
from ...model.families.few_steps import few_step_warning_for
from ...model.families.file_name import family_by_name
from ...model.families.recognise import Recognition
from ...model.families.table import BY_KEY, plain_family
from ...model.preset import Preset
from .. import host

HIGH, LOW = "high", "low"
NEAREST = 4  # a file and the three folders above it
_OF_OTHERS = r"(?![ _-]?(?:quality|res|v?ram|mem|rank|fps|motion|detail|speed|step))"
_SIDE = re.compile(
    rf"(?<![a-z])(high|low){_OF_OTHERS}(?=[ _-]?noise|[^a-z]|$)"
    rf"|(?-i:(?<=[a-z])(High|Low)(?![a-z])){_OF_OTHERS}",  # t2vHighV2, as Civitai names files
    re.IGNORECASE,
)
BY_OUR_LOADER = ", or load it by Load Causal Video Model"
KEY, DEMO_FILE = "longtake.facts", "longtake.demo_file"
DEMO_TEXT_DIM = 64  # no other model's prompts are so narrow


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The family of a MODEL and why it was chosen, one sentence.

    `noise` says which of two models it is by its file's name: high, low, or "" where that is open.
    `doubt` says what to set where the name of another node's file contradicts the family.
    """

    family: Family
    why: str
    noise: str = ""
    doubt: str = ""

    @property
    def assumed(self) -> str:
        """The family and why it was chosen, as nodes and report show it."""
        return f"{self.family.title}: {self.why}"

    @property
    def preset(self) -> Preset:
        """The settings that the family was trained with."""
        return self.family.preset


def remember(model: Any, recognition: Recognition) -> None:
    """Attach the family that a file was recognised as to a MODEL and all its clones."""
    why = next(reason for reason in recognition.reasons if reason.startswith("family: "))
    noise = noise_side(recognition.header.path)
    host.attach(model, KEY, ModelFacts(recognition.family, why.removeprefix("family: "), noise))


def noise_side(path: Path) -> str:
    """Which of two models a file is by its own name, else by the nearest folder that says it.

    High, low, or "" where the name is silent or says both. Diffusers' second transformer is low.
    """
    for part in reversed(path.parts[-NEAREST:]):
        sides = {(match[1] or match[2]).lower() for match in _SIDE.finditer(part)}
        sides |= {LOW} if part == "transformer_2" else set()
        if sides:
            return sides.pop() if len(sides) == 1 else ""
    return ""


def attach_family(model: Any, family: Family, why: str) -> None:
    """Attach a family, of the table or not, to a MODEL and all its clones."""
    host.attach(model, KEY, ModelFacts(family, why))


def with_family(model: Any, family: Family) -> Any:
    """A clone of a MODEL that is of the family which a user chose."""
    clone = model.clone()
    host.attach(clone, KEY, ModelFacts(family, "as chosen", facts(model).noise))
    return clone


def facts(model: Any) -> ModelFacts:
    """The facts attached to a MODEL, or those that its tensors show if another node loaded it."""
    carried = host.get_attachment(model, KEY)
    if carried is not None:
        return carried
    family, path = shown_family(model), host.source_file(model)
    doubt, noise = ("", "") if path is None else (_doubt(model, path, family), noise_side(path))
    return ModelFacts(family, "assumed, because another node loaded the model", noise, doubt)


def _doubt(model: Any, path: Path, family: Family) -> str:
    """What to do where the name of another node's file says another family, or few steps."""
    weights = host.module_tree(model).named_parameters()
    width = next((weight.shape[-1] for name, weight in weights if name == "head.modulation"), 0)
    named = family_by_name(path, family.shape, width)
    if named is None or named[0] == family:
        return few_step_warning_for(path, family, BY_OUR_LOADER)
    return (
        f"The model's file is {named[0].title} by its name, and another node loaded it as "
        f"{family.title}; put Set Model Family behind that node, or load it by Load Causal Video "
        "Model."
    )


def shown_family(model: Any) -> Family:
    """The plain family of a MODEL's architecture, as `recognise` takes it for a silent name.

    Sampler and loader refuse other architectures themselves, with the numbers of channels.
    """
    tree = host.module_tree(model)
    if is_demo(model):
        return BY_KEY["demo"]
    if hasattr(tree, "forward_block"):
        return BY_KEY["causal-ar"]
    try:
        shape = architecture({name: tuple(w.shape) for name, w in tree.named_parameters()})
    except OtherInputs:
        shape = "t2v"
    return plain_family(shape)


def mark_demo(model: Any) -> None:
    """Note on a MODEL and all its clones that the demo's own file made it."""
    host.attach(model, DEMO_FILE, True)


def is_demo(model: Any) -> bool:
    """Whether a MODEL is the demo's by its file or widths, whichever family it is taken for."""
    tree = host.module_tree(model)
    layers = getattr(tree, "text_embedding", None)  # none in a model that reads no prompt
    width = 0 if layers is None else layers[0].in_features
    return is_demo_file(model) or width == DEMO_TEXT_DIM


def is_demo_file(model: Any) -> bool:
    """Whether `mark_demo` noted that a MODEL is the demo's, or trained on its VAE's latents."""
    return host.get_attachment(model, DEMO_FILE) is not None


def product_dtype(model: Any) -> torch.dtype:
    """The dtype in which the linear layers of a MODEL, and its attention, multiply on a CPU.

    It is bfloat16 for a model whose measures allow it, on a CPU with instructions for it.
    `--fp32-unet` and `--force-fp32` of the host turn that off.
    """
    device, _ = host.compute_place(model)
    lowers = facts(model).preset.bfloat16_products and not host.wants_float32_model()
    is_able = lowers and has_wide_products() and computes_in_bfloat16(device)
    return torch.bfloat16 if is_able else torch.float32


def describe_preset_values(known: ModelFacts, values: Mapping[str, object]) -> str:
    """Name the settings that come from the model, one sentence; empty if there are none."""
    if not values:
        return ""
    listed = ", ".join(f"{name} {_format(value)}" for name, value in values.items())
    return f"Settings: {listed} (from model: {known.family.title})."


def _format(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
