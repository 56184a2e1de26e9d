"""A small FlashVSR, whose weights and inputs any program can make again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.model.config import DiTConfig
from longtake.model.dit import WanDiT, project_text
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.decoder import GuidedDecoder
from longtake.model.flashvsr.passes import Networks
from longtake.model.flashvsr.projector import Projector, ProjectorConfig
from longtake.model.flashvsr.sizes import Sizes
from longtake.model.flashvsr.upscaler import Upscaler, UpscaleSettings
from longtake.samplers.noise import addressed_noise, frame_noise
from longtake.tests.support.model.family_files import header_only, official_shapes

OFFICIAL = Sizes(
    DiTConfig(1536, 8960, 12, 30, 4096), ProjectorConfig(2048, 3072, 1536, 1, causal=True),
    (512, 256, 128, 128), torch.bfloat16, 512,
)  # fmt: skip
SEED = 23
PARTS = ("dit", "projector", "decoder", "prompt", "sharp", "guide", "video")
ROWS, COLUMNS, FRAMES = 256, 384, 41


@dataclass(frozen=True)
class SmallSizes:
    """Sizes of the small networks."""

    dim: int = 24
    ffn: int = 32
    heads: int = 2
    layers: int = 3
    text: int = 8
    middle: int = 6
    wide: int = 8
    widths: tuple[int, int, int, int] = (8, 6, 4, 3)


SMALL = SmallSizes()
SMALL_DIT = DiTConfig(SMALL.dim, SMALL.ffn, SMALL.heads, SMALL.layers, SMALL.text)


def addressed(shapes: Mapping[str, tuple[int, ...]], part: str) -> dict[str, Tensor]:
    """Random tensors by their names and shapes: matrices keep the size of what they multiply."""
    return {name: _weight(name, shape, part) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...], part: str) -> Tensor:
    noise = addressed_noise(SEED, PARTS.index(part), 0, name, shape)
    if name.endswith("modulation"):
        return 0.5 * noise
    if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
        return 1 + 0.2 * noise
    return noise / noise[0].numel() ** 0.5 if len(shape) > 1 else 0.2 * noise


def fill(module: nn.Module, part: str) -> None:
    """Give a module its addressed weights, by its own names."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    module.load_state_dict(addressed(shapes, part))
    module.eval().requires_grad_(False)


def guide_video() -> Tensor:
    """Low-quality frames (1, 3, f, H, W) in [-1, 1]: soft shapes that move, enlarged 16 times."""
    coarse = addressed_noise(SEED, PARTS.index("video"), 0, "video", (1, 3, 6, 16, 24))
    size = FRAMES, ROWS, COLUMNS
    return torch.nn.functional.interpolate(coarse, size, mode="trilinear").mul(0.6).clamp(-1, 1)


def noise_of(latents: range, rows: int = ROWS // 8, columns: int = COLUMNS // 8) -> Tensor:
    """Noise (f, 16, h, w) of latent frames."""
    return frame_noise(SEED, latents, 0, "init", (16, rows, columns))


def small_dit() -> WanDiT:
    """The small transformer."""
    dit = WanDiT(SMALL_DIT)
    fill(dit, "dit")
    return dit


def small_networks(*, causal: bool, blocks: int = 1) -> Networks:
    """The small networks of version 1.1 (`causal`) or 1."""
    s, dit = SMALL, small_dit()
    projector = Projector(ProjectorConfig(s.middle, s.wide, s.dim, blocks, causal))
    fill(projector, "projector")
    return Networks(dit, projector, small_decoder(), project_text(dit, small_context()[:, None]))


def small_context() -> Tensor:
    """The prompt's embedding (1, l, c)."""
    return addressed({"context": (1, 6, SMALL.text)}, "prompt")["context"]


def small_decoder() -> GuidedDecoder:
    """The small decoder, with the weights that the file's names address."""
    decoder = GuidedDecoder(SMALL.widths)
    shapes = file_shapes(decoder)
    state = addressed(dict(shapes.values()), "decoder")
    decoder.load_state_dict({ours: state[theirs] for ours, (theirs, _) in shapes.items()})
    return decoder.eval().requires_grad_(False)


def file_shapes(decoder: GuidedDecoder) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Our names of the decoder's tensors, with the file's names and the shapes."""
    # their list also counts the clamp in front, and an upsampling before each growth
    numbers = [*range(1, 8), *range(9, 14), *range(15, 20), *range(21, 27)]
    inner = {"join": "conv.0.", "middle": "conv.2.", "out": "conv.4.", "split": "conv."}
    shapes = {}
    for name, parameter in decoder.named_parameters():
        _, index, *part, kind = name.split(".")
        within = inner[part[0]] if part else ""
        shapes[name] = f"decoder.{numbers[int(index)]}.{within}{kind}", tuple(parameter.shape)
    return shapes


def upscaled(
    pictures: Tensor, *, causal: bool = True, seed: int | Callable[[int], int] = 0
) -> Tensor:
    """The engine alone on pictures (n, H, W, 3), enlarged four times.

    `seed` may give one for each latent frame.
    """
    _, height, width, _ = pictures.shape
    canvas = Canvas(4 * width, 4 * height)
    shape = 16, canvas.full_height // 8, canvas.full_width // 8

    def noise(latents: range) -> Tensor:
        seeds = [seed(latent) if callable(seed) else seed for latent in latents]
        parts = zip(seeds, latents, strict=True)
        return torch.cat(
            [frame_noise(own, range(i, i + 1), 0, "super-resolution", shape) for own, i in parts]
        )

    upscaler = Upscaler(small_networks(causal=causal), UpscaleSettings(canvas, noise))
    parts = [*upscaler.feed(pictures.movedim(-1, 1)), *upscaler.drain()]
    return torch.cat(parts).movedim(1, -1)


def store_parts(folder: Path) -> Path:
    """The four parts as their authors publish them, in one folder; returns the transformer."""
    folder.mkdir(parents=True, exist_ok=True)
    s, networks = SMALL, small_networks(causal=True)
    transformer = folder / "diffusion_pytorch_model_streaming_dmd.safetensors"
    sizes = json.dumps({"transformer": {"num_heads": s.heads, "text_dim": s.text}})
    save_file(dict(networks.dit.state_dict()), transformer, {"config": sizes})
    torch.save(networks.projector.state_dict(), folder / "LQ_proj_in.ckpt")
    names = file_shapes(networks.decoder)
    decoder = {names[name][0]: p.clone() for name, p in networks.decoder.named_parameters()}
    torch.save(decoder, folder / "TCDecoder.ckpt")
    torch.save(small_context(), folder / "posi_prompt.pth")
    return transformer


def store_headers(folder: Path) -> Path:
    """The four parts in their published sizes without weights; returns the transformer."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = OFFICIAL.networks()
    projector = {name: tuple(x.shape) for name, x in networks.projector.state_dict().items()}
    header_only(folder / "LQ_proj_in.safetensors", projector)
    header_only(folder / "TCDecoder.safetensors", dict(file_shapes(networks.decoder).values()))
    header_only(folder / "posi_prompt.safetensors", {"context": (1, 512, OFFICIAL.dit.text_dim)})
    transformer = folder / "diffusion_pytorch_model_streaming_dmd.safetensors"
    return header_only(transformer, official_shapes("1.3B"))
