"""A ComfyUI that is too old is named by one sentence."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import longtake
from longtake.core.oldest_version import OLDEST, check_core
from longtake.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


def run_in(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    core = SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "comfyui_version", core)


@pytest.mark.parametrize("version", ["0.3.64", "0.20.9", "0.20"])
def test_an_older_comfyui_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    run_in(monkeypatch, version)
    with pytest.raises(BadInput, match=f"^Longtake needs .* and this is {version}; update ComfyUI"):
        asyncio.run(longtake.comfy_entrypoint())


@pytest.mark.parametrize("version", [OLDEST, "0.21", "0.21.1", "0.33.0rc1", "1.0", "nightly 0.33"])
def test_others_are_not(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    run_in(monkeypatch, version)
    check_core()


def test_a_fork_without_a_version_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comfyui_version", SimpleNamespace())
    check_core()
    monkeypatch.setitem(sys.modules, "comfyui_version", None)
    check_core()


def test_the_registry_is_told_the_same_version() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nrequires-comfyui = ">={OLDEST}"\n' in text
