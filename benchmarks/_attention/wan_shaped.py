"""A model of Wan's shape with random weights: time and memory do not depend on weight values.

Other figures do depend on the values and mean nothing here: similarity of pictures, similarity of
keys, and the share of attention in some blocks.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.dit import project_text
from ...model.families.presets import FEW_STEP
from ...model.memory import META, shape_only
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...model.vae.taehv import TAEHVConfig, TAEHVDecoder
from .._shared.device import device_title
from .speed_model import PADDED, SpeedModel

Module = TypeVar("Module", bound=nn.Module)
WAN_1_3B = DiTConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30, text_dim=4096)
TAEW2_1 = TAEHVConfig()
NAME = "1.3B: "
CLIP_CHUNKS = 4  # their keys and values stay on the device: 0.9 GB a chunk of 1.3B at 480x832
WORDS = 20  # tokens of the prompt before padding; Wan always pads


def on_gpu() -> SpeedModel:
    """Return 1.3B in bfloat16 at 480x832 on the first GPU; raise BadInput without a GPU."""
    if not torch.cuda.is_available():
        raise BadInput(
            "--device cuda needs an NVIDIA GPU, and PyTorch finds none here; omit --device to "
            "measure the embedded model on the CPU."
        )
    gpu = torch.device("cuda")
    return wan_shaped(WAN_1_3B, (480, 832), device=gpu, dtype=torch.bfloat16)


def wan_shaped(
    config: DiTConfig, pixels: tuple[int, int], *, device: torch.device, dtype: torch.dtype,
    decoder: TAEHVConfig = TAEW2_1,
) -> SpeedModel:  # fmt: skip
    """Build a model for pictures of (height, width) `pixels` directly on the device.

    Comes with a decoder, a padded prompt of WORDS random tokens, and latents of noise.
    """
    tree = randomise(shape_only(config, dtype), device)
    with META:
        decoder_tree = TAEHVDecoder(decoder).to(dtype)
    prompt = torch.zeros(1, 1, PADDED, config.text_dim, device=device, dtype=dtype)
    prompt[..., :WORDS, :].normal_(generator=_seed(device, 1))
    rows, columns = (side // SPATIAL_FACTOR for side in pixels)
    frames = CLIP_CHUNKS * FEW_STEP.chunk_frames
    clip = torch.empty(frames, config.in_channels, rows, columns, device=device)
    with torch.inference_mode():
        text = project_text(tree, prompt)
    count = sum(parameter.numel() for parameter in tree.parameters()) / 1e9
    note = (
        f"random weights, {count:.2f}B of them in {str(dtype).removeprefix('torch.')}, "
        f"{pixels[0]}x{pixels[1]}, on {device_title(device)}; what depends on the values of "
        "weights, such as PSNR, SSIM and density, says nothing of a trained model"
    )
    return SpeedModel(
        NAME, note, tree, randomise(decoder_tree, device), (text, text),
        clip.normal_(generator=_seed(device, 2)), FEW_STEP, dtype,
    )  # fmt: skip


@torch.no_grad()
def randomise(module: Module, device: torch.device) -> Module:
    """Fill a module without weights in place on the device, so that the weights exist only once.

    Matrices preserve the variance of their input; norms and biases do nothing.
    """
    module = module.to_empty(device=device).eval().requires_grad_(False)
    generator = _seed(device, 0)
    for name, parameter in module.named_parameters():
        if name.endswith("modulation"):
            parameter.normal_(0, 0.5, generator=generator)
        elif parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.fill_("norm" in name and name.endswith("weight"))
    return module


def _seed(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)
