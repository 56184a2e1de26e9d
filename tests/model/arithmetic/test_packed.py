"""Weights in oneDNN's order give the bits of weights that lie as they are, until they change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from longtake.model.arithmetic.layers import Layers
from longtake.model.arithmetic.packed import PackedWeights
from longtake.products import has_wide_products, product
from longtake.tests.support.tiny_model import randn

WIDTH, HIDDEN = 192, 576
X = randn(1, 72, WIDTH, seed=1)

pytestmark = pytest.mark.skipif(not has_wide_products(), reason="this CPU packs no weights")


def make_layers(count: int, hidden: int = HIDDEN) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(WIDTH, hidden) for _ in range(count)]


@torch.no_grad()
def multiply(layers: list[nn.Linear], packed: PackedWeights | None) -> list[Tensor]:
    return [*Layers(packed=packed).linears(layers, X)]


@pytest.mark.parametrize("tokens", [24, 72, 800])
@pytest.mark.parametrize("gelu", [False, True])
@torch.no_grad()
def test_a_packed_weight_gives_the_same_bits(tokens: int, *, gelu: bool) -> None:
    [layer], x = make_layers(1), randn(2, tokens, WIDTH, seed=tokens)
    packed = PackedWeights().of([layer])
    assert packed is not None
    assert torch.equal(
        product(x, packed.weight, packed.bias, gelu=gelu),
        product(x, layer.weight, layer.bias, gelu=gelu),
    )


def test_several_layers_give_the_bits_of_each() -> None:
    layers = make_layers(3)
    for together, alone in zip(
        multiply(layers, PackedWeights()), multiply(layers, None), strict=True
    ):
        assert torch.equal(together, alone)


def test_weights_of_another_version_are_packed_anew() -> None:
    layers, packed = make_layers(2), PackedWeights()
    packed.renew("first")
    before = multiply(layers, packed)
    with torch.no_grad():
        layers[0].weight.mul_(2)
        layers[1].bias.add_(1)
    packed.renew("first")
    assert all(map(torch.equal, multiply(layers, packed), before))
    packed.renew("second")
    after = multiply(layers, packed)
    assert all(map(torch.equal, after, multiply(layers, None)))
    assert not any(map(torch.equal, after, before))


def test_weights_of_no_version_are_packed_anew_each_time() -> None:
    [layer], packed = make_layers(1), PackedWeights()
    for _ in range(2):
        packed.renew(None)
        with torch.no_grad():
            layer.weight.add_(1)
        assert all(map(torch.equal, multiply([layer], packed), multiply([layer], None)))


def test_no_more_is_packed_than_there_is_room_for() -> None:
    layers = make_layers(3)
    packed = PackedWeights(2 * layers[0].weight.nbytes)
    assert packed.of(layers) is None
    assert [packed.of([layer]) is not None for layer in layers] == [True, True, False]
    assert all(map(torch.equal, multiply(layers, packed), multiply(layers, None)))
    packed.renew("another")
    assert packed.of(layers[2:]) is not None
