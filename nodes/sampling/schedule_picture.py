"""The matrix of noise levels as a picture: latent frames to the right, model evaluations downwards.

A cell is a latent frame at its level just before an evaluation. Frames that wait for their turn, or
have joined the history, are not active: they are drawn as flat grounds.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ...samplers.schedule.row import Row
from ...samplers.schedule.rows import NoiseSchedule
from ...units import count_of
from ..drawing import BACKGROUND, INK, TEXT_SIZE, Colour, save_png

CLEAN: Colour = (253, 231, 120)
NOISE: Colour = (38, 30, 92)
MIDDLE: Colour = (202, 84, 98)
WAITING: Colour = (46, 46, 50)
HISTORY: Colour = (96, 122, 96)

LEFT, TOP, RIGHT, BOTTOM = 56, 30, 150, 40
MAX_FRAMES = 48
WIDTH, HEIGHT = 720, 420
MAX_ROWS = HEIGHT // 2  # of two pixels; two chunks of 100 steps, the most that a node has


def draw_schedule(schedule: NoiseSchedule, path: Path, frames: int | None = None) -> int:
    """Write a PNG of the first `frames` latent frames, as many as fit; without a number, of a
    telling few. How many they are.
    """
    shown = frames_that_fit(schedule, frames) if frames else telling_frames(schedule)
    save_png(picture_of(schedule, shown), path)
    return shown


def telling_frames(schedule: NoiseSchedule) -> int:
    """Enough to see the pattern, as many as fit: what is in flight at once, and a few chunks."""
    active = schedule.active_frames(12)
    enough = min(MAX_FRAMES, max(12, active + 4 * schedule.chunk_frames))
    return frames_that_fit(schedule, enough)


def frames_that_fit(schedule: NoiseSchedule, frames: int) -> int:
    """The most of `frames` all of whose evaluations have a row in a picture; one chunk at least."""

    def rows(count: int) -> int:
        return sum(1 for _ in islice(schedule.rows(0, count), MAX_ROWS + 1))

    fitting = bisect_right(range(1, frames + 1), MAX_ROWS, key=rows)
    return max(min(frames, schedule.chunk_frames), fitting)


def in_words(schedule: NoiseSchedule, frames: int | None = None) -> str:
    """How much work the first `frames` are, and when the first ones are there."""
    frames = frames or telling_frames(schedule)
    rows = list(schedule.rows(0, frames))
    first = next(number for number, row in enumerate(rows, 1) if row.finished)
    return (
        f"{count_of(len(rows), 'evaluation')} for {count_of(frames, 'latent frame')}, at most "
        f"{max(len(row.frames) for row in rows)} active at once; the first "
        f"{rows[first - 1].finished} are clean after {first}."
    )


def picture_of(schedule: NoiseSchedule, frames: int) -> Image.Image:
    """The whole matrix of `frames` latent frames, with axes and a legend."""
    rows = list(schedule.rows(0, frames))
    cell_w, cell_h = max(2, WIDTH // frames), max(2, min(28, HEIGHT // len(rows)))
    size = (LEFT + cell_w * frames + RIGHT, TOP + cell_h * len(rows) + BOTTOM)
    image = Image.new("RGB", (size[0], max(size[1], 220)), BACKGROUND)
    pen = ImageDraw.Draw(image)
    for m, row in enumerate(rows):
        for t, colour in enumerate(cells(row, frames)):
            x, y = LEFT + t * cell_w, TOP + m * cell_h
            gap = 1 if min(cell_w, cell_h) > 7 else 0
            pen.rectangle((x, y, x + cell_w - 1 - gap, y + cell_h - 1 - gap), fill=colour)
    _axes(pen, frames, len(rows), cell_w, cell_h)
    _legend(pen, LEFT + cell_w * frames + 16)
    return image


def cells(row: Row, frames: int) -> list[Colour]:
    """The colour of every latent frame before one evaluation."""
    colours = [HISTORY] * row.first + [level_colour(level) for level in row.now]
    return (colours + [WAITING] * frames)[:frames]


def level_colour(level: float) -> Colour:
    """From clean, light, through the middle to noise, dark."""
    low, high, share = (CLEAN, MIDDLE, 2 * level) if level < 0.5 else (MIDDLE, NOISE, 2 * level - 1)
    r, g, b = (round(a + (z - a) * share) for a, z in zip(low, high, strict=True))
    return r, g, b


def _axes(pen: ImageDraw.ImageDraw, frames: int, rows: int, cell_w: int, cell_h: int) -> None:
    font = ImageFont.load_default(TEXT_SIZE)
    bottom = TOP + rows * cell_h
    for t in range(0, frames, _stride(frames, cell_w, 28)):
        pen.text((LEFT + (t + 0.5) * cell_w, bottom + 3), str(t), INK, font, "ma")
    for m in range(0, rows, _stride(rows, cell_h, 16)):
        pen.text((LEFT - 6, TOP + (m + 0.5) * cell_h), str(m), INK, font, "rm")
    pen.text((LEFT + frames * cell_w / 2, bottom + 20), "latent frame (time)", INK, font, "ma")
    pen.text((6, 8), "model evaluation", INK, font, "la")


def _legend(pen: ImageDraw.ImageDraw, left: int) -> None:
    font = ImageFont.load_default(TEXT_SIZE)
    height = 90
    for y in range(height):
        colour = level_colour(1 - y / (height - 1))
        pen.rectangle((left, TOP + y, left + 16, TOP + y), fill=colour)
    for level in (1.0, 0.5, 0.0):
        name = {1.0: "1  noise", 0.5: "0.5", 0.0: "0  clean"}[level]
        pen.text((left + 24, TOP + (1 - level) * (height - 1)), name, INK, font, "lm")
    for place, (colour, name) in enumerate(((WAITING, "waiting"), (HISTORY, "in the history"))):
        y = TOP + height + 16 + 24 * place
        pen.rectangle((left, y, left + 16, y + 14), fill=colour)
        pen.text((left + 24, y + 7), name, INK, font, "lm")


def _stride(count: int, cell: int, room: int) -> int:
    """Every how many cells a number fits."""
    return next(n for n in (1, 2, 5, 10, 20, 50, 100, count) if n * cell >= room or n >= count)
