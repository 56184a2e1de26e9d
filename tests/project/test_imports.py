"""The arrows of the design: which part may import which, and where the host's modules appear."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "attention",
    "model",
    "samplers",
    "stream",
    "nodes",
    "headless",
    "training",
    "benchmarks",
    "tools",
)

# What a part may import of ours, beside itself and these modules at the root.
AT_ROOT = {"errors", "units"}
ALLOWED = {
    "attention": set[str](),
    "model": {"attention"},
    "samplers": {"model", "attention"},
    "stream": {"samplers", "model", "attention"},
    "nodes": {"samplers", "stream", "model", "attention", "installation"},
    "training": {"samplers", "stream", "model", "attention"},
    "headless": {*PARTS, "installation"},
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
HOST_PLACES = ("nodes/host/", "headless/hosts/core_child/prompt_runner.py")


def modules() -> list[str]:
    return [
        path.relative_to(ROOT).as_posix()
        for part in PARTS
        for path in sorted((ROOT / part).rglob("*.py"))
    ]


def imports(file: str) -> Iterator[tuple[int, str]]:
    """Every import anywhere in the file, as (level, dotted name); level 0 is absolute."""
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level, name) for name in names)


def part_of(file: str, level: int, name: str) -> str:
    """The part of ours (a folder or a module at the root) that a relative import leads to."""
    package = file.split("/")[:-1]
    return [*package[: len(package) - level + 1], *name.split(".")][0]


@pytest.mark.parametrize("file", modules())
def test_imports_follow_the_arrows(file: str) -> None:
    part = file.split("/")[0]
    reached = {part_of(file, level, name) for level, name in imports(file) if level}
    assert reached <= ALLOWED[part] | AT_ROOT | {part}


@pytest.mark.parametrize("file", modules())
def test_inside_the_package_imports_are_relative(file: str) -> None:
    absolute = {name.split(".")[0] for level, name in imports(file) if not level}
    ours = {"longtake", *PARTS} - ({"nodes"} if file.startswith(HOST_PLACES) else set())
    assert not absolute & ours


@pytest.mark.parametrize("file", modules())
def test_the_host_appears_in_its_places_only(file: str) -> None:
    absolute = {name.split(".")[0] for level, name in imports(file) if not level}
    assert file.startswith(HOST_PLACES) or not absolute & HOST
    assert file.startswith("nodes/") or "comfy_api" not in absolute


def test_relative_imports_are_resolved_to_their_part() -> None:
    assert part_of("stream/journal/journal.py", 3, "nodes.host") == "nodes"
    assert part_of("headless/hosts/stand_in/modules.py", 4, "errors") == "errors"
    assert part_of("model/vae/tiny.py", 1, "streaming") == "model"


def test_pyproject_lists_every_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for folder in {path.parent for part in PARTS for path in (ROOT / part).rglob("*.py")}:
        assert f'"longtake.{folder.relative_to(ROOT).as_posix().replace("/", ".")}"' in text
