"""One docstring lists everything used of ComfyUI, and the stand-in provides it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import torch

from longtake.headless.hosts.stand_in import host_modules
from longtake.headless.hosts.stand_in.models import compute_device

HOST = Path(__file__).resolve().parents[2] / "nodes" / "host"
MODULE = re.compile(r"^ {4}(comfy\S*|folder_paths|server) +(\S.*(?:\n {30}\S.*)*)", re.MULTILINE)


def documented() -> set[tuple[str, str]]:
    """Return the (module, name) pairs of the docstring's list."""
    text = ast.get_docstring(ast.parse((HOST / "__init__.py").read_text()), clean=False) or ""
    found = set()
    for module, names in MODULE.findall(text):
        flat = re.sub(r"\([^()]*\)", "", names)
        found |= {(module, re.split(r"[\s.]", name.strip())[0]) for name in re.split("[,;]", flat)}
    return found


def used() -> set[tuple[str, str]]:
    """Return the (module, name) pairs in the code of `nodes/host/`."""
    modules = {module for module, _ in documented()}
    found = set()
    for file in HOST.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module in modules:
                found |= {(node.module, alias.name) for alias in node.names}
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules:
                found.add((ast.unparse(node.value), node.attr))
    return found


def test_every_use_of_the_host_is_listed_and_nothing_else() -> None:
    assert used() == documented()


def test_the_stand_in_provides_what_is_listed(tmp_path: Path) -> None:
    with host_modules(tmp_path, lambda event: None):
        missing = [pair for pair in documented() if not hasattr(sys.modules[pair[0]], pair[1])]
    assert not missing


def test_no_file_of_the_host_package_imports_the_host_unlisted() -> None:
    modules = {module for module, _ in documented()}
    for file in HOST.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                foreign = {one.name for one in node.names if one.name.startswith("comfy")}
                assert foreign <= modules, file.name


def test_the_stand_ins_gpu_has_the_number_that_tensors_on_it_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else what lies on `cuda:0` is not on `cuda`, and models are sent there before every chunk."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert compute_device() == torch.device("cuda", 1)
