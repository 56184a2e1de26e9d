"""More of what a core with dynamic memory does with models: LoRAs, packed weights, VACE, stops.

`dynamic_core` runs them, without dynamic memory and with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import save_file

from longtake.tests.in_core.support.wan_vae import random_tree
from longtake.tests.support.device import core, dynamic
from longtake.tests.support.device.core import changed
from longtake.tests.support.model.core_formats import FORMATS, Format
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.tiny_model import randn, randomise

EVICTING = {"every": 5}
OWN: dict[str, dict[str, Any]] = {"flow map": {"flow_map": True}, "state": {"state": "delta"}}
LAYERS = ("blocks.0.self_attn.q", "blocks.1.ffn.0", "blocks.1.cross_attn.v")


def random_lora(seed: int) -> dict[str, torch.Tensor]:
    """A LoRA for some layers of the small model, in the core's own names."""
    generator, weights = torch.Generator().manual_seed(seed), state(SMALL)
    lora = {}
    for layer in LAYERS:
        outputs, inputs = weights[f"{layer}.weight"].shape
        name = f"diffusion_model.{layer}"
        lora[f"{name}.lora_up.weight"] = torch.randn(outputs, 4, generator=generator) / 8
        lora[f"{name}.lora_down.weight"] = torch.randn(4, inputs, generator=generator) / 8
    return lora


def with_lora(model: Any, seed: int, strength: float) -> Any:
    """The MODEL with a LoRA by the core's own loader."""
    import comfy.sd

    patched, _ = comfy.sd.load_lora_for_models(model, None, random_lora(seed), strength, 0.0)
    return patched


def loras(scene: Any) -> dict[str, Any]:
    """Shots without a LoRA, with one, with another strength, with another one, and back."""
    plain = scene.model(torch.float32)
    kinds = {
        "none": plain, "one": with_lora(plain, 1, 1.0), "half": with_lora(plain, 1, 0.5),
        "other": with_lora(plain, 2, 1.0), "both": with_lora(with_lora(plain, 1, 1.0), 2, 1.0),
    }  # fmt: skip
    table: dict[str, list[str]] = {name: [] for name in kinds}
    with changed(dynamic.FAULTS, **EVICTING):
        for name in (*kinds, "one", "none", "both", "half", "none"):
            table[name].append(scene.latents(kinds[name]))
    return {"shots": table, "faults": scene.faults()}


def live_lora(scene: Any) -> dict[str, Any]:
    """Shots at other strengths of a LoRA, as live edits set them, and by its loader."""
    plain = scene.model(torch.float32)
    model = with_lora(plain, 1, 1.0)
    with changed(dynamic.FAULTS, **EVICTING):
        shots = {
            "half": [scene.latents(model, lora=0.5), scene.latents(with_lora(plain, 1, 0.5))],
            "whole": [scene.latents(model), scene.latents(model, lora=1.0)],
            "none": [scene.latents(model, lora=0.0), scene.latents(plain)],
        }
    return {"shots": shots, "faults": scene.faults()}


def vace(scene: Any) -> dict[str, Any]:
    """A shot under a control video, before and after another model's."""
    module_kind = scene.ours("model.vace.module").VaceModule
    nodes = scene.ours("nodes.models.vace")
    model = scene.model(torch.float32)
    tree = module_kind(replace(SMALL, control_blocks=1))
    randomise(tree, 7)
    tree.computing_in(torch.float32)
    carrying = nodes.with_vace(model, tree, 1, "random")
    shots: dict[str, list[str]] = {"control": [], "plain": []}
    with changed(dynamic.FAULTS, **EVICTING):
        for _ in range(2):
            shots["control"].append(scene.latents(carrying, control=scene.control()))
            scene.latents(scene.model(seed=9))
            shots["plain"].append(scene.latents(carrying))
    return {"shots": shots, "faults": scene.faults()}


def packed_model(scene: Any, form: Format) -> Any:
    """The MODEL of a file in one of the core's quantised formats."""
    path = scene.folder / f"{len(list(scene.folder.iterdir()))}.safetensors"
    weights = {name: part.contiguous() for name, part in form.file()[0].items()}
    save_file(weights, path, form.header())
    return scene.model_of(path, None)


def packed(scene: Any) -> dict[str, Any]:
    """Shots of files in the core's quantised formats, crowded by each other."""
    models = {str(form): packed_model(scene, form) for form in FORMATS}
    table: dict[str, list[str]] = {name: [] for name in models}
    with changed(dynamic.FAULTS, **EVICTING):
        for _ in range(2):
            for name, model in models.items():
                table[name].append(scene.latents(model))
    return {"shots": table, "faults": scene.faults()}


def packed_loras(scene: Any) -> dict[str, Any]:
    """Shots of a file in fp8, NVFP4 and int8 with a LoRA, at another live strength and without."""
    shots: dict[str, list[str]] = {}
    with changed(dynamic.FAULTS, **EVICTING):
        for form in FORMATS[::3]:
            plain = packed_model(scene, form)
            model = with_lora(plain, 1, 1.0)
            shots |= {
                f"{form}, none": [scene.latents(plain), scene.latents(model, lora=0.0)],
                f"{form}, half": [scene.latents(model, lora=0.5),
                                  scene.latents(with_lora(plain, 1, 0.5))],
                f"{form}, whole": [scene.latents(model), scene.latents(model, lora=1.0)],
            }  # fmt: skip
    return {"shots": shots, "faults": scene.faults()}


def own_layers(scene: Any) -> dict[str, Any]:
    """Shots of models with layers that the core does not know, crowded by another model."""
    shots: dict[str, list[str]] = {}
    with changed(dynamic.FAULTS, **EVICTING):
        for kind, sizes in OWN.items():
            path = scene.folder / f"{kind}.safetensors"
            save_file(state(replace(SMALL, **sizes)), path)
            model = scene.model_of(path, torch.float32)
            shots[kind] = [scene.latents(model)]
            scene.latents(scene.model(seed=9))
            shots[kind].append(scene.latents(model))
    return {"shots": shots, "faults": scene.faults()}


def pairs(scene: Any) -> dict[str, Any]:
    """Shots of two models by noise level, and of each by itself between them."""
    low_noise = scene.ours("samplers.denoiser").LowNoise
    first, second = scene.model(torch.float32), scene.model(torch.float32, seed=9)
    joined = scene.ours("nodes.models.pair").pair(first, second, low_noise(0.7))
    table: dict[str, list[str]] = {"pair": [], "first": [], "second": []}
    with changed(dynamic.FAULTS, **EVICTING):
        for _ in range(2):
            for name, model in (("pair", joined), ("first", first), ("second", second)):
                table[name].append(scene.latents(model))
    return {"shots": table, "faults": scene.faults()}


def wan_vae(scene: Any) -> dict[str, Any]:
    """Frames decoded and encoded by Wan's VAE, with shots between the chunks."""
    import comfy
    import comfy.sd

    weights = dict(random_tree(comfy, 24).state_dict())
    vae = scene.ours("nodes.models.streaming_vae").streaming_vae(
        comfy.sd.VAE(sd=weights, dtype=torch.float32)
    )
    latents, pictures = randn(3, 16, 4, 6, seed=3), randn(9, 3, 32, 48, seed=4).clamp(0, 1)
    table: dict[str, list[str]] = {"decoded": [], "encoded": []}
    coders = (("decoded", vae.open_decoder, latents.split(1)),
              ("encoded", vae.open_encoder, pictures.split(4)))  # fmt: skip
    with changed(dynamic.FAULTS, **EVICTING):
        for _ in range(2):
            for name, open_coder, given in coders:
                table[name].append(_coded(scene, vae, open_coder(), given))
    return {"shots": table, "faults": scene.faults()}


def _coded(scene: Any, vae: Any, coder: Any, given: Any) -> str:
    """The digest of what a coder makes of some parts, a shot between each."""
    parts = []
    for part in given:
        scene.host.claim([vae.patcher], 0)
        with scene.host.computing_on(vae.device):
            parts.append(coder.feed(part.to(vae.device)))
        scene.latents(scene.model(seed=9))
    parts.append(coder.drain())
    return scene.digest(torch.cat([part.cpu() for part in parts if part is not None]))


def saving(scene: Any) -> dict[str, Any]:
    """Whether ModelSave writes what a MODEL of ours was made of, before a shot and after it."""
    import comfy.sd
    import comfy.utils

    model, wanted = scene.model(torch.float32), state(SMALL)
    written: list[dict[str, torch.Tensor]] = []

    def write(weights: dict[str, torch.Tensor], *_: Any, **__: Any) -> None:
        written.append({name: tensor.cpu() for name, tensor in weights.items()})

    with changed(comfy.utils, save_torch_file=write), changed(dynamic.FAULTS, **EVICTING):
        comfy.sd.save_checkpoint("none", model)
        scene.latents(model)
        comfy.sd.save_checkpoint("none", model)
    prefix = "model.diffusion_model."
    whole = [all(torch.equal(kept[f"{prefix}{name}"], tensor) for name, tensor in wanted.items())
             for kept in written]  # fmt: skip
    return {"whole": whole, "faults": scene.faults()}


MODELS: dict[str, Any] = {
    "loras": loras,
    "live lora": live_lora,
    "vace": vace,
    "packed": packed,
    "packed loras": packed_loras,
    "own layers": own_layers,
    "pairs": pairs,
    "wan vae": wan_vae,
    "saving": saving,
}
"""To be compared with the same without dynamic memory."""
STOPS: dict[str, Any] = {
    "interrupted": lambda scene: core.interrupted(scene.site),
    "out of memory": lambda scene: core.out_of_memory(scene.site),
    "cpu vae": lambda scene: core.cpu_vae(scene.site),
    "no smart memory": lambda scene: core.without_smart_memory(scene.site),
    "evicted in a chunk": lambda scene: core.evicted(scene.site),
}
