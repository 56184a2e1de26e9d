"""Random scripts for training and evaluation: prompts, prompt switches, and camera reversals."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from .attributes import ATTRIBUTES, changed_values, random_values
from .scene import Shot

Script = Callable[[random.Random, int], Shot]
"""Scripts a clip of a number of latent frames."""


def random_shot(rng: random.Random, latent_frames: int) -> Shot:
    """Script a clip of `latent_frames`; half of the clips change one to five attributes once."""
    first = random_values(rng)
    entries = [(0, first)]
    if rng.random() < 0.5 and latent_frames > 3:
        at = rng.randrange(1, latent_frames - 1)
        names = rng.sample(list(ATTRIBUTES), rng.choice([1, 1, 2, 3, 5]))
        entries.append((latent_start(at), changed_values(first, rng, names)))
    return Shot(tuple(entries), rng.randrange(2**31))


def reversal_shot(
    rng: random.Random, latent_frames: int, *, shortest: int = 5, longest: int = 28
) -> Shot:
    """Script a clip whose camera turns back repeatedly, so that scenery seen before must return."""
    values = random_values(rng)
    direction = rng.choice(["left", "right"])
    entries: list[tuple[int, dict[str, str]]] = []
    at = 0
    while at < latent_frames:
        pause = bool(entries) and values["pan"] != "still" and rng.random() < 0.1
        values = {**values, "pan": "still" if pause else direction}
        entries.append((latent_start(at), values))
        at += rng.randint(2, 4) if pause else rng.randint(shortest, longest)
        if not pause:
            direction = "left" if direction == "right" else "right"
    return Shot(tuple(entries), rng.randrange(2**31))


def quick_reversals(rng: random.Random, latent_frames: int) -> Shot:
    """Script a clip with early camera reversals: most entering scenery was seen moments before."""
    return reversal_shot(rng, latent_frames, shortest=3, longest=14)


def driven_shot(rng: random.Random, latent_frames: int) -> Shot:
    """Script a clip whose camera obeys keys: random pans, long, short and stopped ones.

    Its captions name a pan of their own, which the keys overrule.
    """
    shot = random_shot(rng, latent_frames)
    drive: list[tuple[int, float]] = []
    at = 0
    while at < latent_frames:
        speed = rng.choice([-1.0, 1.0, 0.0, rng.uniform(-1, 1)])
        drive.append((latent_start(at), speed))
        at += rng.choice([1, 2, 3, 6, 12])
    return replace(shot, drive=tuple(drive))


def perhaps_driven(script: Script) -> Script:
    """Script half of the clips as `script` does and half with keys."""

    def either(rng: random.Random, latent_frames: int) -> Shot:
        return (driven_shot if rng.random() < 0.5 else script)(rng, latent_frames)

    return either


def latent_start(latent_frame: int) -> int:
    """Return the first pixel frame that `latent_frame` stands for."""
    return 0 if latent_frame == 0 else 4 * latent_frame - 3
