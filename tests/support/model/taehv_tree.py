"""What the host's TAEHV is to those who walk its layers: taew2_1, taew2_2 and lighttae, random."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from longtake.tests.support.tiny_model import randomise

NARROW = (8, 8, 4, 4)
GENUINE = (256, 128, 64, 64)


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class MemBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(2 * width, width), nn.ReLU(inplace=True), conv(width, width),
            nn.ReLU(inplace=True), conv(width, width),
        )  # fmt: skip
        self.skip = nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        made: Tensor = self.act(self.conv(torch.cat([x, past], 1)) + self.skip(x))
        return made


class TGrow(nn.Module):
    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(x)
        return made.reshape(-1, *x.shape[1:])


class TPool(nn.Module):
    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(x.reshape(-1, self.stride * x.shape[1], *x.shape[2:]))
        return made


def conv(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def blocks(width: int, grow: int, after: int) -> list[nn.Module]:
    """Three memory blocks, twice the size, `grow` frames for one, and the next width."""
    return [
        *(MemBlock(width) for _ in range(3)), nn.Upsample(scale_factor=2), TGrow(width, grow),
        conv(width, after, bias=False),
    ]  # fmt: skip


def taehv_tree(channels: int = 16, widths: tuple[int, int, int, int] = NARROW) -> Any:
    """A tree such as the host's, decoder only."""
    a, b, c, d = widths
    patch = 2 if channels == 48 else 1
    decoder = nn.Sequential(
        Clamp(), conv(channels, a), nn.ReLU(inplace=True),
        *blocks(a, 1, b), *blocks(b, 2, c), *blocks(c, 2, d),
        nn.ReLU(inplace=True), conv(d, 3 * patch**2),
    )  # fmt: skip
    randomise(decoder, 7)
    tree = nn.Module()
    tree.decoder = decoder.eval().requires_grad_(False)
    tree.patch_size, tree.latent_channels, tree.latent_format = patch, channels, "taew"  # type: ignore[assignment]
    return tree


def with_encoder(tree: Any, width: int = 8) -> Any:
    """Such a tree with the encoder that it has in the host."""
    halves = [layer for stride in (2, 2, 1) for layer in (
        TPool(width, stride), conv(width, width, stride=2, bias=False),
        *(MemBlock(width) for _ in range(3)),
    )]  # fmt: skip
    tree.encoder = nn.Sequential(
        conv(3 * tree.patch_size**2, width), nn.ReLU(inplace=True), *halves,
        conv(width, tree.latent_channels),
    )  # fmt: skip
    randomise(tree.encoder, 8)
    tree.encoder.eval().requires_grad_(False)
    return tree


def taehv_vae(tree: Any, dtype: torch.dtype = torch.float32) -> Any:
    """What nodes use of the host's VAE, around such a tree."""
    cpu = torch.device("cpu")
    patcher = SimpleNamespace(
        load_device=cpu, partially_load=lambda device: 0, model=tree, patches={}
    )
    return SimpleNamespace(
        first_stage_model=tree.to(dtype), latent_channels=tree.latent_channels, device=cpu,
        vae_dtype=dtype, patcher=patcher,
    )  # fmt: skip
