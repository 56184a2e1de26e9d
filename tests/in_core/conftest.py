"""Tests inside or against a real ComfyUI core, whose Python and working folder they need:

    cd COMFYUI && venv/bin/python -m pytest -c PACK/pyproject.toml --rootdir PACK PACK/tests/in_core

Anywhere else they are skipped.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.places import DEMO, ROOT
from longtake.tests.in_core.support.upscale_model import write_upscale_model
from longtake.tests.support.model.action_demo import write_action_dit
from longtake.tests.support.model.lora_files import random_lora
from longtake.tests.support.server_process import free_port, serving
from longtake.tools import archive

START_LIMIT_S = 900
TEST_PACKS = (
    "failing_pack.py", "numbering_pack.py", "small_seedvr2_pack.py", "vision_pack.py",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """The core's Python may lack pytest-timeout, which our settings name."""
    if importlib.util.find_spec("pytest_timeout") is None:
        parser.addini("timeout", "seconds per test, not watched here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here `comfy`, and skip it without a core or without the demo's weights."""
    here = Path(__file__).parent
    has_core = importlib.util.find_spec("comfy") is not None and Path("main.py").is_file()
    for item in items:
        if here not in item.path.parents:
            continue
        item.add_marker(pytest.mark.comfy)
        item.add_marker(pytest.mark.filterwarnings("default"))
        if not has_core:
            item.add_marker(
                pytest.mark.skip(
                    reason="needs a ComfyUI checkout as working folder, and its Python"
                )
            )
        elif not (DEMO / "dit.safetensors").is_file():
            item.add_marker(pytest.mark.skip(reason="needs the demo's weights in model/demo"))


@pytest.fixture(scope="session")
def core() -> Any:
    """The core's `comfy` package in this process, on the CPU."""
    from comfy.cli_args import args

    args.cpu = True
    import comfy.sd

    return comfy


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh ComfyUI base folder with this pack and its DiT file in the usual places."""
    folder = tmp_path_factory.mktemp("comfyui")
    for name in (
        "custom_nodes",
        "models/diffusion_models",
        "models/loras",
        "input",
        "output",
        "temp",
    ):
        (folder / name).mkdir(parents=True)
    _install(folder / "custom_nodes" / "longtake")
    for pack in TEST_PACKS:
        (folder / "custom_nodes" / pack).symlink_to(Path(__file__).parent / "support" / pack)
    (folder / "models" / "diffusion_models" / "demo.safetensors").symlink_to(
        DEMO / "dit.safetensors"
    )
    write_action_dit(folder / "models" / "diffusion_models" / "demo_with_camera.safetensors")
    save_file(random_lora(), folder / "models" / "loras" / "random.safetensors")
    return folder


def _install(target: Path) -> None:
    """The pack as the registry's archive unpacks it; where there is no git, as it lies here."""
    if not (ROOT / ".git").exists():
        target.symlink_to(ROOT, target_is_directory=True)
        return
    for path in archive.members(untracked=True):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target / path)


@pytest.fixture(scope="session")
def client(base: Path) -> Iterator[Client]:
    """A running server and a client connected to it."""
    with _serve(base, base / "server.log") as opened:
        yield opened


@pytest.fixture(scope="module")
def client_of_two_threads(base: Path, monkeypatch_module: pytest.MonkeyPatch) -> Iterator[Client]:
    """Another server over the same folders, whose torch has two threads."""
    monkeypatch_module.setenv("OMP_NUM_THREADS", "2")
    monkeypatch_module.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with _serve(base, base / "server_of_two_threads.log") as opened:
        yield opened


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@contextmanager
def _serve(base: Path, log: Path) -> Iterator[Client]:
    port = free_port()
    command = [
        sys.executable,
        "main.py",
        "--cpu",
        "--listen",
        "127.0.0.1",
        "--port",
        str(port),
        "--disable-api-nodes",
    ]
    command += ["--database-url", "sqlite:///:memory:", "--base-directory", str(base)]
    with serving(command, port, log, START_LIMIT_S) as address:
        yield Client(address, base, log)


@pytest.fixture(scope="session")
def upscale_model(base: Path) -> Path:
    """A small random model under the name that the example `cascade` gives."""
    return write_upscale_model(base)


@pytest.fixture
def fresh_journal(client: Client) -> Iterator[None]:
    """Remove the journal afterwards, so that every test generates its own chunks."""
    yield
    shutil.rmtree(client.base / "output" / "longtake" / ".rollouts", ignore_errors=True)
