"""Which file of the package imports which, read from the sources alone, and the circles in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "machine",
    "core",
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


@cache
def modules() -> tuple[str, ...]:
    """Every Python file of the parts and of the root, as a path from the root."""
    inside = (path for part in PARTS for path in sorted((ROOT / part).rglob("*.py")))
    return tuple(
        path.relative_to(ROOT).as_posix() for path in (*sorted(ROOT.glob("*.py")), *inside)
    )


@cache
def tree(file: str) -> ast.Module:
    """The syntax tree of a file given as a path from the root."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def imports(file: str) -> Iterator[tuple[int, str]]:
    """Every import anywhere in the file, as (level, dotted name); level 0 is absolute."""
    for level, module, names in statements(file):
        yield from ((level, name) for name in ([module] if module else names))


def statements(file: str) -> Iterator[tuple[int, str, list[str]]]:
    """Every import statement anywhere in the file, as (level, module, names)."""
    for node in ast.walk(tree(file)):
        names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        if isinstance(node, ast.Import):
            yield 0, "", names
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", names


@cache
def imported_files(file: str) -> frozenset[str]:
    """The files of the package that the relative imports in `file` lead to."""
    package = PurePosixPath(file).parent.parts
    found = set[str]()
    for level, module, names in statements(file):
        if level:
            folder = "/".join([*package[: len(package) - level + 1], *module.split(".")]).strip("/")
            found |= {_file(folder, name) for name in names}
    return frozenset(found - {file})


def _file(folder: str, name: str) -> str:
    """The file that `from folder import name` reads."""
    candidates = (f"{folder}/{name}.py", f"{folder}/{name}/__init__.py", f"{folder}.py")
    known = (path.strip("/") for path in candidates)
    return next((path for path in known if path in set(modules())), f"{folder}/__init__.py")


def entry_graph(folder: str) -> dict[str, set[str]]:
    """Which entry (file or folder) of `folder` imports which other entry."""
    graph: dict[str, set[str]] = {}
    for file in modules():
        entry = _entry(folder, file)
        if entry:
            reached = {_entry(folder, target) for target in imported_files(file)}
            graph.setdefault(entry, set()).update(reached - {entry, ""})
    return graph


def _entry(folder: str, file: str) -> str:
    """The entry of `folder` that holds `file`, or an empty string."""
    prefix = f"{folder}/" if folder else ""
    return file.removeprefix(prefix).split("/")[0] if file.startswith(prefix) else ""


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The largest sets of entries that all reach one another."""
    reach = {start: _reachable(graph, start) for start in graph}
    together = {
        frozenset(b for b in reached if a in reach.get(b, ())) for a, reached in reach.items()
    }
    return {circle for circle in together if circle}


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Everything that imports lead to from `start`, with `start` itself only on a circle."""
    found, todo = set[str](), [start]
    while todo:
        new = graph.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found
