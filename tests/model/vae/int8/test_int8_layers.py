"""Layers on codes against the same sums of floating-point values, and units against a search."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtake.model.vae.int8.layers import HIGHEST_WEIGHT, Int8Conv, IntoCodes, as_integers
from longtake.model.vae.int8.units import HIGHEST_CODE, MIDDLE_CODE, Units, balance, in_units, units
from longtake.tests.support.int8 import needs_int8
from longtake.tests.support.tiny_model import randn, randomise

SIZES = [(3, 2, 5, 7), (2, 16, 4, 6), (1, 40, 3, 3)]
"""Frames, channels, rows, columns."""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def convolution(inputs: int, outputs: int, side: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    randomise(conv, 3)
    return conv


def some_units(channels: int, zero: int = 0) -> Units:
    return Units(0.001 + torch.rand(channels, generator=seeded(5)) / 50, zero)


def some_codes(size: tuple[int, int, int, int]) -> Tensor:
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=seeded(7))


def values(codes: Tensor, of: Units) -> Tensor:
    return (codes.double() - of.zero) * of.values.double()[:, None, None]


def rounded(conv: nn.Conv2d, reads: Units, gives: Units | None) -> tuple[Tensor, Tensor]:
    """The weight and the bias that the integers stand for, in the plain units."""
    weight, bias = in_units(conv, reads.values, gives)
    integers, scale = as_integers(weight)
    plain = integers.double() * scale.double()[:, None, None, None]
    by = torch.ones(len(weight)) if gives is None else gives.values
    plain = plain * by.double()[:, None, None, None] / reads.values.double()[:, None, None]
    return plain, bias.double() * by.double()


@needs_int8
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("zero", [0, MIDDLE_CODE])
@torch.no_grad()
def test_values_are_those_of_the_rounded_weights(
    size: tuple[int, int, int, int], side: int, zero: int
) -> None:
    """Beyond the edge is the value 0, whatever code stands for it."""
    conv, reads, codes = convolution(size[1], 6, side), some_units(size[1], zero), some_codes(size)
    weight, bias = rounded(conv, reads, None)
    expected = F.conv2d(values(codes, reads), weight, bias, padding=side // 2)
    made = Int8Conv(conv, reads, None)(codes)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-5)


@needs_int8
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("zero", [0, MIDDLE_CODE])
@torch.no_grad()
def test_codes_are_the_nearest_to_the_values(size: tuple[int, int, int, int], zero: int) -> None:
    """Behind a ReLU if 0 is the lowest code; what no code stands for gets the highest."""
    conv, reads, codes = convolution(size[1], 6, 3), some_units(size[1]), some_codes(size)
    exact = F.conv2d(values(codes, reads), *rounded(conv, reads, None), padding=1)
    gives = Units(exact.abs().amax((0, 2, 3)).float() / 200, zero)
    exact = F.conv2d(values(codes, reads), *rounded(conv, reads, gives), padding=1)
    made = Int8Conv(conv, reads, gives)(codes)
    assert made.dtype == torch.uint8
    expected = (exact / gives.values.double()[:, None, None] + zero).clamp(0, HIGHEST_CODE)
    assert (made.double() - expected).abs().max() <= 0.501
    assert (made == HIGHEST_CODE).any() == (expected > HIGHEST_CODE - 0.5).any()


@needs_int8
@torch.no_grad()
def test_a_sum_takes_the_other_codes_in_their_units() -> None:
    conv, reads = convolution(16, 6, 3), some_units(16)
    codes, before = some_codes((2, 16, 4, 6)), some_codes((2, 6, 4, 6))
    earlier = some_units(6)
    exact = F.conv2d(values(codes, reads), *rounded(conv, reads, None), padding=1)
    later = Units(earlier.values * float((exact + values(before, earlier)).max() / 3))
    exact = F.conv2d(values(codes, reads), *rounded(conv, reads, later), padding=1)
    expected = ((exact + values(before, earlier)) / later.values.double()[:, None, None]).clamp(
        0, HIGHEST_CODE
    )
    unit = float((earlier.values / later.values).mean())
    made = Int8Conv(conv, reads, later).added_to(before[None].clone(), codes[None], unit)
    assert made.shape == (1, 2, 6, 4, 6)
    assert (made[0].double() - expected).abs().max() <= 0.501
    assert 0 < made.double().mean() < HIGHEST_CODE


@pytest.mark.parametrize("channels", [2, 3, 8])
def test_integers_are_the_nearest_to_every_outputs_weights(channels: int) -> None:
    """Those of an output that reads nothing are zero."""
    weight = randn(4, channels, 3, 3)
    weight[1] = 0
    weight[2, :2, 0, 0] = torch.tensor([50.0, -1.0])  # no pair has more of one sign
    integers, scale = as_integers(weight)
    assert integers.dtype == torch.int8 and integers[1].count_nonzero() == 0
    assert integers[2].abs().max() == HIGHEST_WEIGHT
    apart = (integers * scale[:, None, None, None] - weight).abs().amax((1, 2, 3))
    assert (apart <= scale / 2 * 1.001).all() and scale[1] == 1


@pytest.mark.parametrize("channels", [2, 5, 8])
@pytest.mark.parametrize("power", [0, 1, 3])
def test_integers_are_the_largest_whose_pairs_fit(channels: int, power: int) -> None:
    """As large as single weights or pairs of one sign allow, by a loop over all pairs."""
    weight = randn(6, channels, 3, 3).sign() * randn(6, channels, 3, 3).abs() ** power
    integers, scale = as_integers(weight)
    for output in range(6):
        whole, exact = _largest_sum(integers[output].double()), _largest_sum(weight[output])
        assert 255 * whole <= 2**15 - 1, "the 16 bits of two products"
        room = max(exact / 127.5, float(weight[output].abs().max()) / HIGHEST_WEIGHT)
        assert float(scale[output]) == pytest.approx(room)


def _largest_sum(weight: Tensor) -> float:
    """The largest size of the sum of two neighbouring channels' weights of one sign."""
    sums = [0.0]
    for first in range(0, len(weight), 2):
        for pair in weight[first : first + 2].flatten(1).T.tolist():
            sums.append(sum(value for value in pair if value > 0))
            sums.append(-sum(value for value in pair if value < 0))
    return max(sums)


@torch.no_grad()
def test_floating_point_values_become_the_nearest_codes() -> None:
    conv, x = convolution(3, 4, 3), randn(1, 2, 3, 4, 5)
    exact = F.conv2d(x[0], conv.weight, conv.bias, padding=1)
    gives = units(torch.ones(4), exact.amax((0, 2, 3)) / 2)  # half of the values have no code
    codes = IntoCodes(conv, gives)(x)
    expected = (exact / gives.values[:, None, None]).clamp(0, HIGHEST_CODE)
    assert (codes[0].float() - expected).abs().max() <= 0.501
    assert (codes == HIGHEST_CODE).sum() > 1


@pytest.mark.parametrize("signed", [False, True])
def test_units_are_the_smallest_that_hold_every_value(signed: bool) -> None:
    largest, proportions = torch.tensor([3.0, 0.5, 7.0]), torch.tensor([1.0, 2.0, 4.0])
    of = units(proportions, largest, signed=signed)
    torch.testing.assert_close(of.values / of.values[0], proportions)
    codes = largest / of.values + of.zero
    assert of.zero == (MIDDLE_CODE if signed else 0)
    assert codes.max() == pytest.approx(HIGHEST_CODE)


def test_channels_that_are_always_zero_have_units_too() -> None:
    of = units(torch.ones(2), torch.zeros(2))
    assert (of.values > 0).all() and of.values.isfinite().all()


def test_units_even_out_values_and_the_weights_that_read_them() -> None:
    """A channel ten times as large, read by weights a tenth as large, becomes as the others."""
    largest = torch.tensor([1.0, 10.0])
    reader = torch.tensor([1.0, 0.1]).view(1, 2, 1, 1)
    proportions = balance(largest, [reader, reader / 2])
    assert proportions[1] / proportions[0] == pytest.approx(10)
    assert balance(largest, [torch.ones(3, 2, 1, 1)]).diff() > 0
    assert balance(torch.zeros(1), [torch.zeros(1, 1, 1, 1)]).isfinite().all()
