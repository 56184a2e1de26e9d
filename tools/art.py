"""Draw docs/icon.png (400x400) and docs/banner.jpg (1260x540, 21:9) for the registry.

    python -m longtake.tools.art

A ball bounces through one long shot. In the middle a prompt turns day into sunset, and red into
blue.
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DOCS = Path(__file__).resolve().parents[1] / "docs"
SUPERSAMPLING = 4  # draw at this multiple of the size, then scale down
DAY = ((96, 165, 240), (200, 228, 250), (92, 168, 74))  # top and bottom of the sky, ground
SUNSET = ((110, 74, 140), (238, 150, 110), (242, 206, 178))
RED, BLUE, WHITE = (226, 40, 36), (40, 70, 214), (255, 255, 255)
BOUNCES = 3.0

Colour = tuple[int, int, int]


def scene(width: int, height: int, bounce: float) -> Image.Image:
    """Draw the shot: day on the left, sunset on the right, the ball's path and a timeline.

    The ball bounces to `bounce` of the height.
    """
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    picture = Image.composite(_land(size, SUNSET), _land(size, DAY), _right_half(size))
    draw = ImageDraw.Draw(picture)
    _draw_path(draw, size, bounce)
    _draw_time_line(draw, size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def icon() -> Image.Image:
    """Draw the scene with round corners."""
    picture = scene(400, 400, 0.4).convert("RGBA")
    corners = Image.new("L", (1600, 1600), 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, 1599, 1599), 320, fill=255)
    picture.putalpha(corners.resize((400, 400), Image.Resampling.LANCZOS))
    return picture


def banner() -> Image.Image:
    """Draw the wide scene with the name."""
    picture = scene(1260, 540, 0.26)
    draw = ImageDraw.Draw(picture)
    draw.text((70, 36), "Longtake", WHITE, ImageFont.load_default(96))
    draw.text((76, 146), "one shot, as long as you like", WHITE, ImageFont.load_default(34))
    return picture


def _land(size: tuple[int, int], colours: tuple[Colour, Colour, Colour]) -> Image.Image:
    top, bottom, ground = colours
    sky = Image.linear_gradient("L").resize(size)
    picture = Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), sky)
    horizon = [(x, size[1] * (0.62 + 0.04 * math.sin(9 * x / size[0]))) for x in range(size[0])]
    ImageDraw.Draw(picture).polygon([*horizon, (size[0], size[1]), (0, size[1])], fill=ground)
    return picture


def _right_half(size: tuple[int, int]) -> Image.Image:
    """Return a mask that is white to the right of a slightly slanted cut."""
    mask = Image.new("L", size, 0)
    middle, slant = size[0] / 2, size[1] / 16
    corners = [(middle + slant, 0), (size[0], 0), size, (middle - slant, size[1])]
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    return mask


def _draw_path(draw: ImageDraw.ImageDraw, size: tuple[int, int], bounce: float) -> None:
    """Draw the ball at many moments, and in full size at two."""
    radius = size[1] * 0.11
    moments = [number / 60 for number in range(6, 53)]
    for moment in moments:
        _dot(draw, _ball(moment, size, bounce), radius * 0.12, WHITE)
    for moment, colour in ((0.27, RED), (0.87, BLUE)):
        x, y = _ball(moment, size, bounce)
        _dot(draw, (x, y), radius, colour)
        _dot(draw, (x - radius * 0.35, y - radius * 0.4), radius * 0.22, WHITE)


def _ball(moment: float, size: tuple[int, int], bounce: float) -> tuple[float, float]:
    height = bounce * abs(math.cos(math.pi * BOUNCES * moment))
    return size[0] * moment, size[1] * (0.68 - height)


def _dot(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: Colour
) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _draw_time_line(draw: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    """Draw chunks as bars; those ahead of the playhead are faint."""
    count, left, right = 10, size[0] * 0.1, size[0] * 0.9
    step = (right - left) / count
    for number in range(count):
        colour = WHITE if number < 8 else (250, 226, 208)
        start = left + number * step
        box = (start, size[1] * 0.86, start + step * 0.86, size[1] * 0.9)
        draw.rounded_rectangle(box, size[1] * 0.012, fill=colour)


def main() -> None:
    icon().save(DOCS / "icon.png", optimize=True)
    banner().save(DOCS / "banner.jpg", quality=88)


if __name__ == "__main__":
    main()
