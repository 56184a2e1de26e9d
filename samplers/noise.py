"""Noise by address: equal (seed, latent frame, step, purpose) give equal noise on every device.

A hash of the address keys a counter-based generator (Philox). No state goes from one address to
another, so resume, fork, chunk order and the number of branches cannot change the noise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from threading import local

import numpy as np
import torch
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from torch import Tensor

from ..machine.uploads import upload
from .denoiser import Denoiser
from .settings import RolloutSettings


def addressed_noise(
    seed: int, latent_frame: int, step: int, purpose: str, shape: tuple[int, ...]
) -> Tensor:
    """Standard normal noise of `shape`, float32 on the CPU."""
    noise = np.empty(shape, np.float32)
    _draw(noise, seed, latent_frame, step, purpose)
    return torch.from_numpy(noise)


def frame_noise(
    seed: int, frames: range, step: int, purpose: str, shape: tuple[int, int, int]
) -> Tensor:
    """Noise of several latent frames (f, c, h, w), each by its own address."""
    noise = np.empty((len(frames), *shape), np.float32)
    for frame, part in zip(frames, noise, strict=True):
        _draw(part, seed, frame, step, purpose)
    return torch.from_numpy(noise)


def _draw(noise: NDArray[np.float32], seed: int, frame: int, step: int, purpose: str) -> None:
    """Fill `noise` with that of an address."""
    address = f"{seed}/{frame}/{step}/{purpose}".encode()
    key = hashlib.blake2b(address, digest_size=16).digest()
    _source.keyed(key).standard_normal(dtype=np.float32, out=noise)


class _Source(local):
    """One generator a thread, begun anew by each key: making another takes longer than a draw."""

    def __init__(self) -> None:
        self._philox = Philox(key=0)
        self._generator = Generator(self._philox)
        self._beginning = self._philox.state

    def keyed(self, key: bytes) -> Generator:
        """The generator at the beginning of the numbers of a key of 16 bytes."""
        self._beginning["state"]["key"] = np.frombuffer(key, "<u8")
        self._philox.state = self._beginning
        return self._generator


_source = _Source()


@dataclass(frozen=True, slots=True)
class LatentNoise:
    """Addressed noise in the size of one rollout's latent frames (c, h, w), on its device."""

    shape: tuple[int, int, int]
    device: torch.device

    @classmethod
    def of(cls, settings: RolloutSettings, model: Denoiser) -> LatentNoise:
        """The noise of a rollout with these settings by this model."""
        shape = model.config.out_channels, settings.rows, settings.columns
        return cls(shape, model.device)

    def draw(self, seed: int, frames: range, step: int, purpose: str) -> Tensor:
        """Noise (f, c, h, w) of latent `frames`, each by its own address."""
        if self.device.type == "meta":  # a rehearsal: the shape is enough
            return torch.empty(len(frames), *self.shape, device=self.device)
        return upload(frame_noise(seed, frames, step, purpose, self.shape), self.device)

    def empty(self) -> Tensor:
        """Latents (0, c, h, w) of no frames."""
        return torch.empty(0, *self.shape, device=self.device)
