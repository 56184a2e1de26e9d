"""Noise by address: the same (seed, latent frame, step, purpose) is the same noise on every device,
in any order.

A counter-based generator (Philox) is keyed by a hash of the address, so nothing is "drawn": resume,
fork, chunk order and the number of branches cannot change it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def addressed_noise(
    seed: int, latent_frame: int, step: int, purpose: str, shape: tuple[int, ...]
) -> Tensor:
    """Standard normal noise of `shape`, float32 on the CPU."""
    address = f"{seed}/{latent_frame}/{step}/{purpose}".encode()
    key = int.from_bytes(hashlib.blake2b(address, digest_size=16).digest(), "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def frame_noise(
    seed: int, frames: range, step: int, purpose: str, shape: tuple[int, int, int]
) -> Tensor:
    """Noise of several latent frames (f, c, h, w), each by its own address."""
    return torch.stack([addressed_noise(seed, frame, step, purpose, shape) for frame in frames])
