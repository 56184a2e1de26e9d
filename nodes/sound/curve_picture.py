"""A curve over time as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ..conditioning.timed_numbers import TimedNumber
from ..drawing import BACKGROUND, INK, TEXT_SIZE, Colour

LINE: Colour = (253, 231, 120)
GRID: Colour = (58, 58, 62)
WIDTH, HEIGHT = 720, 200
LEFT, TOP, RIGHT, BOTTOM = 52, 14, 16, 30
MARKS = 6  # of time, at most about so many


def picture_of(numbers: Sequence[TimedNumber], seconds: float) -> Image.Image:
    """Draw numbers, each of which holds until the next, over `seconds` from 0 on."""
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT_SIZE)
    values = [number.value for number in numbers]
    low, high = min(values), max(values)
    across = (WIDTH - LEFT - RIGHT) / seconds
    up = (HEIGHT - TOP - BOTTOM) / ((high - low) or 1.0)
    for value in {low, high}:
        y = HEIGHT - BOTTOM - (value - low) * up
        pen.line((LEFT, y, WIDTH - RIGHT, y), GRID)
        pen.text((LEFT - 6, y), f"{value:g}", INK, font, "rm")
    for mark in range(0, int(seconds) + 1, max(1, round(seconds / MARKS))):
        pen.text((LEFT + mark * across, HEIGHT - BOTTOM + 6), f"{mark} s", INK, font, "ma")
    pen.line(_steps(numbers, seconds, low, across, up), LINE, 2)
    return image


def _steps(
    numbers: Sequence[TimedNumber], seconds: float, low: float, across: float, up: float
) -> list[tuple[float, float]]:
    points = list[tuple[float, float]]()
    ends = [*(number.start_s for number in numbers[1:]), seconds]
    for number, end in zip(numbers, ends, strict=True):
        y = HEIGHT - BOTTOM - (number.value - low) * up
        points += [(LEFT + number.start_s * across, y), (LEFT + min(end, seconds) * across, y)]
    return points
