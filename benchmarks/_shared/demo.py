"""The models that benches run: the demo's files, or random weights of the same sizes.

Time and memory do not depend on the values of weights.

Some loops that benches compare with ours give a model no camera: those of other projects, and
passes without a cache. All sides of such a comparison run the plain transformer, which has the
demo's weights less those of the camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...model.checkpoint import load_dit, load_text_encoder, load_tiny_vae, read
from ...model.config import DiTConfig, config_from_shapes
from ...model.dit import WanDiT
from ...model.fingerprint import fingerprint
from ...model.preset import DEMO, DEMO_FOLDER
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...model.vae.memory_order import order_weights
from ...model.vae.tiny import TinyVAE, TinyVAEConfig
from ...samplers.conditioning.prompts import PromptTimeline, TimedPrompt

SIZES = DiTConfig(dim=192, ffn_dim=512, num_heads=4, num_layers=6, text_dim=64)
ROWS, COLUMNS = DEMO.height // SPATIAL_FACTOR, DEMO.width // SPATIAL_FACTOR


def demo_dit() -> tuple[WanDiT, DiTConfig]:
    """Return the transformer and its sizes."""
    path = DEMO_FOLDER / "dit.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        return WanDiT(SIZES).eval().requires_grad_(False), SIZES
    dit = load_dit(path)
    return dit, config_from_shapes(dit.state_dict(), dit.num_heads)


def plain_dit() -> tuple[WanDiT, DiTConfig]:
    """Return the transformer without its camera, and its sizes."""
    dit, sizes = demo_dit()
    if sizes.camera == "none":
        return dit, sizes
    plain_sizes = replace(sizes, camera="none")
    plain = WanDiT(plain_sizes)
    plain.load_state_dict(without_camera(dit.state_dict(), sizes))
    return plain.eval().requires_grad_(False), plain_sizes


def write_plain_dit(path: Path) -> Path:
    """Write the demo's checkpoint without the camera's tensors, a file that ComfyUI opens too."""
    (_, sizes), (state, header) = demo_dit(), read(DEMO_FOLDER / "dit.safetensors")
    save_file(without_camera(state, sizes), path, header)
    return path


def without_camera(state: Mapping[str, Tensor], config: DiTConfig) -> dict[str, Tensor]:
    """Return those tensors of a model of these sizes that the same model without a camera has."""
    with torch.device("meta"):
        names = WanDiT(replace(config, camera="none")).state_dict().keys()
    return {name: state[name] for name in names}


def demo_vae() -> TinyVAE:
    """Return the VAE, its decoder's weights in the order in which Load Demo Model puts them."""
    path = DEMO_FOLDER / "vae.safetensors"
    torch.manual_seed(0)
    vae = load_tiny_vae(path) if path.exists() else TinyVAE(TinyVAEConfig())
    order_weights(vae.decoder)
    return vae.eval().requires_grad_(False)


def demo_weights() -> list[str]:
    """Return fingerprints of the demo's files, which tell whether two benches used the same
    weights.
    """
    return [fingerprint(read(file)[0]) for file in sorted(DEMO_FOLDER.rglob("*.safetensors"))]


def random_prompt(text_dim: int) -> PromptTimeline:
    """Return one prompt of eight random tokens for the whole rollout."""
    embedding = torch.zeros(DEMO.text_len, text_dim)
    embedding[:8] = torch.randn(8, text_dim, generator=torch.Generator().manual_seed(1))
    return PromptTimeline((TimedPrompt(0, embedding),), torch.zeros_like(embedding))


def demo_prompt(text: str) -> PromptTimeline:
    """Encode `text` as the demo's nodes do, as one prompt for the whole rollout."""
    encoder = load_text_encoder(DEMO_FOLDER / "text.safetensors")
    entry = TimedPrompt(0, encoder.encode(text).embedding, text)
    return PromptTimeline((entry,), encoder.encode("").embedding)


def random_latents(frames: int) -> Tensor:
    """Return standard normal latents (f, 16, h, w) of the demo's size."""
    shape = (frames, SIZES.in_channels, ROWS, COLUMNS)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))
