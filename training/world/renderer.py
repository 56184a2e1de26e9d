"""Draw the demo world analytically, in plain torch, at any size.

Layers are painted back to front; each has an opacity and a colour. Layers move with different
parallax (trees and ground 1, far hills 0.4, clouds 0.2, sun 0.12), so every picture also shows
where the camera is. All variation in the landscape is a hash of the clip's seed and a cell index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .attributes import ATTRIBUTES
from .scene import SLICES, Scene

WORLD_HEIGHT = 64.0  # world units from top to bottom; one unit is one pixel at 64 rows
TREE_CELL = 20.0
CLOUD_CELL = 44.0
GROUND_Y = 43.0
BALL_RADIUS = 8.0
BALL_FLOOR_Y = 59.0
BOUNCE_HEIGHT = 26
CLOUD_SHADE = 0.12  # share of the light that a cloudy sky takes

Palette = tuple[tuple[float, float, float], ...]
"""One RGB colour per value of an attribute."""

Layer = tuple[Tensor, Tensor]
"""Opacity (b, t, h, w) and colour (b, t, 3, h, w), or whatever broadcasts to them."""

_SKY_TOP: Palette = ((0.32, 0.58, 0.95), (0.42, 0.28, 0.55), (0.03, 0.05, 0.16))
_SKY_LOW: Palette = ((0.74, 0.88, 1.00), (1.00, 0.62, 0.36), (0.10, 0.14, 0.33))
_LIGHT: Palette = ((1.00, 1.00, 1.00), (1.00, 0.78, 0.62), (0.38, 0.46, 0.70))
_SUN: Palette = ((1.00, 0.95, 0.62), (1.00, 0.55, 0.25), (0.92, 0.94, 1.00))
_SUN_Y, _SUN_RADIUS = (11.0, 25.0, 12.0), (6.0, 8.0, 5.5)
_HILL: Palette = ((0.34, 0.54, 0.38), (0.80, 0.64, 0.40), (0.60, 0.68, 0.82))
_GROUND: Palette = ((0.36, 0.62, 0.26), (0.90, 0.76, 0.48), (0.90, 0.93, 1.00))
_PLANT: Palette = ((0.15, 0.40, 0.15), (0.22, 0.48, 0.28), (0.08, 0.28, 0.24))
_TRUNK = (0.36, 0.25, 0.16)
_BALL: Palette = (
    (0.90, 0.12, 0.12),
    (0.12, 0.25, 0.92),
    (0.97, 0.86, 0.10),
    (0.97, 0.97, 0.97),
    (0.62, 0.15, 0.78),
)


def render(batch: Scene, height: int, width: int, *, ball: bool = True) -> Tensor:
    """Draw `batch` as RGB (b, t, 3, height, width) in [0, 1]; world height spans the picture.

    Without the `ball` the world is empty of it and its shadow.
    """
    canvas = _canvas(batch, height, width)
    picture = _sky(canvas)
    for opacity, colour in _layers(canvas, ball=ball):
        opacity = opacity.unsqueeze(2)
        picture = picture * (1 - opacity) + colour * opacity
    return (picture * (1 - CLOUD_SHADE * canvas.cloudy[:, :, None])).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Canvas:
    """Shared inputs of all layers.

    `x` (1, 1, 1, w) and `y` (1, 1, h, 1) are pixel centres in world units. `span` is the picture's
    width in world units and `sharp` the number of pixels per unit. `weights` maps an attribute to
    its mixing weights (b, t, values).
    """

    batch: Scene
    x: Tensor
    y: Tensor
    span: float
    sharp: float
    weights: Mapping[str, Tensor]

    @property
    def camera(self) -> Tensor:
        """Camera position (b, t, 1, 1)."""
        return self.batch.camera[..., None, None]

    @property
    def light(self) -> Tensor:
        """Colour of daylight (b, t, 3, 1, 1)."""
        return self.mixed(_LIGHT, "time")

    @property
    def cloudy(self) -> Tensor:
        """Share of cloud cover (b, t, 1, 1)."""
        return self.share("weather", "cloudy")

    def share(self, name: str, value: str) -> Tensor:
        """Return the weight of one value of attribute `name` (b, t, 1, 1)."""
        return self.weights[name][..., ATTRIBUTES[name].index(value)][..., None, None]

    def mixed(self, palette: Palette | tuple[float, ...], name: str) -> Tensor:
        """Mix colours (b, t, 3, 1, 1), or numbers (b, t, 1, 1), by attribute `name`."""
        return (self.weights[name] @ torch.tensor(palette))[..., None, None]

    def coverage(self, distance: Tensor) -> Tensor:
        """Return the share of a pixel inside a shape whose edge is `distance` world units away."""
        return (distance * self.sharp + 0.5).clamp(0, 1)

    def random(self, cell: Tensor, salt: int) -> Tensor:
        """Return uniform numbers in [0, 1) shaped like `cell`, addressed by (clip seed, cell,
        salt).
        """
        seed = self.batch.seed.view(-1, *[1] * (cell.ndim - 1))
        bits = cell * 374_761_393 + seed * 668_265_263 + salt * 974_711 & 0xFFFFFFFF
        bits = (bits ^ (bits >> 13)) * 1_274_126_177 & 0xFFFFFFFF
        bits = (bits ^ (bits >> 15)) * 668_265_263 & 0xFFFFFFFF
        return ((bits ^ (bits >> 16)) & 0xFFFFFF).float() / 0x1000000

    def clip_random(self, salt: int) -> Tensor:
        """Return a uniform number per clip (b, 1, 1, 1)."""
        return self.random(torch.zeros(len(self.batch.seed), 1, 1, 1, dtype=torch.long), salt)


def _canvas(batch: Scene, height: int, width: int) -> Canvas:
    unit = WORLD_HEIGHT / height
    return Canvas(
        batch=batch,
        x=((torch.arange(width) + 0.5) * unit).view(1, 1, 1, width),
        y=((torch.arange(height) + 0.5) * unit).view(1, 1, height, 1),
        span=width * unit,
        sharp=1.0 / unit,
        weights={name: batch.attributes[..., part] for name, part in SLICES.items()},
    )


def _layers(canvas: Canvas, *, ball: bool) -> Iterator[Layer]:
    """Yield every layer in front of the sky, back to front."""
    yield _sun(canvas)
    yield _clouds(canvas)
    yield _hills(canvas)
    yield _ground(canvas)
    yield from _plants(canvas)
    if ball:
        yield from _ball(canvas)


def _sky(canvas: Canvas) -> Tensor:
    depth = (canvas.y / GROUND_Y).clamp(0, 1).unsqueeze(2)
    blue = canvas.mixed(_SKY_TOP, "time") * (1 - depth) + canvas.mixed(_SKY_LOW, "time") * depth
    grey = canvas.light * 0.62
    cloudy = canvas.cloudy[:, :, None]
    sky = blue * (1 - 0.5 * cloudy) + grey * 0.5 * cloudy
    return sky.expand(-1, -1, -1, -1, canvas.x.shape[-1])


def _sun(canvas: Canvas) -> Layer:
    orbit = canvas.span + 40
    x = (canvas.clip_random(1) * orbit - 0.12 * canvas.camera) % orbit - 20
    distance = torch.hypot(canvas.x - x, canvas.y - canvas.mixed(_SUN_Y, "time"))
    disc = canvas.coverage(canvas.mixed(_SUN_RADIUS, "time") - distance)
    return disc * (1 - 0.55 * canvas.cloudy), canvas.mixed(_SUN, "time")


def _clouds(canvas: Canvas) -> Layer:
    place = canvas.x + 0.2 * canvas.camera
    cell = torch.floor(place / CLOUD_CELL).long()
    x = (cell + 0.5) * CLOUD_CELL + (canvas.random(cell, 2) - 0.5) * 10
    y = 7 + 12 * canvas.random(cell, 3)
    radius = 13 + 4 * canvas.random(cell, 4)
    shape = 1 - torch.hypot((place - x) / radius, (canvas.y - y) / (radius * 0.36))
    return canvas.coverage(shape * radius * 0.3) * canvas.cloudy, canvas.light * 0.86


def _hills(canvas: Canvas) -> Layer:
    """Rolling hills, low dunes or sharp peaks: sines and folded sines of three lengths."""
    place = canvas.x + 0.4 * canvas.camera
    rise = torch.zeros_like(place)
    peaks = torch.zeros_like(place)
    for index, (length, height) in enumerate(((90.0, 4.5), (41.0, 3.0), (23.0, 1.5))):
        stretch = 0.8 + 0.4 * canvas.clip_random(10 + index)
        angle = 2 * math.pi * (place / (length * stretch) + canvas.clip_random(20 + index))
        rise = rise + height * torch.sin(angle)
        peaks = peaks + height * (1.6 - 2.6 * torch.sin(angle / 2).abs())
    flat, tall = canvas.share("terrain", "desert"), canvas.share("terrain", "snow")
    line = 34 - rise * (1 - tall) * (1 - 0.45 * flat) - peaks * 1.5 * tall + 4 * flat
    return canvas.coverage(canvas.y - line), canvas.mixed(_HILL, "terrain") * canvas.light


def _ground(canvas: Canvas) -> Layer:
    place = canvas.x + canvas.camera
    wave = place * (2 * math.pi / 57.0) + 6.28 * canvas.clip_random(30)
    line = GROUND_Y + 1.2 * torch.sin(wave)
    stripe = torch.sin(place * (2 * math.pi / 33.0) + 6.28 * canvas.clip_random(31))
    shade = 1.0 - 0.10 * ((canvas.y - GROUND_Y) / 21).clamp(0, 1) + 0.05 * stripe
    colour = canvas.mixed(_GROUND, "terrain") * shade.unsqueeze(2) * canvas.light
    return canvas.coverage(canvas.y - line), colour


def _plants(canvas: Canvas) -> Iterator[Layer]:
    """Yield trees, cacti or pines: at most one in each ground cell, never crossing its edge."""
    place = canvas.x + canvas.camera
    cell = torch.floor(place / TREE_CELL).long()
    aside = place - (cell + 0.5) * TREE_CELL - (canvas.random(cell, 5) - 0.5) * 6
    present = (canvas.random(cell, 6) < 0.62).float()
    height = 13 + 13 * canvas.random(cell, 7)
    width = 4.6 + 2.2 * canvas.random(cell, 8)
    hue = canvas.random(cell, 9)
    up = GROUND_Y + 3 - canvas.y  # height above the foot
    above = present * canvas.coverage(up)
    tree, cactus, pine = (canvas.share("terrain", value) for value in ATTRIBUTES["terrain"])
    trunk_top = ((height * 0.5 - up) * canvas.sharp).clamp(0, 1)
    trunk = canvas.coverage(1.3 - aside.abs()) * trunk_top
    yield trunk * above * (tree + pine), torch.tensor(_TRUNK).view(1, 1, 3, 1, 1) * canvas.light
    oval = 1 - torch.hypot(aside / width, (up - height * 0.68) / (height * 0.36))
    cone = width * 1.1 * (1 - up / height) - aside.abs()
    leaf = canvas.coverage(oval * width) * tree
    leaf = leaf + _cactus(canvas, aside, up, height) * cactus + canvas.coverage(cone) * pine
    tint = torch.stack((0.75 + 0.9 * hue, 0.85 + 0.35 * hue, 1.05 - 0.4 * hue), 2)
    yield leaf * above, canvas.mixed(_PLANT, "terrain") * tint * canvas.light


def _cactus(canvas: Canvas, aside: Tensor, up: Tensor, height: Tensor) -> Tensor:
    """Return the coverage of a column with one cross-bar."""
    column = canvas.coverage(2.6 - aside.abs()) * canvas.coverage(height * 0.8 - up)
    bar = canvas.coverage(6.2 - aside.abs()) * canvas.coverage(1.7 - (up - height * 0.42).abs())
    return torch.maximum(column, bar)


def ball_centre(batch: Scene, span: float) -> tuple[Tensor, Tensor]:
    """Return the ball's centre in world units, x and y (b, t), in a picture `span` wide."""
    frame = torch.arange(batch.camera.shape[1])
    bounce, period, sway, slow = (batch.ball[:, i, None] for i in range(4))
    u = (bounce + frame / period) % 1.0
    swing = torch.sin(2 * math.pi * (sway + frame / slow))
    y = BALL_FLOOR_Y - BALL_RADIUS - BOUNCE_HEIGHT * 4 * u * (1 - u)
    return span / 2 + 0.26 * span * swing, y


def ball_shade(x: Tensor, y: Tensor) -> Tensor:
    """How bright the ball is at x, y world units from its centre, lit from the upper left."""
    facing = 1 - torch.hypot(x + 3, y + 3) / (1.9 * BALL_RADIUS)
    return 0.62 + 0.5 * facing


def ball_disc(values: Mapping[str, str], x: Tensor, y: Tensor) -> Tensor:
    """The ball's colours (3, ...) at x, y world units from its centre, for attribute `values`."""
    light = 0.55 + 0.45 * torch.tensor(_LIGHT[ATTRIBUTES["time"].index(values["time"])])
    light = light * (1 - CLOUD_SHADE * ATTRIBUTES["weather"].index(values["weather"]))
    colour = torch.tensor(_BALL[ATTRIBUTES["ball"].index(values["ball"])])
    shade = ball_shade(x, y)
    axes = (3,) + (1,) * shade.ndim
    return (colour.view(axes) * shade).clamp(0, 1) * light.view(axes)


def _ball(canvas: Canvas) -> Iterator[Layer]:
    """Yield the ball's shadow, then the ball, lit from the upper left."""
    ball_x, ball_y = (at[..., None, None] for at in ball_centre(canvas.batch, canvas.span))
    x, y, light = canvas.x - ball_x, canvas.y - ball_y, 0.55 + 0.45 * canvas.light
    lift = ((BALL_FLOOR_Y - BALL_RADIUS - ball_y) / BOUNCE_HEIGHT).clamp(0, 1)
    shadow_width = BALL_RADIUS * (1 - 0.4 * lift)
    shadow = 1 - torch.hypot(x / shadow_width, (canvas.y - BALL_FLOOR_Y) / 2.2)
    yield canvas.coverage(shadow * 2) * (0.5 - 0.25 * lift), torch.zeros(1, 1, 3, 1, 1)
    colour = (canvas.mixed(_BALL, "ball") * ball_shade(x, y).unsqueeze(2)).clamp(0, 1)
    yield canvas.coverage(BALL_RADIUS - torch.hypot(x, y)), colour * light
