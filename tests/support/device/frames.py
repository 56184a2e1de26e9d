"""What makes frames out of latents or of frames, on a CPU and on a stand-in for CUDA.

`python -m longtake.tests.support.device.frames NAME ...` writes how far apart they are, and what
faults the stand-in saw, as JSON.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from longtake.attention.cache.policy import FullHistory
from longtake.benchmarks.speed.plain_model import PlainCache, PlainModel
from longtake.model.dit import TextKV
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.passes import FIRST_FRAMES, PASS_FRAMES
from longtake.model.flashvsr.upscaler import Upscaler, UpscaleSettings
from longtake.model.recurrent.config import RecurrentConfig
from longtake.model.recurrent.network import RecurrentNetwork
from longtake.model.vae.streaming import StreamingDecoder, StreamingEncoder
from longtake.model.vae.taehv import TAEHVConfig, TAEHVDecoder
from longtake.model.vae.tiles import TiledDecoder
from longtake.samplers.denoiser import Denoiser, LocalHost
from longtake.samplers.loop import generate
from longtake.tests.support.device.comparison import compare
from longtake.tests.support.device.cuda import begin
from longtake.tests.support.model.flashvsr import noise_of, small_networks
from longtake.tests.support.model.vaes import VAE
from longtake.tests.support.tiny_model import TINY, randn, random_dit, randomise, settings

CPU = torch.device("cpu")


def decoded(device: torch.device, *, tile_side: int = 0) -> Tensor:
    """Frames of the tiny VAE, chunk by chunk."""
    vae = copy.deepcopy(VAE).to(device)
    decoder: Any = StreamingDecoder(vae)
    if tile_side:
        decoder = TiledDecoder(lambda: StreamingDecoder(vae), tile_side)
    parts = randn(5, 16, 4, 6).split([3, 2])
    return torch.cat([decoder.feed(part.to(device)).cpu() for part in parts])


def encoded(device: torch.device) -> Tensor:
    """Latents of the tiny VAE, chunk by chunk."""
    encoder = StreamingEncoder(copy.deepcopy(VAE).to(device))
    frames = randn(9, 3, 32, 48).split([5, 4])
    return torch.cat([encoder.feed(part.to(device)).cpu() for part in frames])


def decoded_by_taehv(device: torch.device) -> Tensor:
    tree = TAEHVDecoder(TAEHVConfig(widths=(8, 8, 8, 8)))
    randomise(tree, 3)
    decoder = StreamingDecoder(tree.eval().requires_grad_(False).to(device))
    parts = randn(5, 16, 4, 6).split([3, 2])
    return torch.cat([decoder.feed(part.to(device)).cpu() for part in parts])


def sharpened(device: torch.device, *, rests: bool = False, **how: Any) -> Tensor:
    """FlashVSR's frames, by small networks; between passes a state may rest in main memory."""
    networks, canvas = small_networks(causal=True), Canvas(500, 250)
    layers = tuple((k.to(device), v.to(device)) for k, v in networks.text.layers)
    parts = {name: getattr(networks, name).to(device) for name in ("dit", "projector", "decoder")}
    rows, columns = canvas.full_height // 8, canvas.full_width // 8
    put_away = (lambda state: state.to(CPU)) if rests else None
    made = UpscaleSettings(
        canvas, lambda frames: noise_of(frames, rows, columns).to(device), put_away=put_away, **how
    )
    upscaler = Upscaler(replace(networks, text=TextKV(layers), **parts), made)
    sharp = list[Tensor]()
    upscaler.put(torch.zeros(0, 3, 62, 125, device=device))  # as where a shot goes on
    for count in (FIRST_FRAMES, PASS_FRAMES):
        upscaler.put(randn(count, 3, 62, 125, seed=count).clamp(0, 1).to(device))
        sharp.append(upscaler.step().cpu())
    return torch.cat(sharp)


def recurrent(device: torch.device) -> Tensor:
    """A shot of a model without attention."""
    sizes = {"text_dim": TINY.text_dim, "in_channels": 4, "out_channels": 4}
    config = RecurrentConfig(dim=6, num_layers=2, **sizes)
    tree = RecurrentNetwork(config)
    randomise(tree, 0)
    tree = tree.eval().requires_grad_(False).to(device)
    shot = settings(length=9, cache=FullHistory())
    model = Denoiser(LocalHost(tree), config, device, torch.float32)
    return torch.cat([chunk.latents for chunk in generate(shot, model)])


def by_the_published_forward(device: torch.device) -> Tensor:
    """The flow of Self-Forcing's own forward, which the benches run."""
    tree, frames = random_dit().to(device), 3
    cache = PlainCache.of(TINY, 2 * frames * 4 * 6, torch.zeros(1, device=device))
    x, words = randn(1, TINY.in_channels, frames, 8, 12), randn(1, 9, TINY.text_dim)
    t = torch.full((frames,), 500.0, dtype=torch.float64, device=device)
    model = PlainModel(tree, TINY)
    return model(x.to(device), t, words.to(device), cache, frames).cpu()


CASES: Mapping[str, Callable[[torch.device], Tensor]] = {
    "decoded": decoded,
    "decoded in tiles": lambda device: decoded(device, tile_side=4),
    "encoded": encoded,
    "decoded by TAEHV": decoded_by_taehv,
    "sharpened": sharpened,
    "sharpened in tiles": lambda device: sharpened(device, tile_side=256, rests=device != CPU),
    "recurrent": recurrent,
    "by the published forward": by_the_published_forward,
}


def main(arguments: Sequence[str]) -> None:
    begin()
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps({name: compare(CASES[name]) for name in arguments}))


if __name__ == "__main__":
    main(sys.argv[1:])
