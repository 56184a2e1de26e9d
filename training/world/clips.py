"""Random scripts for training and evaluation: prompts, prompt switches, and camera reversals."""

from __future__ import annotations

import random

from .attributes import ATTRIBUTES, changed_values, random_values
from .scene import Shot


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


def latent_start(latent_frame: int) -> int:
    """Return the first pixel frame that `latent_frame` stands for."""
    return 0 if latent_frame == 0 else 4 * latent_frame - 3
