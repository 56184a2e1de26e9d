"""Shots in a real ComfyUI core that keeps weights by comfy-aimdo's stand-in ("DynamicVRAM").

From ComfyUI's folder, in its Python: `python -m longtake.tests.support.device.dynamic_core NAME
...` writes what each case found, as JSON.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.tests.support.device import dynamic, packed
from longtake.tests.support.device.core import SHORT, Site, changed
from longtake.tests.support.device.cuda import begin
from longtake.tests.support.device.dynamic_cases import MODELS, STOPS
from longtake.tests.support.device.queues import DEVICE
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.tiny_model import randn

CARD = torch.device("cuda", 0)
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


class Scene:
    """A core with this pack, a folder for files, and the case's ways to keep weights."""

    def __init__(self, folder: Path) -> None:
        self.site, self.folder = Site(folder), folder

    def ours(self, name: str) -> Any:
        """A module of this pack as the core has loaded it."""
        pack = next(key for key in sys.modules if key.endswith(".nodes.host"))
        return importlib.import_module(f"{pack.removesuffix('.nodes.host')}.{name}")

    @property
    def host(self) -> Any:
        return self.ours("nodes.host")

    def model(self, dtype: torch.dtype | None = None, seed: int = 0) -> Any:
        """A MODEL of a small file in float32, for which the core chooses half precision."""
        path = self.folder / f"wan_{seed}.safetensors"
        save_file(state(SMALL, seed), path)
        return self.model_of(path, dtype)

    def model_of(self, path: Path, dtype: torch.dtype | None) -> Any:
        """A MODEL of a file."""
        checkpoint = self.ours("model.checkpoint").open_checkpoint(path)
        model = self.host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), dtype)
        self.ours("nodes.models.model_facts").remember(model, checkpoint.recognition)
        return model

    def name(self, model: Any) -> str:
        """The model's name in chunk addresses."""
        return str(self.ours("nodes.models.identity").identity(model)[0])

    def control(self) -> Any:
        """A random control video of the shot."""
        latents, masks = randn(9, 32, 8, 8, seed=6), torch.ones(9, 64, 8, 8)
        video = self.ours("samplers.control.video").ControlVideo
        stored = self.ours("samplers.control.stored").StoredControl
        return video(stored(latents, masks, tuple(map(str, range(9)))))

    def digest(self, x: Tensor) -> str:
        """A short name of the numbers."""
        return digest(x)

    def faults(self) -> list[str]:
        """The faults of the card's stand-in since the last call."""
        return faults()

    def latents(self, model: Any, lora: float | None = None, **changes: Any) -> str:
        """A short shot's digest, perhaps at another strength of its LoRAs."""
        prompts = self.ours("samplers.conditioning.prompts")
        line = prompts.TimedPrompt(0, randn(9, SMALL.text_dim, seed=4), "a")
        settings = self.ours("samplers.settings").RolloutSettings(
            prompts.PromptTimeline((line,), torch.zeros(9, SMALL.text_dim)), 8, 8, seed=5, length=9,
            schedule=self.ours("samplers.schedule.rows").causal_chunks((1.0, 0.6, 0.0), 3),
            cache=self.ours("attention.cache.policy").WindowSink(4, 1), **changes,
        )  # fmt: skip
        engine = self.ours("nodes.runtime.resolved_model").denoiser(model)
        engine.host.reserve_modules(reads_control=settings.control is not None)
        if lora is not None:
            engine.host.scale_loras(lora)
        chunks = self.ours("samplers.loop").generate(settings, engine)
        return digest(torch.cat([chunk.latents.cpu() for chunk in chunks]))


def digest(x: Tensor) -> str:
    return hashlib.sha256(x.float().contiguous().numpy().tobytes()).hexdigest()


def faults() -> list[str]:
    """The faults of the card's stand-in since the last call."""
    gc.collect()
    DEVICE.wait_for_all()
    seen, DEVICE.faults = sorted(set(DEVICE.faults)), []
    return seen


def plain(scene: Scene) -> dict[str, Any]:
    """Without dynamic memory."""
    return scene.site.run()


def as_is(scene: Scene) -> dict[str, Any]:
    """A card with room for everything."""
    return scene.site.run()


def evicted(scene: Scene) -> dict[str, Any]:
    """Every seventh layer evicts all weights not in use, and a third get no room at all."""
    with changed(dynamic.FAULTS, every=7, share=0.7):
        return scene.site.run()


def short(scene: Scene) -> dict[str, Any]:
    """A card that is too small for all weights at once."""
    management = scene.site.management
    room: dict[str, Any] = {"minimum_inference_memory": lambda: dynamic.MB,
                            "EXTRA_RESERVED_VRAM": 0}  # fmt: skip
    with changed(management, **room), changed(DEVICE, capacity_bytes=SHORT):
        return scene.site.run()


def second_card(scene: Scene) -> dict[str, Any]:
    """A node has chosen the second card, which is not the current one."""
    card = torch.device("cuda", 1)
    with changed(scene.site.management, get_torch_device=lambda: card):
        return scene.site.run()


def names(scene: Scene) -> dict[str, Any]:
    """Each dtype's name in addresses before and after a shot, and the bytes of its weights."""
    table: dict[str, Any] = {}
    for kind, dtype in DTYPES.items():
        model = scene.model(dtype)
        before, total = scene.name(model), scene.host.weights(model).total_bytes
        table[kind] = [before, total, scene.latents(model), scene.name(model)]
    return table | {"faults": faults()}


def crowded(scene: Scene) -> dict[str, Any]:
    """A shot, then another model's, then all weights are freed, and the first shot again."""
    model, other = scene.model(), scene.model(seed=9)
    shots = [scene.latents(model)]
    scene.latents(other)
    scene.site.management.free_memory(DEVICE.capacity_bytes, CARD)
    shots.append(scene.latents(model))
    scene.site.management.unload_all_models()
    return {"shots": [*shots, scene.latents(model)], "faults": faults()}


def whole(scene: Scene) -> dict[str, Any]:
    """What becomes of a module of torch's own layers: claimed twice, crowded out, copied."""
    host, layers = scene.host, nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256))
    patcher = host.manage(layers)
    host.claim([patcher], 0)
    first = layers[0].weight
    host.claim([patcher], 0)
    stays = layers[0].weight is first
    copied = copies(layers)
    host.claim([patcher], 0)
    host.claim([scene.model()], DEVICE.capacity_bytes)
    return {"stays": stays, "copied": copied, "left": patcher.loaded_size(), "faults": faults()}


def copies(module: nn.Module) -> bool:
    """Whether a module can be copied with all that the core keeps on it."""
    patcher_made_it = {name: value for name, value in vars(module).items() if "dynamic" in name}
    try:
        copy.deepcopy(patcher_made_it)
    except TypeError:
        return False
    return True


CASES: Mapping[str, Callable[[Scene], dict[str, Any]]] = {
    "plain": plain,
    "as is": as_is,
    "evicted": evicted,
    "short": short,
    "second card": second_card,
    "names": names,
    "plain names": names,
    "crowded": crowded,
    "whole": whole,
    **STOPS,
    **MODELS,
    **{f"plain {name}": case for name, case in MODELS.items()},
}
PLAIN = "plain"


@cache
def begin_dynamic() -> None:
    """Keep weights by the stand-in from now on."""
    dynamic.begin()


def main(chosen: Sequence[str]) -> None:
    begin()
    torch.version.cuda = "12.8"  # type: ignore[assignment]  # so that the core streams weights
    torch.set_num_threads(1)
    packed.begin()
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["main.py", "--base-directory", folder]
        scene = Scene(Path(folder))
        for name in sorted(chosen, key=lambda name: not name.startswith(PLAIN)):
            if not name.startswith(PLAIN):
                begin_dynamic()
            scene.site.reset()
            with torch.inference_mode():
                table[name] = CASES[name](scene)
        sys.__stdout__.write(json.dumps(table))  # type: ignore[union-attr]


if __name__ == "__main__":
    main(sys.argv[1:])
