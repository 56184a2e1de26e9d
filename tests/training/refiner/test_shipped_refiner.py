"""The shipped second stage sees through noise of the level that it is told."""

from __future__ import annotations

import random
from functools import partial

import torch
from torch import Tensor

from longtake.model.refiner.file import load_refiner
from longtake.model.refiner.frames import NoiseAugmentation, refine
from longtake.model.refiner.network import Refiner, enlarge
from longtake.training.evaluation.psnr import psnr
from longtake.training.refiner.evaluate import HERE
from longtake.training.refiner.pairs import PairMaker

FRAMES, ROWS, COLUMNS = 6, 64, 96


def truth() -> tuple[Tensor, Tensor]:
    """A clip in both sizes as the world's renderer draws it."""
    maker = PairMaker(lambda shots, rng, frames: frames, random.Random(3), (ROWS, COLUMNS))
    pair = maker.make(1)
    return pair.small[0, :FRAMES].float() / 255, pair.large[0, :FRAMES].float() / 255


def noise_of(strength: float, frame: int) -> Tensor:
    """Noise of a frame, `strength` times as strong as it is said to be."""
    generator = torch.Generator().manual_seed(frame)
    return strength * torch.randn(3, ROWS, COLUMNS, generator=generator)


def refined(refiner: Refiner, small: Tensor, noise: float, told: float) -> Tensor:
    augmentation = NoiseAugmentation(told, partial(noise_of, noise / told))
    return refine(refiner, small, 0, refiner.start(), augmentation)[0]


def test_it_is_better_than_bicubic_and_best_where_the_level_is_true() -> None:
    """A cascade ships if it gains 1 dB or more; at another level it sees too little or too much."""
    refiner = load_refiner(HERE / "refiner.safetensors").eval()
    small, large = truth()
    plain = psnr(refine(refiner, small, 0, refiner.start())[0], large)
    assert plain > psnr(enlarge(small[None])[0], large) + 1
    right, low, high = (
        psnr(refined(refiner, small, 0.15, told), large) for told in (0.15, 0.045, 0.3)
    )
    assert right > low + 2 and right > high + 1
