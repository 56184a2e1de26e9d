"""Load Wan LoRA: a LoRA under any names, on a MODEL, by the host's own patches."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...model.families.few_steps import few_step_choice, few_step_warning_for
from ...model.lora.file import Lora, config_beside, open_lora
from .. import categories, host
from ..schema import build
from .model_facts import facts
from .pair import in_both, refuse_experts

FOLDER = "loras"
MAX_STRENGTH = 20.0


class LoadWanLora(io.ComfyNode):
    """MODEL and a file to MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeLoadLora",
            display_name="Load Wan LoRA",
            category=categories.LOAD,
            description="Applies a LoRA to a Wan model. Reads the key names and the alpha of "
            "ComfyUI, diffusers, PEFT and LongLive files. Several LoRAs, fp8 and offload work as "
            "usual.",
            search_aliases=["lora", "peft", "adapter", "longlive lora", "diffusers lora"],
            inputs=[
                io.Model.Input("model", tooltip="A Wan model, with or without other LoRAs."),
                io.Combo.Input(
                    "lora_name",
                    options=host.model_files(FOLDER),
                    tooltip="A file in models/loras: .safetensors, .pt or .pth. PEFT's "
                    "adapter_model.safetensors needs adapter_config.json in the same folder.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-MAX_STRENGTH,
                    max=MAX_STRENGTH,
                    step=0.01,
                    tooltip="Strength of the LoRA (no unit, -20 to 20). 1: as trained. 0: off.",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, lora_name: str, strength: float) -> io.NodeOutput:
        """Rename the tensors and let the host add them to the model, and to its twin if any."""
        refuse_experts(model, "Load Wan LoRA")
        path, family = host.model_file(FOLDER, lora_name), facts(model).family
        lora = open_lora(path, host.layer_shapes(model))
        distilled = few_step_warning_for(path, family, few_step_choice(family)) if strength else ""
        _show_layers(cls.hidden.unique_id, lora, distilled)
        if not strength:
            return io.NodeOutput(model)
        return io.NodeOutput(in_both(model, lambda one: host.with_lora(one, lora.parts, strength)))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str, **others: Any) -> Any:
        """Change with the file, and with PEFT's configuration beside it."""
        return host.file_stamp(FOLDER, lora_name, config_beside)


def _show_layers(node_id: str | None, lora: Lora, distilled: str) -> None:
    scales = " and ".join(f"{scale:g}" for scale in lora.scales)
    scaled = f" by alpha / rank {scales} (alpha: {lora.alpha_from})" if scales else ""
    warnings = [distilled] if distilled else []
    if lora.idle:
        warnings.append(f"The LoRA changes nothing: {lora.idle}. Get it again.")
    if lora.unused:
        count = len(lora.unused)
        fits = "1 tensor of the LoRA fits" if count == 1 else f"{count} tensors of the LoRA fit"
        warnings.append(f"{fits} no layer of this model, for example {lora.unused[0]}.")
    host.show_status(node_id, f"{lora.layers} layers are changed{scaled}.", *warnings)
