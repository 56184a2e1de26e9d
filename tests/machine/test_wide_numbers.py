"""Float64 where a device computes it, float32 elsewhere: Metal, DirectML and some of Intel's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from longtake.machine import wide_numbers
from longtake.machine.wide_numbers import bring, computes_float64, wide
from longtake.tests.support.waits import needs_fake_devices, run_apart

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("cpu", True), ("cuda", True), ("mps", False), ("privateuseone", False), ("npu", False)],
)
def test_each_kind_of_device_is_known(kind: str, expected: bool) -> None:
    device = SimpleNamespace(type=kind)  # torch does not know all of these
    assert computes_float64(device) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize("has_fp64", [True, False])
def test_intels_gpus_say_it_themselves(monkeypatch: pytest.MonkeyPatch, has_fp64: bool) -> None:
    """The first Arc cards refuse every operation in float64."""
    facts = SimpleNamespace(has_fp64=has_fp64)
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device: facts)
    assert computes_float64(torch.device("xpu", 0)) is has_fp64


def test_a_number_in_float64_comes_to_such_a_device_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A solver's memory of another machine, for example."""
    x = torch.ones(2, dtype=torch.float64)
    assert bring(x, META).dtype is torch.float64 and bring(x.int(), META).dtype is torch.int32
    monkeypatch.setattr(wide_numbers, "KINDS", frozenset({"cpu"}))
    assert bring(x, META).dtype is torch.float32 and wide(x.to(META)).dtype is torch.float32
    assert wide(torch.ones(2)).dtype is torch.float64


@needs_fake_devices
def test_a_shot_takes_no_float64_to_a_device_without_it() -> None:
    """Solvers, guidance and a camera whose angles are wide."""
    names = "renoise", "unipc", "camera: columns"
    results = run_apart("device.shots", "without float64", *names)
    assert {name: result["faults"] for name, result in results.items()} == dict.fromkeys(names, [])
