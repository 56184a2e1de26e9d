"""The arrows of the design: which part may import which, and where the host's modules appear."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from longtake.tests.support.import_graph import (
    PARTS,
    ROOT,
    circles,
    entry_graph,
    imported_files,
    imports,
    modules,
)

# What a part may import of ours, beside itself and these modules at the root. The engine, which
# is the first four, knows no nodes.
AT_ROOT = {
    "characters.py", "core_checkout.py", "errors.py", "pip_command.py", "processor_settings.py",
    "products.py", "rehearsed_device.py", "temporary_files.py", "units.py", "uploads.py",
    "versions.py", "wide_numbers.py",
}  # fmt: skip
ALLOWED = {
    "attention": set[str](),
    "model": {"attention"},
    "samplers": {"model", "attention"},
    "stream": {"samplers", "model", "attention"},
    "nodes": {"samplers", "stream", "model", "attention", "installation.py"},
    "training": {"samplers", "stream", "model", "attention"},
    "headless": {*PARTS, "installation.py"},
    "benchmarks": set(PARTS) - {"headless"},
    "tools": set(PARTS),
}
HOST = {
    "comfy",
    "comfyui_version",
    "comfy_extras",
    "comfy_execution",
    "folder_paths",
    "server",
    "execution",
    "latent_preview",
}
HOST_PLACES = (
    "nodes/host/", "headless/hosts/core_child/prompt_runner.py", "benchmarks/speed/core_child.py",
    "benchmarks/gpu/core_child.py",
)  # fmt: skip

IN_PARTS = [file for file in modules() if "/" in file]
FOLDERS = sorted({parent.as_posix().strip(".") for f in modules() for parent in Path(f).parents})
TESTS = [path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts]


@pytest.mark.parametrize("file", IN_PARTS)
def test_imports_follow_the_arrows(file: str) -> None:
    part = file.split("/")[0]
    reached = {target.split("/")[0] for target in imported_files(file)}
    assert reached <= ALLOWED[part] | AT_ROOT | {part}


@pytest.mark.parametrize("file", IN_PARTS)
def test_inside_the_package_imports_are_relative(file: str) -> None:
    absolute = {name.split(".")[0] for level, name in imports(file) if not level}
    ours = {"longtake", *PARTS} - ({"nodes"} if file.startswith(HOST_PLACES) else set())
    assert not absolute & ours


@pytest.mark.parametrize("file", IN_PARTS)
def test_the_host_appears_in_its_places_only(file: str) -> None:
    absolute = {name.split(".")[0] for level, name in imports(file) if not level}
    assert file.startswith(HOST_PLACES) or not absolute & HOST
    assert file.startswith("nodes/") or "comfy_api" not in absolute


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_and_folders_side_by_side_import_one_way(folder: str) -> None:
    """Imports for types count too. A circle shows in the folder that holds all its files."""
    assert not circles(entry_graph(folder))


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == {frozenset("abc")}
    assert circles({**graph, "c": {"d"}}) == set()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_test_imports_from_a_test(path: Path) -> None:
    """What two tests need is in tests/support."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("longtake.tests"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            assert not any(name.startswith("test_") for name in names), ast.unparse(node)


def test_relative_imports_lead_to_files() -> None:
    assert "errors.py" in imported_files("stream/journal/journal.py")
    assert "nodes/sockets.py" in imported_files("nodes/sampling/sampler.py")
    assert all((ROOT / target).is_file() for file in modules() for target in imported_files(file))


def test_pyproject_lists_every_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for folder in {Path(file).parent.as_posix() for file in IN_PARTS}:
        assert f'"longtake.{folder.replace("/", ".")}"' in text
