"""Set Model Family: names the family of a MODEL that another node loaded, a GGUF file's for one."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...errors import BadInput
from ...model.families.family import Family
from ...model.families.table import BY_KEY, TWIN
from ...samplers.denoiser import Commits
from .. import categories, host
from ..schema import build
from .load_model import KEYS, LISTED, ROWS, licence_and_note
from .model_facts import facts, shown_family, with_family
from .pair import second_model

DEFAULT = "self-forcing"


class SetModelFamily(io.ComfyNode):
    """A MODEL to the same MODEL with another family's settings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSetModelFamily",
            display_name="Set Model Family",
            category=categories.LOAD,
            description="Says which family a model is that another node loaded, such as Unet "
            "Loader (GGUF) or Load Diffusion Model. All inputs set to `from model` then take that "
            "family's published settings. Load Causal Video Model finds the family itself.",
            search_aliases=["gguf", "family", "preset"],
            inputs=[
                io.Model.Input("model", tooltip="From any node that loads a Wan model."),
                io.Combo.Input(
                    "family",
                    options=KEYS,
                    default=DEFAULT,
                    tooltip="The model family, by the page that the file is from. The weights do "
                    f"not tell. {LISTED}",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, family: str) -> io.NodeOutput:
        """Attach the family to a clone, and show its licence."""
        row = _checked(model, family)
        text = f"{row.title}, as chosen. {licence_and_note(row)}"
        host.show_status(cls.hidden.unique_id, text)
        return io.NodeOutput(with_family(model, row))


def _checked(model: Any, family: str) -> Family:
    """The row of a family that the MODEL can be by its architecture; BadInput if it cannot."""
    known, shape = facts(model), _shape(model)
    if known.family.key not in KEYS:
        raise BadInput(
            f"The model is {known.family.title} by its own file; take Set Model Family out."
        )
    if family not in KEYS or BY_KEY[family].shape != shape:
        keys = ", ".join(row.key for row in ROWS if row.shape == shape)
        raise BadInput(
            f"The model cannot be {family!r}: its tensors are those of {shape}; choose one of "
            f"{keys}."
        )
    row = BY_KEY[family]
    return row.with_state() if known.preset.state else row


def _shape(model: Any) -> str:
    """The architecture of a MODEL, as the table's rows name it."""
    shape, second = shown_family(model).shape, second_model(model)
    has_twin = second is not None and isinstance(second.passes, Commits)
    return TWIN if shape == "t2v" and has_twin else shape
