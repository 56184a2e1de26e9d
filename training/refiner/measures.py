"""What the second stage gains over enlarging frame by frame, on true frames and generated ones.

The large truth is the world as its renderer draws it. A generated chunk follows a true history, so
the truth is known but for a small drift of the camera and of the ball. Both are searched for on the
small frames.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...model.preset import DEMO
from ...model.refiner.frames import NoiseAugmentation, refine
from ...model.refiner.network import FACTOR, RGB, Refiner, enlarge, shrink
from ...model.vae.latent_format import frame_count
from ...model.vae.tiny import decode_all, encode_all
from ...samplers.noise import addressed_noise
from ..evaluation.kit import Kit, Recipe, decode, sample
from ..evaluation.measures import as_chunks
from ..evaluation.psnr import psnr
from ..world.attributes import caption, random_values
from ..world.clips import latent_start, random_shot
from ..world.dataset import encode_shots
from ..world.renderer import render
from ..world.scene import Scene, Shot, scene

HELD_OUT_SEED = 40_000_003
LATENTS = 12  # of a clip of true frames
HISTORY = 21  # latent frames of true history before a generated chunk
BEFORE = 8  # frames before that chunk which the second stage sees, more than it looks back
MAX_DRIFT, MAX_DELAY = 3.0, 3.0  # of the camera, in world units; of the ball, in frames
SEARCH = 12, 10  # steps to each side of the search: through all of it, then around the best
STILL = 0.5 / 255  # less change of the truth from frame to frame is none in 8 bits
SHARPENING = 0.6  # within .03 dB of the best of 21 unsharp masks on 12 other clips

Enlarge = Callable[[Tensor], Tensor]
"""Small frames (n, 3, h, w) to large ones (n, 3, 4h, 4w), in [0, 1]."""


def frame_by_frame(way: Enlarge) -> Enlarge:
    """`way`, shown each frame as a clip of its own."""
    return lambda small: torch.cat([way(frame) for frame in small.split(1)])


@dataclass(frozen=True, slots=True)
class SecondStage:
    """The refiner at one noise level; called with the frames of a whole clip."""

    refiner: Refiner
    level: float = 0.0

    def __call__(self, small: Tensor) -> Tensor:
        augmentation = None
        if self.level:
            shape = RGB, *small.shape[2:]
            augmentation = NoiseAugmentation(
                self.level, lambda frame: addressed_noise(0, frame, 0, "evaluate", shape)
            )
        return refine(self.refiner, small, 0, self.refiner.start(), augmentation)[0]


def bicubic(small: Tensor) -> Tensor:
    """As Upscale (Stream) enlarges without a model."""
    return enlarge(small[None])[0].clamp(0, 1)


def lanczos(small: Tensor) -> Tensor:
    """As Pillow enlarges with its sharpest filter."""
    size = FACTOR * small.shape[3], FACTOR * small.shape[2]
    pictures = (small.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    images = (Image.fromarray(picture) for picture in pictures)
    larger = [np.asarray(image.resize(size, Image.Resampling.LANCZOS)) for image in images]
    return torch.from_numpy(np.stack(larger)).permute(0, 3, 1, 2).float() / 255


def sharpened(small: Tensor) -> Tensor:
    """Bicubic, then an unsharp mask."""
    larger = bicubic(small)
    blurred = F.avg_pool2d(F.pad(larger, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    return (larger + SHARPENING * (larger - blurred)).clamp(0, 1)


FRAME_WISE: Mapping[str, Enlarge] = {"bicubic": bicubic, "Lanczos": lanczos, "sharpened": sharpened}


def on_true_frames(kit: Kit, seed: int, ways: Mapping[str, Enlarge]) -> dict[str, float]:
    """PSNR in dB of each way on frames that only the VAE has changed, and how they change in time.

    "change" is that from frame to frame as a share of the truth's (root mean squares); 1 is right.
    "flicker" is the mean change, in 8-bit steps, where the truth has none.
    """
    rng = random.Random(HELD_OUT_SEED + seed)
    clip = scene([random_shot(rng, LATENTS)], frame_count(LATENTS))
    small = decode_all(kit.vae, encode_all(kit.vae, _small(clip)))[0].clamp(0, 1)
    truth = _large(clip)
    result = {}
    for name, way in ways.items():
        larger = way(small)
        result[f"{name}, dB"] = psnr(larger, truth)
        result[f"{name}, change"] = float(_change(larger) / _change(truth))
        result[f"{name}, flicker"] = flicker(larger, truth)
        result[f"{name}, made small again, dB"] = psnr(shrink(larger[None])[0], small)
    return result


def on_generated_frames(kit: Kit, seed: int, ways: Mapping[str, Enlarge]) -> dict[str, float]:
    """PSNR in dB of each way on a generated chunk against the truth at the camera's true place.

    "above" counts only what the small frames cannot hold: frequencies above their Nyquist limit.
    """
    rng = random.Random(HELD_OUT_SEED + 1_000_000 + seed)
    values = random_values(rng)
    shot = Shot(((0, values),), rng.randrange(2**31))
    length = HISTORY + DEMO.chunk_frames
    history = as_chunks(encode_shots(kit.vae, [shot], HISTORY, DEMO.width)[0])
    recipe, prompts = Recipe(length=length), [(0, caption(values, rng))]
    chunks = sample(kit, recipe, prompts, seed, history)
    small = decode(kit, [*history, *chunks]).clamp(0, 1)
    first = latent_start(HISTORY)
    clip = scene([shot], frame_count(length)).frames(first, len(small))
    truth = _large(at_true_time(at_true_place(clip, small[first:]), small[first:]))
    result = {}
    for name, way in ways.items():
        larger = way(small[first - BEFORE :])[BEFORE:]
        result[f"{name}, whole, dB"] = psnr(larger, truth)
        result[f"{name}, above, dB"] = psnr_above(larger, truth)
        result[f"{name}, made small again, dB"] = psnr(shrink(larger[None])[0], small[first:])
    return result


def _small(clip: Scene) -> Tensor:
    return render(clip, DEMO.height, DEMO.width)


def _large(clip: Scene) -> Tensor:
    """Frames (t, 3, H, W) of one clip, in the bits that a file has."""
    return render(clip, FACTOR * DEMO.height, FACTOR * DEMO.width)[0]


def at_true_place(clip: Scene, small: Tensor) -> Scene:
    """The clip with the camera where each of the `small` frames shows the scenery."""

    def errors(drifts: Tensor) -> Tensor:
        moved = _small(replace(clip, camera=clip.camera + drifts))[0]
        return (moved - small).square().mean((1, 2, 3))

    return replace(clip, camera=clip.camera + _search(errors, len(small), MAX_DRIFT))


def at_true_time(clip: Scene, small: Tensor) -> Scene:
    """The clip with the ball as early or late as the `small` frames show it, on the whole."""

    def errors(delays: Tensor) -> Tensor:
        return (_small(_delayed(clip, delays))[0] - small).square().mean().view(1)

    return _delayed(clip, _search(errors, 1, MAX_DELAY))


def _search(errors: Callable[[Tensor], Tensor], count: int, reach: float) -> Tensor:
    """The `count` shifts within `reach` that have the least `errors` (count,), each its own."""
    best = torch.zeros(count)
    for steps in SEARCH:
        reach, shifts = reach / steps, best + reach * torch.linspace(-1, 1, 2 * steps + 1)[:, None]
        best = shifts.gather(0, torch.stack([*map(errors, shifts)]).argmin(0)[None])[0]
    return best


def _delayed(clip: Scene, delay: Tensor) -> Scene:
    ball = clip.ball.clone()
    ball[:, 0] -= delay / ball[:, 1]
    ball[:, 2] -= delay / ball[:, 3]
    return replace(clip, ball=ball)


def psnr_above(frames: Tensor, truth: Tensor) -> float:
    """PSNR in dB of what lies above the small frames' Nyquist limit."""
    return float(-10 * torch.log10(_above(frames - truth).square().mean()))


def _above(frames: Tensor) -> Tensor:
    """Frames (t, 3, H, W) without the frequencies that frames of a quarter of the size hold."""
    spectrum = torch.fft.fft2(frames)
    rows, columns = (torch.fft.fftfreq(side).abs() for side in frames.shape[2:])
    limit = 0.5 / FACTOR
    below = (rows[:, None] < limit) & (columns < limit)
    above: Tensor = torch.fft.ifft2(spectrum.masked_fill(below, 0)).real
    return above


def _change(frames: Tensor) -> Tensor:
    return frames.diff(dim=0).square().mean().sqrt()


def flicker(frames: Tensor, truth: Tensor) -> float:
    """Mean change of `frames` from one to the next, in 8-bit steps, where `truth` has none."""
    rests = truth.diff(dim=0).abs() < STILL
    return float(255 * frames.diff(dim=0).abs()[rests].mean())
