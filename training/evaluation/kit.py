"""The demo's networks, and the only way to sample from them: through the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...attention.cache.policy import CachePolicy
from ...attention.sparse.settings import Sparsity
from ...attention.storage.dense import DENSE, Storage
from ...model.arithmetic.layers import TORCH_LAYERS, Layers
from ...model.checkpoint import load_dit, load_text_encoder, load_tiny_vae, open_checkpoint
from ...model.config import DiTConfig, config_from_shapes
from ...model.dit import WanDiT
from ...model.families.table import DEMO_KEY
from ...model.preset import DEMO, DEMO_FOLDER, Preset
from ...model.preset_cache import preset_cache
from ...model.text import TextEncoder
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...model.vae.streaming import StreamingDecoder
from ...model.vae.tiny import TinyVAE
from ...samplers.camera.path import CameraPath
from ...samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from ...samplers.denoiser import local_denoiser
from ...samplers.feature_caching import FeatureCaching
from ...samplers.guidance import Guidance, cfg
from ...samplers.loop import Chunk, generate
from ...samplers.rules.anchor import Anchor
from ...samplers.rules.memory import MemoryRules
from ...samplers.schedule.context_noise import ContextNoise
from ...samplers.schedule.options import preset_schedule, preset_solver
from ...samplers.settings import RolloutSettings
from .oracle import Oracle, load_oracle

GUIDED_SCALE = 2.5
"""CFG's scale wherever guidance is what is compared or distilled, whatever the preset's is."""


@dataclass(frozen=True, slots=True)
class Kit:
    """The networks that make and judge shots; `layers` calls the transformer's linear ones."""

    dit: WanDiT
    config: DiTConfig
    vae: TinyVAE
    text: TextEncoder
    oracle: Oracle
    layers: Layers = TORCH_LAYERS


def load_kit(folder: Path) -> Kit:
    """Load the transformer in `folder` and the other networks, if it has them, else the demo's."""
    dit, config = load_transformer(folder)
    files = network_files(folder)
    return Kit(
        dit=dit,
        config=config,
        vae=load_tiny_vae(files["vae"]),
        text=load_text_encoder(files["text"]),
        oracle=load_oracle(files["oracle"]),
    )


def with_networks(kit: Kit, folder: Path) -> Kit:
    """The kit with the transformer in `folder`, its sizes, its camera and its text encoder.

    Where the folder has no text encoder, it is the demo's.
    """
    dit, config = load_transformer(folder)
    text = load_text_encoder(network_files(folder)["text"])
    return replace(kit, dit=dit, config=config, text=text)


def load_transformer(folder: Path) -> tuple[WanDiT, DiTConfig]:
    """Load the transformer in `folder`, and its sizes."""
    dit = load_dit(folder / "dit.safetensors")
    return dit, config_from_shapes(dit.state_dict(), dit.num_heads)


def preset_in(folder: Path) -> Preset:
    """What the transformer in `folder` is measured with.

    The demo is measured in the three steps that it was trained for, though its loader takes more.
    """
    family = open_checkpoint(folder / "dit.safetensors").recognition.family
    return DEMO if family.key == DEMO_KEY else family.preset


def network_files(folder: Path) -> dict[str, Path]:
    """The files of the networks in `folder`, by name; those that it lacks are the demo's."""
    files = {"dit": folder / "dit.safetensors"}
    for name in ("vae", "text", "oracle"):
        own = folder / f"{name}.safetensors"
        files[name] = own if own.exists() else DEMO_FOLDER / own.name
    return files


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a measurement samples: the demo's defaults unless a field says otherwise.

    `length` counts latent frames; `rows` and `columns` are the latent picture's. 42 latent frames
    are 10.3 s at 16 frames a second, and a whole number of chunks. The first chunk has at least
    `first_steps`; `solver` is an option's name. `guidance` replaces CFG at `scale`; `cache` is the
    history's. `memory` and `anchor` are the memory rules; with `feature_caching` steps take over
    work of the last one. A model that takes a camera follows `camera`, or else the prompts' words.
    """

    length: int = 42
    rows: int = DEMO.height // SPATIAL_FACTOR
    columns: int = DEMO.width // SPATIAL_FACTOR
    steps: int = DEMO.steps
    first_steps: int = DEMO.first_steps
    shift: float = DEMO.shift
    solver: str = DEMO.solver
    scale: float = DEMO.guidance_scale
    guidance: Guidance | None = None
    noise: ContextNoise = ContextNoise(DEMO.context_noise)
    cache: CachePolicy = preset_cache(DEMO)
    storage: Storage = DENSE
    sparsity: Sparsity = Sparsity()
    memory: MemoryRules = MemoryRules()
    anchor: Anchor | None = None
    feature_caching: FeatureCaching | None = None
    camera: CameraPath | None = None


def sample(
    kit: Kit,
    recipe: Recipe,
    prompts: Sequence[tuple[int, str]],
    seed: int,
    history: Sequence[Chunk] = (),
) -> Iterator[Chunk]:
    """Yield the chunks of one rollout after `history`. `prompts` holds (latent frame, text)."""
    settings = settings_of(kit, recipe, prompts, seed)
    return generate(settings, local_denoiser(kit.dit, kit.config, kit.layers), history)


def settings_of(
    kit: Kit, recipe: Recipe, prompts: Sequence[tuple[int, str]], seed: int
) -> RolloutSettings:
    """The settings of one rollout. `prompts` holds (latent frame, text)."""
    entries = tuple(TimedPrompt(at, kit.text.encode(text).embedding, text) for at, text in prompts)
    names = ("steps", "first_steps", "shift", "solver")
    preset = replace(DEMO, **{name: getattr(recipe, name) for name in names})
    return RolloutSettings(
        prompts=PromptTimeline(entries, kit.text.encode("").embedding),
        rows=recipe.rows,
        columns=recipe.columns,
        schedule=preset_schedule(preset),
        solver=preset_solver(preset),
        length=recipe.length,
        seed=seed,
        guidance=recipe.guidance or cfg(recipe.scale),
        cache=recipe.cache,
        storage=recipe.storage,
        sparsity=recipe.sparsity,
        context_noise=recipe.noise,
        memory=recipe.memory,
        anchor=recipe.anchor,
        feature_caching=recipe.feature_caching,
        camera=recipe.camera,
    )


def decode(kit: Kit, chunks: Iterable[Chunk]) -> Tensor:
    """Decode a rollout to frames (t, 3, H, W) in [0, 1]."""
    decoder = StreamingDecoder(kit.vae)
    return torch.cat([decoder.feed(chunk.latents) for chunk in chunks])
