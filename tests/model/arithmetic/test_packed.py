"""Weights in oneDNN's order give the bits of weights that lie as they are, until they change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtake.machine import products
from longtake.machine.products import has_wide_products, product
from longtake.model.arithmetic import layers as layers_module
from longtake.model.arithmetic.layers import Layers
from longtake.model.arithmetic.packed import PRODUCTS_BEFORE, PackedWeights
from longtake.tests.support.tiny_model import randn

WIDTH, HIDDEN = 192, 576
X = randn(1, 72, WIDTH, seed=1)

pytestmark = pytest.mark.skipif(not has_wide_products(), reason="this CPU packs no weights")


@pytest.fixture(autouse=True)
def gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products gain here, whoever made this CPU."""
    monkeypatch.setattr(products, "outdoes_mkl", lambda: True)


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
    [layer], x, weights = make_layers(1), randn(2, tokens, WIDTH, seed=tokens), PackedWeights()
    in_order = list[bool]()
    for _ in range(PRODUCTS_BEFORE + 2):
        packed = weights.of([layer])
        assert packed is not None
        in_order.append(packed.weight.is_mkldnn)
        assert torch.equal(
            product(x, packed.weight, packed.bias, gelu=gelu),
            product(x, layer.weight, layer.bias, gelu=gelu),
        )
    assert in_order == [False] * PRODUCTS_BEFORE + [True] * 2


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


def test_bfloat16_rounds_what_is_multiplied_and_sums_in_float32() -> None:
    """The bound is that of one rounding of each factor and of the result, to 8 bits."""
    layers, half = make_layers(2), PackedWeights(torch.bfloat16)
    for ours, layer in zip(multiply(layers, half), layers, strict=True):
        factors = X.bfloat16().double(), layer.weight.bfloat16().double()
        exact = F.linear(*factors, layer.bias.bfloat16().double())
        assert ours.dtype is torch.float32
        assert torch.equal(ours, ours.bfloat16().float())
        torch.testing.assert_close(ours.double(), exact, rtol=2**-8, atol=1e-5)
        assert not torch.equal(ours, layer(X))


@torch.no_grad()
def test_an_mlp_in_bfloat16_keeps_its_hidden_values_so(monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[torch.dtype]()

    def watched(x: Tensor, *rest: Any, **options: Any) -> Tensor:
        read.append(x.dtype)
        return product(x, *rest, **options)

    monkeypatch.setattr(layers_module, "product", watched)
    [first], last = make_layers(1), nn.Linear(HIDDEN, WIDTH)
    mlp = nn.Sequential(first, nn.GELU("tanh"), last)
    ours = Layers(packed=PackedWeights(torch.bfloat16)).mlp(mlp, X)
    assert read == [torch.bfloat16] * 2 and ours.dtype is torch.float32
    torch.testing.assert_close(ours, mlp(X), rtol=0.05, atol=0.02)
    last.register_forward_hook(lambda _layer, _inputs, out: out + 1)
    hooked = Layers(packed=PackedWeights(torch.bfloat16)).mlp(mlp, X)
    assert read == [torch.bfloat16] * 3
    torch.testing.assert_close(hooked, mlp(X), rtol=0.05, atol=0.02)


def test_where_mkl_is_as_quick_in_float32_bfloat16_is_multiplied_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "outdoes_mkl", lambda: False)
    [layer] = make_layers(1)
    whole, half = PackedWeights(), PackedWeights(torch.bfloat16)
    assert torch.equal(multiply([layer], whole)[0], layer(X))
    [ours] = multiply([layer], half)
    assert torch.equal(ours, ours.bfloat16().float()) and not torch.equal(ours, layer(X))


def test_twice_as_many_weights_have_room_in_bfloat16() -> None:
    layers = make_layers(3)
    room = layers[0].weight.nbytes
    assert PackedWeights(torch.bfloat16, room).of(layers[:2]) is not None
    assert PackedWeights(torch.bfloat16, room).of(layers) is None
    assert PackedWeights(most_bytes=room).of(layers[:2]) is None


def test_no_more_is_packed_than_there_is_room_for() -> None:
    layers = make_layers(3)
    packed = PackedWeights(most_bytes=2 * layers[0].weight.nbytes)
    assert packed.of(layers) is None
    assert [packed.of([layer]) is not None for layer in layers] == [True, True, False]
    assert all(map(torch.equal, multiply(layers, packed), multiply(layers, None)))
    packed.renew("another")
    assert packed.of(layers[2:]) is not None
