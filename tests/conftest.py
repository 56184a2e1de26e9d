"""Bind this checkout, whatever its folder name, to the package name `longtake`."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from longtake.tests.support.node_bench import Bench

root = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location(
    "longtake", root / "__init__.py", submodule_search_locations=[str(root)]
)
assert spec is not None and spec.loader is not None
sys.modules["longtake"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["longtake"])

# These run under ComfyUI's own Python (.ci/run starts them there), not under ours.
collect_ignore = [] if importlib.util.find_spec("comfy_api") else ["in_core"]


def pytest_configure() -> None:
    """Give each worker, and each process that a test starts, one thread: they share the cores.

    Without a GPU, Triton interprets. It reads so when it is first imported, by whatever test. No
    example of a law has a limit of time, since the machine may be busy.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if importlib.util.find_spec("hypothesis") is not None:  # ComfyUI's own Python may lack it
        from hypothesis import HealthCheck, settings

        slow = [HealthCheck.too_slow]
        settings.register_profile("untimed", deadline=None, suppress_health_check=slow)
        settings.load_profile("untimed")
    import torch

    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the fast suite run a part of the cases of tests marked `each_value`, `some_cases`."""
    from longtake.tests.support.samples import mark_all_but_some_slow, mark_rest_slow

    mark_rest_slow(items)
    mark_all_but_some_slow(items)


def pytest_collection_finish() -> None:
    """Let Python's collector pass over all that lives as long as the session: it is much."""
    from longtake.tests.support.unwritten_frames import fill_unwritten_frames

    fill_unwritten_frames()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's three files, tiny and random."""
    from longtake.tests.support.node_bench import tiny_demo

    return tiny_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def bench(
    tmp_path: Path, tiny_demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Our nodes under the stand-in host, on a tiny random model."""
    from longtake.tests.support.node_bench import node_bench

    with node_bench(tmp_path, tiny_demo_folder, monkeypatch) as opened:
        yield opened
