"""Linear layers are multiplied directly only where they are their weight and bias alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.model.arithmetic import layers
from longtake.model.arithmetic.layers import TORCH_LAYERS, Layers
from longtake.model.arithmetic.packed import PackedWeights
from longtake.tests.support.tiny_model import randn

WIDTH, HIDDEN = 24, 40


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products gain for every float32 tensor."""
    monkeypatch.setattr(layers, "suits_products", lambda x, *_: x.dtype is torch.float32)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each product had a GELU."""
    calls = list[bool]()
    multiply = layers.product

    def counted(*arguments: Any, gelu: bool = False) -> Tensor:
        calls.append(gelu)
        return multiply(*arguments, gelu=gelu)

    monkeypatch.setattr(layers, "product", counted)
    return calls


def make_linear() -> nn.Linear:
    layer = nn.Linear(WIDTH, HIDDEN)
    nn.init.normal_(layer.bias)
    return layer


def make_mlp(activation: nn.Module | None = None) -> nn.Sequential:
    gelu = nn.GELU(approximate="tanh") if activation is None else activation
    return nn.Sequential(make_linear(), gelu, nn.Linear(HIDDEN, WIDTH))


X = randn(2, 5, WIDTH, seed=1)


@torch.no_grad()
def test_a_plain_layer_is_multiplied(products: list[bool]) -> None:
    layer = make_linear()
    torch.testing.assert_close(TORCH_LAYERS.linear(layer, X), layer(X))
    bare = nn.Linear(WIDTH, HIDDEN, bias=False)
    torch.testing.assert_close(TORCH_LAYERS.linear(bare, X), bare(X))
    assert products == [False, False]


class Patched(nn.Linear):
    """A layer that is more than its weight, as quantised ones are."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


def with_hook(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda _layer, _inputs, out: out + 1)
    return layer


def with_hook_before(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(lambda _layer, inputs: (inputs[0] + 1,))
    return layer


def with_other_forward(layer: nn.Module) -> nn.Module:
    before = layer.forward
    layer.forward = lambda x: before(x) + 1  # as accelerate does
    return layer


CHANGES: list[Callable[[nn.Module], nn.Module]] = [with_hook, with_hook_before, with_other_forward]


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_a_changed_layer_computes_by_itself(
    products: list[bool], change: Callable[[nn.Module], nn.Module]
) -> None:
    layer = change(make_linear())
    assert torch.equal(TORCH_LAYERS.linear(layer, X), layer(X))
    mlp = change(make_mlp())
    assert torch.equal(TORCH_LAYERS.mlp(mlp, X), mlp(X))
    assert products == []


@torch.no_grad()
def test_a_layer_that_got_its_own_function_back_is_multiplied(products: list[bool]) -> None:
    """As ComfyUI gives it back to a layer that a bypass LoRA was in."""
    layer = make_linear()
    own = layer.forward
    with_other_forward(layer)
    layer.forward = own
    torch.testing.assert_close(TORCH_LAYERS.linear(layer, X), layer(X))
    assert products == [False]


@torch.no_grad()
def test_a_layer_of_another_class_or_dtype_computes_by_itself(products: list[bool]) -> None:
    for layer, x in ((Patched(WIDTH, HIDDEN), X), (make_linear().double(), X.double())):
        assert torch.equal(TORCH_LAYERS.linear(layer, x), layer(x))
    assert products == []


@torch.no_grad()
def test_a_weight_that_is_no_plain_parameter_computes_by_itself(products: list[bool]) -> None:
    """Quantised weights are subclasses of tensors."""

    class Quantised(nn.Parameter):
        pass

    layer = make_linear()
    layer.weight = Quantised(layer.weight)
    assert torch.equal(TORCH_LAYERS.linear(layer, X), layer(X))
    assert products == []


@torch.no_grad()
def test_an_mlp_has_its_gelu_in_the_product(products: list[bool]) -> None:
    mlp = make_mlp()
    torch.testing.assert_close(TORCH_LAYERS.mlp(mlp, X), mlp(X))
    assert products == [True, False]


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), with_hook(nn.GELU("tanh"))])
@torch.no_grad()
def test_another_activation_computes_by_itself(products: list[bool], activation: nn.Module) -> None:
    mlp = make_mlp(activation)
    assert torch.equal(TORCH_LAYERS.mlp(mlp, X), mlp(X))
    assert products == []


@torch.no_grad()
def test_each_layer_of_an_mlp_is_asked(products: list[bool]) -> None:
    first_changed, last_changed = make_mlp(), make_mlp()
    with_hook(first_changed[0])
    with_hook(last_changed[2])
    for mlp in (first_changed, last_changed):
        torch.testing.assert_close(TORCH_LAYERS.mlp(mlp, X), mlp(X))
    assert products == [True]  # of the second's first layer


class OwnSequence(nn.Sequential):
    """Three layers that are computed in another way."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


@torch.no_grad()
def test_a_host_tells_what_is_a_sequence(products: list[bool]) -> None:
    mlp = OwnSequence(*make_mlp())
    assert torch.equal(TORCH_LAYERS.mlp(mlp, X), mlp(X))
    assert products == []
    of_host = Layers(is_sequence=lambda _: True)
    torch.testing.assert_close(of_host.mlp(mlp, X), mlp(X) - 1)
    assert products == [True, False]


@torch.no_grad()
def test_a_host_tells_what_is_plain(products: list[bool]) -> None:
    layer = make_linear()
    assert torch.equal(Layers(lambda _: False).linear(layer, X), layer(X))
    assert products == []
    Layers(lambda _: True).linear(Patched(WIDTH, HIDDEN), X)
    assert products == [False]


def parts_of(layers: list[nn.Linear], how: Layers) -> None:
    """Assert that `how` makes of X what each of the layers makes by itself."""
    for ours, layer in zip(how.linears(layers, X), layers, strict=True):
        torch.testing.assert_close(ours, layer(X))


def three(*, bias: bool = True) -> list[nn.Linear]:
    return [nn.Linear(WIDTH, rows, bias=bias) for rows in (8, 16, 8)]


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_packed_layers_that_read_the_same_are_one_product(
    products: list[bool], *, bias: bool
) -> None:
    layers, packing = three(bias=bias), Layers(packed=PackedWeights())
    parts_of(layers, packing)
    parts_of(layers[1:], packing)
    assert products == [False] * 2
    parts_of(layers, TORCH_LAYERS)
    assert products == [False] * 5


@torch.no_grad()
def test_layers_of_which_some_have_no_bias_are_multiplied_one_by_one(products: list[bool]) -> None:
    layers = [*three(), *three(bias=False)]
    parts_of(layers, Layers(packed=PackedWeights()))
    assert products == [False] * 6


@torch.no_grad()
def test_a_changed_layer_among_others_computes_by_itself(products: list[bool]) -> None:
    layers = three()
    with_hook(layers[1])
    parts_of(layers, Layers(packed=PackedWeights()))
    assert products == [False] * 2


def test_a_model_of_shapes_alone_does_not_load_torchs_compiler() -> None:
    """It would take a second and 70 MB; some operations on meta tensors need it, such as `cat`."""
    command = (
        "import sys, torch; from longtake.model.memory import shape_only; "
        "from longtake.tests.support.tiny_model import TINY; "
        "shape_only(TINY, torch.float32); print('torch._dynamo' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
