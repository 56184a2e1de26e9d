"""`longtake bench`: run a suite of benchmarks, or list them all.

A suite is a module or a package of `benchmarks/` whose name begins with no underscore. Its `main`
takes the path of the JSON file, or None, and its docstring begins with the question it answers.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from ...errors import BadInput
from ..console.reporting import report_failures
from ..console.values import OUTPUT_FILE, TEXT
from ..events import RunFiles
from ..runner import check_file


@click.command()
@click.argument("suite", type=TEXT, required=False)
@click.option(
    "--json", "json_file", type=OUTPUT_FILE, metavar="FILE", help="Write the results to FILE."
)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def bench(suite: str | None, json_file: Path | None, debug: bool) -> None:
    """Run the benchmark SUITE, or list the suites."""
    if suite is None and json_file is not None:
        raise click.UsageError("--json needs a SUITE")
    console = Console(soft_wrap=True)
    with report_failures(console, RunFiles(), debug=debug):
        suites = _suites()
        if suite is None:
            for name in suites:
                console.print(escape(f"{name:18}{_question(name)}"), highlight=False)
        elif suite not in suites:
            raise click.UsageError(
                f"There is no benchmark suite {suite!r}; choose one of {', '.join(suites)}."
            )
        else:
            if json_file is not None:
                check_file(json_file, "--json", f"{suite}.json")
            importlib.import_module(f"...benchmarks.{suite}", __package__).main(json_file)


def _suites() -> list[str]:
    try:
        package: Any = importlib.import_module("...benchmarks", __package__)
    except ModuleNotFoundError as error:
        raise BadInput(
            "The package that ComfyUI installs has no benchmarks; use Longtake's git repository."
        ) from error
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    )


def _question(suite: str) -> str:
    """What a suite answers: its docstring's first line, read without importing the suite."""
    spec = find_spec(f"...benchmarks.{suite}", __package__)
    if spec is None or spec.origin is None:
        return ""
    described = ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or ""
    return described.partition("\n")[0].partition(": ")[2]
