"""A GPU of Intel's is found and used, as those of others are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from longtake import installation
from longtake.headless.hosts.core_child import prompt_runner


@pytest.fixture
def arc(monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer has one GPU of Intel's and no other."""
    facts = SimpleNamespace(name="Intel(R) Arc(TM) A770 Graphics", total_memory=16 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device: facts)


@pytest.mark.usefixtures("arc")
def test_a_core_behind_longtake_run_computes_on_it() -> None:
    """--cpu would make the core leave it idle."""
    assert prompt_runner._device_flags() == []


@pytest.mark.usefixtures("arc")
def test_the_doctor_names_it() -> None:
    texts = [each.text for each in installation.devices(10**12) if each.subject == "device"]
    assert texts == ["Intel(R) Arc(TM) A770 Graphics, 16.0 GB"]


def test_without_any_accelerator_the_core_gets_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(kind, "is_available", lambda: False)
    assert prompt_runner._device_flags() == ["--cpu"]
