"""Model Pair: two MODELs that take turns within one shot, as one MODEL."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...errors import BadInput
from ...samplers.denoiser import Commits, LowNoise
from .. import categories, host
from ..from_model import FROM_MODEL, TIP, set_or_none
from ..schema import build
from .model_facts import HIGH, LOW, facts, noise_side
from .pair import pair
from .source_name import source_name

LOW_NOISE, COMMITS = "low-noise steps", "commits"
OF_TEXT, OF_PICTURE = 0.875, 0.9  # Wan-Video/Wan2.2 wan/configs: where its two experts change


class ModelPair(io.ComfyNode):
    """Two MODELs to one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeModelPair",
            display_name="Model Pair",
            category=categories.LOAD,
            description="Joins two models that take turns in every chunk: Wan 2.2 A14B's high and "
            "low noise models, and causal models made of them. One sampler then runs both. Put "
            "LoRAs on each model before this node.",
            search_aliases=["high noise", "low noise", "wan 2.2", "a14b", "experts", "moe",
                            "two models", "dual model", "boundary", "commit with other weights"],
            inputs=[
                io.Model.Input("model", tooltip="The high noise model, with its LoRAs."),
                io.Model.Input(
                    "second_model",
                    tooltip="The low noise model, with its LoRAs. It has the same size as `model`.",
                ),
                io.Float.Input(
                    "boundary",
                    default=float(FROM_MODEL),
                    min=float(FROM_MODEL),
                    max=1.0,
                    step=0.005,
                    tooltip="The noise level (0 to 1) below which second_model makes the steps. "
                    f"{TIP} That is {OF_TEXT:g} for text to video, {OF_PICTURE:g} for image to "
                    "video.",
                ),
                io.Combo.Input(
                    "second_makes",
                    options=[LOW_NOISE, COMMITS],
                    default=LOW_NOISE,
                    advanced=True,
                    tooltip="The passes of second_model. `low-noise steps`: the steps below the "
                    "boundary, with a KV cache of its own. `commits`: the passes that write the "
                    "KV cache, which `model` then reads.",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, second_model: Any, boundary: float, second_makes: str
    ) -> io.NodeOutput:
        """Attach the second model, and show which passes it makes."""
        if second_makes not in (LOW_NOISE, COMMITS):
            raise BadInput(
                f"second_makes is {second_makes!r}; choose {LOW_NOISE!r} or {COMMITS!r}."
            )
        passes: LowNoise | Commits = Commits()
        if second_makes == LOW_NOISE:
            passes = LowNoise(_boundary(model, boundary))
        joined = pair(model, second_model, passes)
        file_of = partial(source_name, cls.hidden.prompt, cls.hidden.unique_id)
        sides = _side(model, file_of("model")), _side(second_model, file_of("second_model"))
        warnings = _swapped(*sides) if isinstance(passes, LowNoise) else []
        host.show_status(cls.hidden.unique_id, _describe(passes), *warnings)
        return io.NodeOutput(joined)


def _boundary(model: Any, chosen: float) -> float:
    """The boundary of the widget, else the family's, else that of Wan 2.2 for such inputs."""
    known = facts(model).preset.boundary
    if not known:
        tree = host.module_tree(model)
        takes_picture = tree.patch_embedding.weight.shape[1] > 16
        known = OF_PICTURE if takes_picture else OF_TEXT
    level = set_or_none("boundary", chosen, 0.0)
    return known if level is None else level


def _describe(passes: LowNoise | Commits) -> str:
    if isinstance(passes, Commits):
        return "The second model makes every commit, the first all steps."
    return (
        f"Above noise level {passes.below:g} the first model makes the steps, below it the second; "
        "each has a KV cache of its own."
    )


def _side(model: Any, file: Path | None) -> str:
    """Which of two models a MODEL is by its own file, else by that which the workflow names."""
    return facts(model).noise or ("" if file is None else noise_side(file))


def _swapped(first: str, second: str) -> list[str]:
    """A warning where the names of the two files say the opposite of how they are connected."""
    if first != LOW and second != HIGH:
        return []
    return [
        "By the names of their files the two models are swapped; connect the high noise model to "
        "`model` and the low noise one to `second_model`."
    ]
