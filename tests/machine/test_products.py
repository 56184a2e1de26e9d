"""oneDNN's products have float64's values in every order of memory; where they gain, they run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import profile

from longtake.machine import products
from longtake.machine.products import (
    FEWEST_PRODUCTS,
    computes_in_bfloat16,
    convolves_in_int8,
    convolves_slowly,
    has_wide_products,
    multiplies_tiles,
    outdoes_mkl,
    product,
    suits_products,
)
from longtake.machine.rehearsed_device import simulate_device
from longtake.tests.support.tiny_model import randn

CPU = torch.device("cpu")
ROWS, INPUTS, OUTPUTS = 40, 24, 56
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


def exact(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x.double(), weight.double(), None if bias is None else bias.double())


@needs_onednn
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(ROWS,), (2, ROWS), (2, 3, ROWS)])
@torch.inference_mode()
def test_a_product_is_that_of_float64(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight = randn(*shape, INPUTS, seed=0), randn(OUTPUTS, INPUTS, seed=1)
    bias = randn(OUTPUTS, seed=2) if with_bias else None
    torch.testing.assert_close(
        product(x, weight, bias).double(), exact(x, weight, bias), rtol=1e-5, atol=1e-5
    )


@needs_onednn
@torch.inference_mode()
def test_gelu_comes_after_the_bias_in_its_tanh_form() -> None:
    x, weight, bias = randn(ROWS, INPUTS, seed=3), randn(OUTPUTS, INPUTS, seed=4), randn(OUTPUTS)
    wanted = F.gelu(exact(x, weight, bias), approximate="tanh")
    found = product(x, weight, bias, gelu=True).double()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert (found - F.gelu(exact(x, weight, bias))).abs().max() > 1e-4  # the two forms differ


@needs_onednn
@torch.inference_mode()
def test_weights_in_other_orders_are_copied_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN multiplies by a weight whose rows lie apart too, but by a reference loop."""
    orders = list[bool]()
    plain = torch.ops.mkldnn._linear_pointwise.default

    def watched(x: Tensor, weight: Tensor, *rest: object) -> Tensor:
        orders.append(weight.is_contiguous() or weight.t().is_contiguous())
        return plain(x, weight, *rest)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch.ops.mkldnn._linear_pointwise, "default", watched)
    x = randn(ROWS, INPUTS, seed=4)
    apart = randn(OUTPUTS, 3, INPUTS, seed=5)[:, 1]
    across = randn(INPUTS, OUTPUTS, seed=6).t()
    for weight in (apart, across):
        torch.testing.assert_close(
            product(x, weight).double(), exact(x, weight, None), rtol=1e-5, atol=1e-5
        )
    assert orders == [True, True]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU of AMD's with wide products."""
    monkeypatch.setattr(products, "has_wide_products", lambda: True)
    monkeypatch.setattr(products, "outdoes_mkl", lambda: True)


@pytest.mark.usefixtures("wide")
@torch.no_grad()
def test_products_suit_large_float32_alone() -> None:
    x = torch.zeros(64, 128)
    outputs = FEWEST_PRODUCTS // x.numel()
    assert suits_products(x, outputs)
    assert not suits_products(x, outputs - 1)
    assert not suits_products(x.bfloat16(), outputs)
    assert not suits_products(x.double(), outputs)
    with simulate_device(torch.device("cuda")):
        assert not suits_products(x.to("meta"), outputs)
        assert suits_products(x, outputs)
    assert suits_products(x.to("meta"), outputs), "a rehearsal of this CPU"
    with torch.enable_grad():
        assert not suits_products(x, outputs)


@torch.no_grad()
def test_a_narrow_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_wide_products", lambda: False)
    monkeypatch.setattr(products, "outdoes_mkl", lambda: False)
    for dtype in (torch.float32, torch.bfloat16):
        assert not suits_products(torch.zeros(1000, 1000), 1000, dtype)


CPUINFO = "processor\t: 0\nvendor_id\t: {}\nmodel name\t: a CPU\n"
ON_WINDOWS = "Intel64 Family 6 Model 167 Stepping 1, {}"


@pytest.mark.parametrize("on_windows", [False, True])
@pytest.mark.parametrize(("maker", "gains"), [("GenuineIntel", False), ("AuthenticAMD", True)])
@torch.no_grad()
def test_intels_cpus_multiply_by_mkl_in_float32_alone(
    maker: str, gains: bool, on_windows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MKL is as quick there for large products, and quicker for small ones."""
    monkeypatch.setattr(products, "has_wide_products", lambda: True)
    monkeypatch.setattr(products, "FACTS", tmp_path / "cpuinfo")
    monkeypatch.setattr(products.platform, "processor", lambda: ON_WINDOWS.format(maker))
    if not on_windows:
        (tmp_path / "cpuinfo").write_text(CPUINFO.format(maker))
        monkeypatch.setattr(products.platform, "processor", lambda: "x86_64")
    outdoes_mkl.cache_clear()
    try:
        assert suits_products(torch.zeros(1000, 1000), 1000) == gains
        assert suits_products(torch.zeros(1000, 1000), 1000, torch.bfloat16)
        monkeypatch.setattr(products, "has_wide_products", lambda: False)
        outdoes_mkl.cache_clear()
        assert not suits_products(torch.zeros(1000, 1000), 1000)
    finally:
        outdoes_mkl.cache_clear()


def test_the_environment_can_say_no() -> None:
    command = "from longtake.machine.products import has_wide_products; print(has_wide_products())"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    answer = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


@needs_onednn
def test_avx512_says_yes() -> None:
    assert has_wide_products() == (torch.backends.cpu.get_cpu_capability() == "AVX512")


@pytest.mark.parametrize(
    ("known", "takes"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_bf16": False}, False),
     ({"avx2": True}, False), ({}, False)],
)  # fmt: skip
def test_a_cpu_computes_in_bfloat16_if_it_has_instructions_for_it(
    known: dict[str, bool], takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: MappingProxyType(known), raising=False
    )
    assert computes_in_bfloat16(CPU) is takes
    assert not computes_in_bfloat16(torch.device("meta"))
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not computes_in_bfloat16(CPU)  # older torch does not tell


def test_a_cpu_convolves_slowly_in_16_bits_where_onednn_lacks_them() -> None:
    """What runs is told by the profiler's names of operations."""
    x, layer = randn(1, 16, 40, 40), torch.nn.Conv2d(16, 16, 3, padding=1)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.inference_mode(), profile() as found:
            layer.to(dtype)(x.to(dtype))
        names = {event.name for event in found.events()}
        assert ("aten::mkldnn_convolution" not in names) == convolves_slowly(CPU, dtype)
    assert not convolves_slowly(CPU, torch.float32)
    assert not convolves_slowly(torch.device("meta"), torch.float16)


@pytest.mark.parametrize("has_it", [False, True])
def test_a_cpu_with_amx_multiplies_tiles(monkeypatch: pytest.MonkeyPatch, *, has_it: bool) -> None:
    known = {"avx512_bf16": True, "amx_int8": True, "amx_bf16": has_it}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert multiplies_tiles() is has_it


@needs_onednn
@pytest.mark.parametrize(
    ("known", "takes"),
    [({"avx512_vnni": False, "avx2": True}, True), ({"avx2": False, "sse4_2": True}, False),
     ({}, False)],
)  # fmt: skip
def test_a_cpu_convolves_in_int8_if_it_has_instructions_for_it(
    known: dict[str, bool], takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: MappingProxyType(known), raising=False
    )
    assert convolves_in_int8(CPU) is takes
    assert not convolves_in_int8(torch.device("meta"))
    monkeypatch.setattr(products, "_arguments_of_sum", lambda: ("qx", "qaccum"))
    assert not convolves_in_int8(CPU)
    monkeypatch.undo()
    monkeypatch.setattr(products, "INT8_CONVOLUTIONS", ("qconv_prepack", "of_another_torch"))
    assert not convolves_in_int8(CPU)
