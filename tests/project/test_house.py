"""The measures of the house: short functions, short files, small classes and folders, no filler."""

from __future__ import annotations

import ast
import statistics
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from longtake.tests.support.import_graph import ROOT, modules, tree

MAX_FUNCTION, MAX_CLASS, MAX_FILE, MAX_TEST_FILE = 60, 20, 300, 400  # lines, methods, lines
MAX_FOLDER = 20  # modules

# Still to be mended. Each entry must be true, so that whoever mends one removes it here.
LONG_FUNCTIONS: set[str] = set()
LARGE_CLASSES: set[str] = set()
LONG_FILES: set[str] = set()
LARGE_FOLDERS: set[str] = set()
SHORT_DOCSTRINGS: set[str] = set()
UNNAMED = ("samplers/planning/",)  # folders whose variables still need nouns

PARTICIPLES = {
    "asked", "found", "given", "held", "kept", "laid", "made", "taken", "told", "wanted"
}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines(node: Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


@cache
def functions() -> list[tuple[str, int]]:
    """Every function and its lines; cached, and not made while tests are collected."""
    return [
        (f"{file}:{node.name}", lines(node))
        for file in modules()
        for node in ast.walk(tree(file))
        if isinstance(node, Function)
    ]


def test_functions_are_short() -> None:
    lengths = [length for _, length in functions()]
    assert statistics.median(lengths) <= 7
    assert statistics.quantiles(lengths, n=10)[-1] <= 20


def test_no_function_is_long() -> None:
    assert {name for name, length in functions() if length > MAX_FUNCTION} == LONG_FUNCTIONS


def sources(*suffixes: str) -> list[Path]:
    """The files of the repository with these suffixes, as paths from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("needs the git repository")
    paths = (Path(line) for line in listed.stdout.splitlines())
    return [path for path in paths if path.suffix in suffixes and (ROOT / path).is_file()]


def test_no_file_is_long() -> None:
    long = set()
    for path in sources(".py", ".mjs"):
        limit = MAX_TEST_FILE if path.parts[0] == "tests" else MAX_FILE
        if len((ROOT / path).read_text(encoding="utf-8").splitlines()) > limit:
            long.add(path.as_posix())
    assert long == LONG_FILES


def test_no_folder_is_large() -> None:
    counts = Counter(path.parent.as_posix() for path in sources(".py", ".mjs"))
    assert {folder for folder, count in counts.items() if count > MAX_FOLDER} == LARGE_FOLDERS


def test_no_class_is_large() -> None:
    large = {
        f"{file}:{node.name}"
        for file in modules()
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ClassDef)
        and sum(isinstance(member, Function) for member in node.body) > MAX_CLASS
    }
    assert large == LARGE_CLASSES


def test_docstrings_say_something() -> None:
    """Three words repeat the name; then no docstring is better."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    parts = set()
    for file in modules():
        texts = (ast.get_docstring(n) for n in ast.walk(tree(file)) if isinstance(n, kinds))
        if any(text is not None and len(text.split()) <= 3 for text in texts):
            parts.add(file.split("/")[0])
    assert parts == SHORT_DOCSTRINGS


def bound_names(file: str) -> set[str]:
    """Variables, parameters, attributes and functions that a file gives a name."""
    names = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, Function):
            names.add(node.name)
    return names


def test_no_name_is_a_bare_participle() -> None:
    """`found` does not say what was found: a noun does."""
    files = [file for file in modules() if not file.startswith(UNNAMED)]
    assert not {f"{file}: {name}" for file in files for name in bound_names(file) & PARTICIPLES}


def test_no_error_is_passed_over_in_silence() -> None:
    """`contextlib.suppress` says what is left out and why it may be."""
    for file in modules():
        for node in ast.walk(tree(file)):
            silent = isinstance(node, ast.ExceptHandler) and isinstance(node.body[0], ast.Pass)
            assert not silent, f"{file}:{node.lineno}"
