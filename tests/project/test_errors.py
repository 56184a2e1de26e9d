"""The types of our errors have plain names, wherever the package was imported from."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.errors import BadInput, Unsupported, is_own_type
from longtake.headless.hosts.core_failures import failure

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def host_name() -> Iterator[str]:
    """The package as ComfyUI imports it: its name is the path of its folder."""
    name = "/home/me/ComfyUI/custom_nodes/ComfyUI-Longtake"
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    yield name
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def type_name(kind: type) -> str:
    """As ComfyUI's execution.py names the type of an exception."""
    return f"{kind.__module__}.{kind.__qualname__}"


def test_no_error_type_shows_the_path_of_the_pack(host_name: str) -> None:
    errors = importlib.import_module(f"{host_name}.errors")
    lock = importlib.import_module(f"{host_name}.stream.journal.lock")
    kinds = [errors.LongtakeError, errors.BadInput, errors.OutOfMemory, lock.Held]
    assert [type_name(kind) for kind in kinds] == [
        "longtake.errors.LongtakeError",
        "longtake.errors.BadInput",
        "longtake.errors.OutOfMemory",
        "longtake.stream.journal.lock.Held",
    ]


def test_our_sentences_are_told_from_bugs_by_the_type(host_name: str) -> None:
    held = importlib.import_module(f"{host_name}.stream.journal.lock").Held
    raised = {"node_id": "3", "node_type": "Sampler", "exception_message": "It is in use.\n"}
    ours = failure({**raised, "exception_type": type_name(held)})
    assert ours == "Node 3 (Sampler): It is in use."
    assert not is_own_type("builtins.ValueError") and not is_own_type("longtaker.errors.BadInput")


def test_errors_still_travel_between_processes() -> None:
    again = pickle.loads(pickle.dumps(BadInput("Choose another.")))
    assert type(again) is BadInput and str(again) == "Choose another."
    assert Unsupported.__module__ == "longtake.errors"
