"""A sheet of pictures of long rollouts, one row per rollout."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...model.vae.streaming import StreamingDecoder
from ...training.evaluation.kit import Kit, Recipe, sample
from ...training.evaluation.measures import HELD_OUT_SEED
from ...training.world.attributes import caption, random_values
from .report import save_picture

COLUMNS = 10
LABEL_PIXELS, GAP = 14, 2


def last_of_parts(kit: Kit, seed: int, recipe: Recipe, offset: int) -> list[Tensor]:
    """Return the last picture (3, H, W) of each tenth of a rollout.

    The seed, counted from `offset`, draws the prompt.
    """
    rng = random.Random(HELD_OUT_SEED + offset + seed)
    prompt = caption(random_values(rng), rng)
    decoder, pictures = StreamingDecoder(kit.vae), dict[int, Tensor]()
    for chunk in sample(kit, recipe, [(0, prompt)], seed):
        pictures[COLUMNS * chunk.first_frame // recipe.length] = decoder.feed(chunk.latents)[-1]
    return [*pictures.values()]


def save(rows: Mapping[str, list[Tensor]], path: Path) -> None:
    """Write rows of pictures (3, H, W) in [0, 1], each under its name."""
    height, width = next(iter(rows.values()))[0].shape[1:]
    size = (COLUMNS * (width + GAP), len(rows) * (LABEL_PIXELS + height + GAP))
    sheet = Image.new("RGB", size, "white")
    for row, (name, pictures) in enumerate(rows.items()):
        top = row * (LABEL_PIXELS + height + GAP)
        ImageDraw.Draw(sheet).text((1, top), name, fill="black")
        for column, picture in enumerate(pictures):
            pixels = (255 * picture.clamp(0, 1)).round().to(torch.uint8).movedim(0, -1).numpy()
            sheet.paste(Image.fromarray(pixels), (column * (width + GAP), top + LABEL_PIXELS))
    save_picture(sheet, path)
