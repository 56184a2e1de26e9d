"""The arrows of the design: which part may import which, and where the host's modules appear."""

from __future__ import annotations

import ast
from pathlib import Path

from longtake.tests.support.import_graph import (
    PARTS,
    ROOT,
    circles,
    entry_graph,
    imported_files,
    imports,
    modules,
)

# What a part may import of ours, beside itself and this base. The engine, which is `attention`,
# `model`, `samplers` and `stream`, knows no nodes.
BASE = {
    "machine", "characters.py", "errors.py", "kinds.py", "pip_command.py", "timed_lines.py",
    "units.py", "versions.py",
}  # fmt: skip
ALLOWED = {
    "machine": set[str](),
    "core": set(),
    "attention": set(),
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


def test_imports_follow_the_arrows() -> None:
    reached = {file: {target.split("/")[0] for target in imported_files(file)} for file in IN_PARTS}
    allowed = {part: rooms | BASE | {part} for part, rooms in ALLOWED.items()}
    too_far = {file: rooms - allowed[file.split("/")[0]] for file, rooms in reached.items()}
    assert {file: rooms for file, rooms in too_far.items() if rooms} == {}


def absolute_imports(file: str) -> set[str]:
    """The names of packages that a file imports absolutely."""
    return {name.split(".")[0] for level, name in imports(file) if not level}


def test_inside_the_package_imports_are_relative() -> None:
    ours = {"longtake", *PARTS}
    of_core = {"nodes"}  # ComfyUI's module of that name
    names = {
        file: absolute_imports(file) & (ours - of_core if file.startswith(HOST_PLACES) else ours)
        for file in IN_PARTS
    }
    assert {file: found for file, found in names.items() if found} == {}


def test_the_host_appears_in_its_places_only() -> None:
    others = [file for file in IN_PARTS if not file.startswith(HOST_PLACES)]
    assert [file for file in others if absolute_imports(file) & HOST] == []
    outside = [file for file in IN_PARTS if not file.startswith("nodes/")]
    assert [file for file in outside if "comfy_api" in absolute_imports(file)] == []


def test_files_and_folders_side_by_side_import_one_way() -> None:
    """Imports for types count too. A circle shows in the folder that holds all its files."""
    found = {folder: circles(entry_graph(folder)) for folder in FOLDERS}
    assert {folder: circle for folder, circle in found.items() if circle} == {}


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == {frozenset("abc")}
    assert circles({**graph, "c": {"d"}}) == set()


def test_no_test_imports_from_a_test() -> None:
    """What two tests need is in tests/support."""
    found = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and _is_of_a_test(node)
    ]
    assert found == []


def _is_of_a_test(node: ast.ImportFrom) -> bool:
    if not (node.module or "").startswith("longtake.tests"):
        return False
    names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    return any(name.startswith("test_") for name in names)
