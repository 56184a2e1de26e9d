"""The plots of docs/measurements/attention.md: time, memory and recall by memory size.

Reads one or several results of `attention`, and of `attention_recall`.

    python -m longtake.benchmarks._attention.plot --speed SPEED.json --recall RECALL.json --out PNG
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ...errors import BadInput
from ...training.command import reporting
from ...training.evaluation.returns import half_way
from .._shared.report import save_figure
from .cases import MAIN
from .recall import AWAY, FULL, FULL_INT8, KINDS, SHARES
from .wan_shaped import NAME

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
PANEL_INCHES = (5.0, 4.0)
DOTS_PER_INCH = 110
MODELS = {"": "embedded model", NAME: NAME + "random weights"}
"""The label prefix of each model, and the title of its panels."""
COLOURS = {
    "dense": "C7", FULL: "C7", FULL_INT8: "C8", "auto": "C0", "window + sink": "C2", "window": "C2",
    "window, int8": "C1", "TempCache": "C3", "TempCache, int8": "C4", "all": "C9",
}  # fmt: skip
"""The line colour of each case or memory, equal in all panels."""

Lines = dict[str, list[tuple[float, float, float, float]]]
"""Points of each line from left to right: x, y, and the bounds of y's interval."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines, axis labels, and whether both axes are logarithmic."""

    lines: Lines
    x: str
    y: str
    title: str = ""
    log: bool = False


def join_results(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge the figures and bytes, where there are any, of several results; later results win."""
    return {part: {key: value for result in results for key, value in result.get(part, {}).items()}
            for part in ("figures", "bytes")}  # fmt: skip


def times(speed: dict[str, Any], prefix: str = "") -> Lines:
    """Return seconds per chunk by history in latent frames, for each timed case."""
    rows_by_name = {name: _by_history(speed["figures"], f"{prefix}{name}") for name in MAIN}
    return {
        name: [(at, figure["median"], figure["low"], figure["high"]) for at, figure in rows]
        for name, rows in rows_by_name.items()
        if rows
    }


def memory(speed: dict[str, Any], prefix: str = "") -> Lines:
    """Return MiB of the cache and of working memory, by history.

    Cases without both figures are left out, so older results may have none.
    """
    lines: Lines = {}
    for name in MAIN:
        cache_bytes = dict(_by_history(speed["bytes"], f"KV cache: {prefix}{name}"))
        works = _by_history(speed["bytes"], f"in work: {prefix}{name}")
        rows = [(at, (cache_bytes[at] + work) / 2**20) for at, work in works]
        if rows:
            lines[name] = [(at, mib, mib, mib) for at, mib in rows]
    return lines


def agreements(recall: dict[str, Any]) -> Lines:
    """Return megabytes, agreement and its interval by kind of memory.

    Uses the camera turn with the longest history that the model was trained for.
    """
    figures = recall["figures"]
    turn = f"{half_way(AWAY[-1])}, history {half_way(AWAY[-1]).history}"
    names = {kind: [f"{kind}, {share:.0%}" for share in SHARES] for kind in KINDS}
    lines = {}
    for kind, members in {**names, FULL: [FULL], FULL_INT8: [FULL_INT8]}.items():
        rows = [(figures[f"{turn}: MB: {name}"], figures[f"{turn}: {name}"]) for name in members]
        lines[kind] = [(mb["mean"], fig["mean"], fig["low"], fig["high"]) for mb, fig in rows]
    return lines


def panels(speed: dict[str, Any], recall: dict[str, Any]) -> list[Panel]:
    """Return time and memory panels of each model with figures, then recall."""
    history, result = "latent frames of history", list[Panel]()
    for prefix, title in MODELS.items():
        result.append(Panel(times(speed, prefix), history, "s a chunk", title, log=True))
        result.append(Panel(memory(speed, prefix), history, "MiB, cache and work", title, log=True))
    title = f"recalled: {half_way(AWAY[-1])}"
    result.append(Panel(agreements(recall), "MB of KV cache", "agreement of what comes in", title))
    return [panel for panel in result if panel.lines]


def draw(shown: Sequence[Panel], out: Path) -> None:
    """Draw all panels side by side into a PNG file; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadInput("the plots need matplotlib; install it.") from error
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(shown), height), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for name, rows in panel.lines.items():
            x, y, low, high = zip(*rows, strict=True)
            bars = (
                [a - b for a, b in zip(y, low, strict=True)],
                [b - a for a, b in zip(y, high, strict=True)],
            )
            axes.errorbar(x, y, bars, marker="o", capsize=3, label=name, color=COLOURS[name])
        axes.set(xlabel=panel.x, ylabel=panel.y, title=panel.title)
        if panel.log:
            at = sorted({row[0] for rows in panel.lines.values() for row in rows})
            axes.set(xscale="log", yscale="log", xticks=at, xticklabels=[f"{x:,}" for x in at])
            axes.yaxis.set_major_formatter("{x:g}")
            axes.xaxis.minorticks_off()
        axes.legend(fontsize="small")
    save_figure(figure, out, dpi=DOTS_PER_INCH)


def _by_history(values: dict[str, Any], name: str) -> list[tuple[int, Any]]:
    """Return (history, value) pairs of all labels that start with `name`, sorted by history."""
    label = f"{name}, history "
    return sorted(
        (int(key.removeprefix(label)), value)
        for key, value in values.items()
        if key.startswith(label)
    )


@click.command(help=__doc__)
@click.option("--speed", "speeds", type=FILE, required=True, multiple=True)
@click.option("--recall", "recalls", type=FILE, required=True, multiple=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def command(speeds: tuple[Path, ...], recalls: tuple[Path, ...], out: Path) -> None:
    with reporting():
        speed, recall = (
            join_results([json.loads(file.read_text("utf-8")) for file in files])
            for files in (speeds, recalls)
        )
        draw(panels(speed, recall), out)


if __name__ == "__main__":
    command()
