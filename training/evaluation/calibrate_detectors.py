"""Measure how often the detectors of ball and edges err, on rendered and on decoded truth.

`python -m longtake.training.evaluation.calibrate_detectors`. In half of the clips of decoded truth
the detectors' reference is measured, in the other half their errors: whole balls read as missing,
missing and half transparent ones that read as whole, wrong counts of one and of two balls, and
pictures that read as smeared, or do not where they are.
"""

from __future__ import annotations

import json
import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...machine.temporary_files import write_whole
from ...model.checkpoint import load_tiny_vae
from ...model.preset import DEMO, DEMO_FOLDER
from ...model.vae.tiny import TinyVAE, decode_all, encode_all
from ..command import FILE, reporting
from ..world.attributes import ATTRIBUTES, random_values
from ..world.renderer import ball_centre, render
from ..world.scene import Scene, Shot, scene
from . import references
from .ball import APART, Ball, read_balls
from .edges import fine_edges
from .looks import SMEARED
from .references import LIGHTS, Reference, light_of

FRAMES, READ = 29, (12, 16, 20, 24)  # of a clip, and those that are read
HELD_OUT_SEED = 40_000_003
ONE, TWO, HALF, NONE = "one ball", "two balls", "half a ball", "no ball"

logger = logging.getLogger("longtake")

Errors = Mapping[str, list[bool]]
"""What was read -> whether each reading was wrong."""


@dataclass(frozen=True, slots=True)
class TruthClip:
    """A clip with attribute `values`: pictures (k, 3, H, W) by what they show, and rendered ones.

    `apart` are the pixels between its two balls (k,).
    """

    values: dict[str, str]
    decoded: dict[str, Tensor]
    rendered: Tensor
    apart: Tensor


@torch.no_grad()
def truth_clip(vae: TinyVAE, values: dict[str, str], seed: int) -> TruthClip:
    """Render one world with one ball, two, half a transparent one and none, and decode them."""
    whole = scene([Shot(((0, values),), seed)], FRAMES)
    elsewhere = whole.ball + torch.tensor([0.3, 0, 0.5, 0])
    other = Scene(whole.attributes, whole.camera, whole.seed, elsewhere)
    size = DEMO.height, DEMO.width
    one, second = (render(clip, *size) for clip in (whole, other))
    none = render(whole, *size, ball=False)
    covered = (second - none).abs().amax(2, keepdim=True) > 0.01
    shown = {ONE: one, TWO: torch.where(covered, second, one), HALF: (one + none) / 2, NONE: none}
    read = torch.tensor(READ)
    decoded = {name: decode_all(vae, encode_all(vae, video)).clamp(0, 1)[0, read]
               for name, video in shown.items()}  # fmt: skip
    (x, y), (u, v) = ball_centre(whole, size[1]), ball_centre(other, size[1])
    return TruthClip(values, decoded, one[0, read], torch.hypot(x - u, y - v)[0, read])


def smeared(pictures: Tensor) -> Tensor:
    """Pictures (k, 3, H, W) with neighbouring pixels mixed 1 : 2 : 1, across and down."""
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    weight = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(pictures, (1, 1, 1, 1), "replicate"), weight, groups=3)


def clips_of(vae: TinyVAE, count: int, seed: int) -> Iterator[TruthClip]:
    """`count` clips of every value of LIGHTS; other values are random."""
    rng = random.Random(HELD_OUT_SEED + seed)
    for _ in range(count):
        for light in product(*(ATTRIBUTES[name] for name in LIGHTS)):
            values = {**random_values(rng), **dict(zip(LIGHTS, light, strict=True))}
            yield truth_clip(vae, values, rng.randrange(2**31))


def measure_reference(clips: list[TruthClip]) -> tuple[dict[str, float], float]:
    """The mean of fine edges by light, and the fifth percentile of the ball's sharpness."""
    edges: dict[str, list[float]] = defaultdict(list)
    sharp: list[float] = []
    for clip in clips:
        edges[light_of(clip.values)] += fine_edges(clip.decoded[ONE]).tolist()
        sharp += [ball.sharpness for ball in read_balls(clip.decoded[ONE], clip.values)]
    means = {light: round(float(np.mean(values)), 4) for light, values in edges.items()}
    return means, round(float(np.percentile(sharp, 5)), 4)


def errors_of(clip: TruthClip, edges: float, sharp: float) -> Errors:
    """The readings of one clip, and whether they are wrong."""
    balls = {name: read_balls(shown, clip.values) for name, shown in clip.decoded.items()}
    rendered = read_balls(clip.rendered, clip.values)
    blurred = smeared(clip.decoded[ONE])
    far = [i for i, apart in enumerate(clip.apart.tolist()) if apart > 2 * APART]

    def wrong(readings: list[Ball], *, present: bool) -> list[bool]:
        return [ball.is_present != present for ball in readings]

    return {
        "rendered ball, reads as missing": wrong(rendered, present=True),
        "ball, reads as missing": wrong(balls[ONE], present=True),
        "no ball, reads as one": wrong(balls[NONE], present=False),
        "half transparent ball, reads as whole": wrong(balls[HALF], present=False),
        "one ball, counts otherwise": [ball.count != 1 for ball in balls[ONE]],
        "two balls, count otherwise": [balls[TWO][i].count != 2 for i in far],
        "ball, reads as blurred": [ball.sharpness < sharp for ball in balls[ONE]],
        "blurred ball, reads as sharp": [
            ball.sharpness >= sharp for ball in read_balls(blurred, clip.values)
        ],
        "picture, reads as smeared": (fine_edges(clip.decoded[ONE]) < SMEARED * edges).tolist(),
        "smeared picture, reads as sharp": (fine_edges(blurred) >= SMEARED * edges).tolist(),
    }


def calibrate(vae: TinyVAE, count: int, seed: int) -> Reference:
    """Measure reference and errors on `count` clips of every light each."""
    edges, sharp = measure_reference([*clips_of(vae, count, seed)])
    readings: dict[str, list[bool]] = defaultdict(list)
    for clip in clips_of(vae, count, seed + 1):
        for name, wrong in errors_of(clip, edges[light_of(clip.values)], sharp).items():
            readings[name] += wrong
    errors = {name: round(float(np.mean(wrong)), 4) for name, wrong in readings.items()}
    return Reference(edges, sharp, errors, {name: len(wrong) for name, wrong in readings.items()})


@click.command(help=__doc__)
@click.option("--vae", type=FILE, default=DEMO_FOLDER / "vae.safetensors")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=references.FILE,
    help="File to write.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(1), default=6, show_default=True, help="Clips of every light."
)
@click.option("--seed", type=int, default=0, show_default=True)
def main(vae: Path, out: Path, steps: int, seed: int) -> None:
    with reporting():
        result = calibrate(load_tiny_vae(vae), steps, seed)
        write_whole(out, json.dumps(asdict(result), indent=1) + "\n")
        for name, share in result.errors.items():
            logger.info("%s: %.4f of %d", name, share, result.pictures[name])


if __name__ == "__main__":
    main()
