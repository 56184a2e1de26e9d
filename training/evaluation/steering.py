"""Whether the camera goes where it is steered: speeds commanded, and speeds read from pixels.

A speed is read from two frames four apart. It is the shift of the ground, and of the trees on it,
that leaves the least difference. The hills behind them move less and the ball moves as it likes,
so that a difference counts up to LARGEST only. A shift is first sought in three pairs of frames
at once, which seldom fails, and then refined in the outer pair.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ...model.camera.action import FULL_PAN
from ...model.config import FRAMES_PER_LATENT
from ...model.preset import DEMO
from ...model.vae.latent_format import frame_count
from ...model.vae.streaming import StreamingDecoder
from ...samplers.camera.live import drive_path
from ...samplers.camera.moves import CameraMotion
from ...samplers.camera.path import STILL_PATH, CameraPath
from ..world.attributes import caption, random_values
from ..world.clips import latent_start
from ..world.dataset import encode_shots
from ..world.scene import Shot, pan_velocity
from .kit import Kit, Recipe, sample

HELD_OUT_SEED = 70_000_017
DRIVE = 501  # latent frames of a drive
TRUE_DRIVE = 60  # latent frames of a rendered one, which tells what the reading itself errs
GROUND = slice(33, 58)  # rows of a picture of 64
FASTEST, FINEST = 5.5, 0.1  # pixels a latent frame: the reach of the search, and its step
NEAR = 0.6  # pixels a latent frame on either side of the first estimate
LARGEST = 0.1  # difference of colours from 0 to 1
PAIRS = (0, 4), (0, 2), (2, 4)
MOVING = 0.05  # of a full pan; slower counts as still

Pans = tuple[tuple[int, float], ...]
"""Pairs of a first latent frame and a pan, -1 left to 1 right."""


def steering(kit: Kit, seed: int, recipe: Recipe, *, length: int = DRIVE) -> dict[str, float]:
    """How well a rollout of `length` latent frames obeys a drive that its caption contradicts."""
    pans, text, _ = _drive(seed, length)
    drive = replace(recipe, length=length, camera=path_of(pans))
    decoder = StreamingDecoder(kit.vae)
    frames = (decoder.feed(chunk.latents) for chunk in sample(kit, drive, [(0, text)], seed))
    return compared([*speeds(frames)], commanded(pans, length))


def true_steering(kit: Kit, seed: int, *, length: int = TRUE_DRIVE) -> dict[str, float]:
    """The same of a rendered drive, encoded and decoded: how well a speed can be read at all."""
    pans, _, shot = _drive(seed, length)
    latents = encode_shots(kit.vae, [shot], length, DEMO.width)[0]
    decoder = StreamingDecoder(kit.vae)
    frames = (decoder.feed(part) for part in latents.split(DEMO.chunk_frames))
    return compared([*speeds(frames)], commanded(pans, length))


def _drive(seed: int, length: int) -> tuple[Pans, str, Shot]:
    rng = random.Random(HELD_OUT_SEED + seed)
    pans, values = random_pans(rng, length), random_values(rng)
    drive = tuple((latent_start(at), pan) for at, pan in pans)
    return pans, caption(values, rng), Shot(((0, values),), rng.randrange(2**31), drive)


def random_pans(rng: random.Random, length: int) -> Pans:
    """Holds, taps of one latent frame, stops, reversals, and speeds in between."""
    pans: list[tuple[int, float]] = []
    at, pan = 0, rng.choice([-1.0, 1.0])
    while at < length:
        pans.append((at, pan))
        at += rng.choice([1, 2, 3, 6, 12, 24])
        pan = rng.choice([-pan, 0.0, rng.uniform(-1, 1), rng.choice([-1.0, 1.0])])
    return tuple(pans)


def path_of(pans: Pans) -> CameraPath:
    """The camera's path that a demo model reads as these pans."""
    drive = [(at, CameraMotion(turn=FULL_PAN * pan)) for at, pan in pans]
    return drive_path(STILL_PATH, 0, drive)


def commanded(pans: Pans, length: int) -> list[float]:
    """Pixels by which the camera is to move in each latent frame but the first, right positive."""
    shot = Shot(((0, {}),), 0, tuple((latent_start(at), pan) for at, pan in pans))
    velocity = pan_velocity(shot, frame_count(length))[1:]
    return velocity.unflatten(0, (-1, FRAMES_PER_LATENT)).sum(1).tolist()  # type: ignore[no-any-return]


def compared(read: list[float], command: list[float]) -> dict[str, float]:
    """Figures of the speeds read and of the `command`, in pixels a latent frame, right positive."""
    x, y = torch.tensor(command), torch.tensor(read)
    still = x.abs() < MOVING * FRAMES_PER_LATENT
    return {
        "correlation": float(torch.corrcoef(torch.stack([x, y]))[0, 1]),
        "slope": float((x * y).sum() / (x * x).sum()),
        "still camera, pixels a frame": float(y[still].abs().mean() / FRAMES_PER_LATENT),
        "place at the end, off by a share of the way": float(
            (y.sum() - x.sum()).abs() / x.abs().sum()
        ),
    }


def speeds(parts: Iterable[Tensor]) -> Iterator[float]:
    """The speed of each latent frame but the first, from frames (t, 3, H, W) part by part."""
    rest = torch.empty(0)
    for part in parts:
        rest = torch.cat([rest, part]) if len(rest) else part
        while len(rest) > FRAMES_PER_LATENT:
            yield speed(rest[: FRAMES_PER_LATENT + 1])
            rest = rest[FRAMES_PER_LATENT:]


def speed(frames: Tensor) -> float:
    """By how many pixels the camera moved in five frames (5, 3, H, W), right positive."""
    ground = frames[:, :, GROUND]
    reach = torch.arange(-FASTEST, FASTEST + FINEST / 2, FINEST)
    costs = sum(
        difference(ground[a], ground[b], reach * (b - a) / FRAMES_PER_LATENT) for a, b in PAIRS
    )
    assert isinstance(costs, Tensor)
    near = reach[(reach - reach[costs.argmin()]).abs() < NEAR]
    return _lowest(near, difference(ground[0], ground[-1], near))


def difference(first: Tensor, second: Tensor, moves: Tensor) -> Tensor:
    """The mean difference (k,) of pictures (3, h, w), if the camera moved so many pixels (k,)."""
    columns = torch.arange(first.shape[-1])
    places = columns - moves[:, None]  # where each column of the first is in the second
    inside = (places >= 0) & (places <= columns[-1])
    left = places.floor().long().clamp(0, len(columns) - 2)
    shown = torch.lerp(second[..., left], second[..., left + 1], places - left)
    apart = (shown - first[..., None, :]).abs().mean(0).clamp(max=LARGEST)  # (h, k, w)
    return (apart * inside).sum((0, 2)) / inside.sum(1) / len(apart)


def _lowest(moves: Tensor, costs: Tensor) -> float:
    """The move of least cost, between the steps of the search by a parabola."""
    i = int(costs.argmin())
    if i in (0, len(costs) - 1):
        return float(moves[i])
    before, lowest, after = costs[i - 1 : i + 2].tolist()
    bend = before - 2 * lowest + after
    return float(moves[i]) + (FINEST * (before - after) / (2 * bend) if bend > 0 else 0.0)
