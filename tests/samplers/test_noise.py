"""Addressed noise: pinned, normal, and the same whoever asks for it and in what order."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.samplers import noise
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise, frame_noise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.solvers.single_step import ReNoise
from longtake.tests.support.tiny_model import TINY, random_dit, settings

SHAPE = (4, 6, 10)
MASK = 2**64 - 1


def philox(counter: int, key: int) -> list[int]:
    """Philox4x64-10 as published (Salmon et al. 2011, table 2 and Random123), four 64-bit words."""
    c = [counter >> 64 * i & MASK for i in range(4)]
    k = [key & MASK, key >> 64]
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [b >> 64 ^ c[1] ^ k[0], b & MASK, a >> 64 ^ c[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return c


def test_the_generator_is_philox_keyed_by_the_hash_of_the_address() -> None:
    """The bits under the normals, by hand: numpy counts from 1."""
    key = int.from_bytes(hashlib.blake2b(b"7/5000/3/renoise", digest_size=16).digest(), "little")
    bits = np.random.Philox(key=key)
    assert bits.random_raw(8).tolist() == philox(1, key) + philox(2, key)
    ours = addressed_noise(7, 5000, 3, "renoise", SHAPE)
    expected = np.random.Generator(np.random.Philox(key=key)).standard_normal(SHAPE, np.float32)
    assert np.array_equal(ours.numpy(), expected)


def test_a_draw_leaves_nothing_behind() -> None:
    """An odd number of values uses half a word, and a long draw many counters."""
    for count in (1, 5000, 2, 7):
        ours = addressed_noise(1, count, 0, "start", (count,))
        key = hashlib.blake2b(f"1/{count}/0/start".encode(), digest_size=16).digest()
        fresh = np.random.Philox(key=int.from_bytes(key, "little"))
        expected = np.random.Generator(fresh).standard_normal(count, np.float32)
        assert np.array_equal(ours.numpy(), expected)


def test_threads_draw_beside_each_other() -> None:
    """Each has a generator of its own."""

    def draw(frame: int) -> Tensor:
        return addressed_noise(1, frame % 5, 0, "start", (64, 64, 64))

    with ThreadPoolExecutor(8) as pool:
        drawn = [*pool.map(draw, range(40))]
    assert all(torch.equal(ours, draw(frame)) for frame, ours in enumerate(drawn))


@pytest.mark.parametrize(
    ("address", "values"),
    [
        ((0, 0, 0, "start"), [-0.066360876, -0.232385218, -2.57163072, -0.507758081]),
        ((7, 5000, 3, "renoise"), [0.943905056, -1.03898799, -1.02517068, -1.5400753]),
    ],
)
def test_values_never_change(address: tuple[int, int, int, str], values: list[float]) -> None:
    """A new numpy that draws otherwise would break every journal: it must be seen here."""
    ours = addressed_noise(*address, (4,))
    torch.testing.assert_close(ours, torch.tensor(values), rtol=1e-6, atol=0)


def test_every_part_of_the_address_counts() -> None:
    addresses = itertools.product((0, 1), (0, 1), (0, 1), ("start", "renoise"))
    noises = [addressed_noise(*address, SHAPE) for address in addresses]
    for a, b in itertools.combinations(noises, 2):
        assert abs(float((a * b).mean())) < 5 / a.numel() ** 0.5  # uncorrelated


def test_frames_have_their_own_noise_whoever_asks() -> None:
    whole = frame_noise(3, range(10), 0, "start", SHAPE)
    assert torch.equal(frame_noise(3, range(4, 7), 0, "start", SHAPE), whole[4:7])
    backwards = [addressed_noise(3, frame, 0, "start", SHAPE) for frame in reversed(range(10))]
    assert torch.equal(torch.stack(backwards[::-1]), whole)


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    first = addressed_noise(0, 0, 0, "start", SHAPE)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(addressed_noise(0, 0, 0, "start", SHAPE), first)
    torch.manual_seed(1)
    addressed_noise(0, 1, 0, "start", SHAPE)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_standard_normal() -> None:
    x = frame_noise(11, range(16), 0, "start", (16, 20, 20)).double().flatten()
    n = x.numel()
    assert abs(float(x.mean())) < 4 / n**0.5
    assert abs(float(x.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((x**4).mean()) - 3) < 4 * (96 / n) ** 0.5
    for level in (0.5, 1.0, 2.0, 3.0):  # the share beyond each level
        share = Fraction(int((x.abs() > level).sum()), n)
        expected = float(torch.special.erfc(torch.tensor(level / 2**0.5, dtype=torch.float64)))
        assert abs(float(share) - expected) < 4 * (expected / n) ** 0.5


def test_noise_is_float32_on_the_cpu_of_the_shape_asked_for() -> None:
    x = frame_noise(0, range(3), 0, "start", (4, 5, 7))
    assert (x.shape, x.dtype, x.device.type) == ((3, 4, 5, 7), torch.float32, "cpu")


def test_no_noise_is_drawn_for_frames_that_become_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two steps from noise only the first adds some."""
    drawn = Counter[tuple[int, str]]()

    def draw(seed: int, frames: range, step: int, purpose: str, shape: Any) -> Tensor:
        drawn[step, purpose] += len(frames)
        return frame_noise(seed, frames, step, purpose, shape)

    monkeypatch.setattr(noise, "frame_noise", draw)
    shot = settings(schedule=causal_chunks(flow_ladder(2, 3.0), 3), length=6, solver=ReNoise())
    assert sum(1 for _ in generate(shot, local_denoiser(random_dit(), TINY))) == 2
    assert drawn == {(0, "start"): 6, (1, "renoise"): 6}
