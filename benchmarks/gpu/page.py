"""The page of the GPU bench: a table in Markdown, then what does not hold or did not run."""

from __future__ import annotations

from pathlib import Path

from ...machine.temporary_files import write_whole
from .._shared.paired import Interval
from .._shared.report import Results, setting
from .shot import DECODE, FIRST, PEAK

SECONDS, FPS, PLAN = "a later chunk, s", "frames a second, decoded", "planned"
COLUMNS = FIRST, SECONDS, DECODE, FPS
GIB = 2**30


def write_page(results: Results, path: Path) -> None:
    """Write the page beside the results."""
    write_whole(path, page(results))


def page(results: Results) -> str:
    """The results as Markdown, to read and to send."""
    environment = setting()
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    head = [
        f"# longtake bench gpu on {results.accelerator}", "",
        f"{results.notes['model']}. Commit {environment['commit']}, {versions}.", "",
        f"| case | {' | '.join(COLUMNS)} | planned GiB | peak GiB |",
        "| --- " * (len(COLUMNS) + 3) + "|",
    ]  # fmt: skip
    names = dict.fromkeys(
        key.removesuffix(f": {PLAN}").removesuffix(f": {PEAK}") for key in results.bytes
    )
    ratios = [
        f"- {key}: {_figure(figure)}" for key, figure in results.figures.items() if " / " in key
    ]
    failed = [
        f"- fails: {claim.text}: {claim.bound:.4g} (limit {claim.limit:g})"
        for claim in results.claims
        if not claim.holds
    ]
    missing = [f"- {name}: {text}" for name, text in results.notes.items() if name != "model"]
    rows = [row(results, name) for name in names]
    return "\n".join([*head, *rows, "", *ratios, *failed, *missing]).rstrip() + "\n"


def row(results: Results, name: str) -> str:
    """A case's line of the table; a dash stands for what was not measured."""
    cells = [_figure(results.figures.get(f"{name}: {column}")) for column in COLUMNS]
    sizes = [_gib(results.bytes.get(f"{name}: {what}")) for what in (PLAN, PEAK)]
    return f"| {' | '.join([name, *cells, *sizes])} |"


def _figure(figure: Interval | None) -> str:
    if figure is None:
        return "-"
    spread = f" [{figure.low:.3g}, {figure.high:.3g}]" if figure.samples > 1 else ""
    return f"{figure.median:.3g}{spread}"


def _gib(count: int | None) -> str:
    return "-" if count is None else f"{count / GIB:.2f}"
