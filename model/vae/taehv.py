"""The decoder of a TAEHV-like tiny VAE in our own layers: taew2_1, taew2_2, lighttae.

Autograd can use this copy and a file can hold it, unlike the host's tree. The host makes frames
from a feature after it has doubled rows and columns. That step is a 1x1 convolution, which commutes
with repeating pixels, so here it comes before, on a quarter of the pixels. Source:
madebyollin/taehv `taehv.py`; ModelTC/LightX2V `vae_tiny.py` for the latents of lighttae.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import BadInput
from .latent_format import LATENT_CHANNELS, denormalise
from .tiny import CausalDecoder, Conv, Grow, MemoryBlock, ReLU

BLOCKS = 3  # memory blocks of each width but the last
OUR_NAMES = {
    "conv.0": "join", "conv.2": "middle", "conv.4": "out", "conv": "split", "": "",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TAEHVConfig:
    """Sizes of the decoder.

    `channels` are latent channels, `widths` those at 1/8, 1/4, 1/2 and full resolution. Pixels come
    in patches of `patch` x `patch`. `raw` says that it takes raw latents, as lighttae does.
    """

    channels: int = LATENT_CHANNELS
    widths: tuple[int, int, int, int] = (256, 128, 64, 64)
    patch: int = 1
    raw: bool = False


class TAEHVDecoder(CausalDecoder):
    """Decodes normalised latents to frames, whichever latents its weights take."""

    def __init__(self, config: TAEHVConfig) -> None:
        super().__init__()
        self.config, self.patch, self.raw = config, config.patch, config.raw
        self.latent_channels, w = config.channels, config.widths
        self.decoder = nn.ModuleList([
            Conv(config.channels, w[0]), ReLU(),
            *(MemoryBlock(w[0]) for _ in range(BLOCKS)), Grow(w[0], frames=1, bias=False),
            Conv(w[0], w[1], bias=False),
            *(MemoryBlock(w[1]) for _ in range(BLOCKS)), Grow(w[1], bias=False),
            Conv(w[1], w[2], bias=False),
            *(MemoryBlock(w[2]) for _ in range(BLOCKS)), Grow(w[2], bias=False),
            Conv(w[2], w[3], bias=False), ReLU(), Conv(w[3], 3 * config.patch**2),
        ])  # fmt: skip

    def squash(self, latents: Tensor) -> Tensor:
        """As the layers want them."""
        return super().squash(denormalise(latents) if self.raw else latents)


def taehv_decoder(decoder: Any, *, raw: bool) -> TAEHVDecoder:
    """Copy the decoder of the host's tree in float32, outside inference mode.

    BadInput if the tree has another layout.
    """
    with torch.inference_mode(False), torch.no_grad():
        state = {name: tensor.float() for name, tensor in decoder.state_dict().items()}
        try:
            model = TAEHVDecoder(_config(state, raw=raw))
            model.load_state_dict(rename(state, model))
        except (IndexError, KeyError, RuntimeError, ValueError) as error:
            raise BadInput(
                "The tiny VAE's decoder is not laid out as that of taew2_1, taew2_2 or lighttae; "
                "load one of these."
            ) from error
    return model.eval().requires_grad_(False)


def _config(state: Mapping[str, Tensor], *, raw: bool) -> TAEHVConfig:
    """Sizes read from the shapes of the plain convolutions."""
    names = sorted((k for k in state if k.count(".") == 1 and k.endswith(".weight")), key=_layer)
    first, *middle, last = (state[name] for name in names)
    a, b, c, d = map(len, (first, *middle))
    return TAEHVConfig(first.shape[1], (a, b, c, d), math.isqrt(len(last) // 3), raw)


def rename(state: Mapping[str, Tensor], ours: TAEHVDecoder) -> dict[str, Tensor]:
    """A TAEHV tree's tensors under our names: both have the same layers with weights, in order.

    The names begin with the number of a layer. KeyError or ValueError for another layout.
    """
    number = layer_numbers(state, ours)
    renamed = {}
    for name, tensor in state.items():
        index, *inner, kind = name.split(".")
        parts = [str(number[int(index)]), OUR_NAMES[".".join(inner)], kind]
        renamed["decoder." + ".".join(filter(None, parts))] = tensor
    return renamed


def layer_numbers(state: Mapping[str, Tensor], ours: TAEHVDecoder) -> dict[int, int]:
    """Our number of each layer with weights by theirs; ValueError for another count of layers."""
    theirs = sorted({_layer(name) for name in state})
    mine = [i for i, layer in enumerate(ours.decoder) if [*layer.parameters()]]
    return dict(zip(theirs, mine, strict=True))


def stored_name(name: str, number: Mapping[int, int]) -> str:
    """The name of one of our tensors in a TAEHV tree, without its prefix."""
    _, index, *inner, kind = name.split(".")
    layer = next(theirs for theirs, mine in number.items() if mine == int(index))
    part = next(theirs for theirs, mine in OUR_NAMES.items() if mine == ".".join(inner))
    return ".".join(filter(None, [str(layer), part, kind]))


def _layer(name: str) -> int:
    return int(name.split(".")[0])
