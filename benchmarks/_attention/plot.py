"""The plots of docs/measurements/attention.md from results of `attention`, one or several, and of
`attention_recall`: time a chunk and memory by history, and what is recalled.

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
from ..attention_recall import AWAY
from .cases import MAIN
from .recall import FULL, FULL_INT8, KINDS, SHARES, half_way
from .wan_shaped import NAME

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
PANEL_INCHES = (5.0, 4.0)
DOTS_PER_INCH = 110
MODELS = {"": "embedded model", NAME: NAME + "random weights"}
"""What begins the labels of each model's figures, and its title."""
COLOURS = {
    "dense": "C7", FULL: "C7", FULL_INT8: "C8", "auto": "C0", "window + sink": "C2", "window": "C2",
    "window, int8": "C1", "TempCache": "C3", "TempCache, int8": "C4", "all": "C9",
}  # fmt: skip
"""The same for what is the same in all panels."""

Lines = dict[str, list[tuple[float, float, float, float]]]
"""By name: x, y and the bounds of its interval, from left to right."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines, what the axes are, and whether both are logarithmic."""

    lines: Lines
    x: str
    y: str
    title: str = ""
    log: bool = False


def joined(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures and bytes of several results; of what is in two of them, that of the later one."""
    return {part: {key: value for one in results for key, value in one[part].items()}
            for part in ("figures", "bytes")}  # fmt: skip


def times(speed: dict[str, Any], of: str = "") -> Lines:
    """Seconds of a chunk by history in latent frames, of each case that was timed."""
    found = {name: _by_history(speed["figures"], f"{of}{name}") for name in MAIN}
    return {
        name: [(at, one["median"], one["low"], one["high"]) for at, one in rows]
        for name, rows in found.items()
        if rows
    }


def memory(speed: dict[str, Any], of: str = "") -> Lines:
    """MiB of the cache and of what is in work beside it, by history, of each case of which both
    were measured: none in results from before that was.
    """
    found: Lines = {}
    for name in MAIN:
        held = dict(_by_history(speed["bytes"], f"KV cache: {of}{name}"))
        rows = [(at, (held[at] + work) / 2**20)
                for at, work in _by_history(speed["bytes"], f"in work: {of}{name}")]  # fmt: skip
        if rows:
            found[name] = [(at, taken, taken, taken) for at, taken in rows]
    return found


def agreements(recall: dict[str, Any]) -> Lines:
    """By kind of memory: megabytes, agreement and the bounds of its interval, of the longest course
    whose history the model was trained for.
    """
    figures = recall["figures"]
    turn = f"{half_way(AWAY[-1])}, history {half_way(AWAY[-1]).history}"
    names = {kind: [f"{kind}, {share:.0%}" for share in SHARES] for kind in KINDS}
    found = {}
    for kind, members in {**names, FULL: [FULL], FULL_INT8: [FULL_INT8]}.items():
        rows = [(figures[f"{turn}: MB: {one}"], figures[f"{turn}: {one}"]) for one in members]
        found[kind] = [(mb["mean"], one["mean"], one["low"], one["high"]) for mb, one in rows]
    return found


def panels(speed: dict[str, Any], recall: dict[str, Any]) -> list[Panel]:
    """Time and memory of each model that there are figures of, then recall."""
    history, found = "latent frames of history", list[Panel]()
    for of, title in MODELS.items():
        found.append(Panel(times(speed, of), history, "s a chunk", title, log=True))
        found.append(Panel(memory(speed, of), history, "MiB, cache and work", title, log=True))
    title = f"recalled: {half_way(AWAY[-1])}"
    found.append(Panel(agreements(recall), "MB of KV cache", "agreement of what comes in", title))
    return [panel for panel in found if panel.lines]


def draw(shown: Sequence[Panel], out: Path) -> None:
    """All panels side by side as a PNG; needs matplotlib."""
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
    figure.savefig(out, dpi=DOTS_PER_INCH)


def _by_history(values: dict[str, Any], name: str) -> list[tuple[int, Any]]:
    """What is labelled with the name and a history, the shortest first."""
    at = f"{name}, history "
    return sorted((int(key[len(at) :]), one) for key, one in values.items() if key.startswith(at))


@click.command(help=__doc__)
@click.option("--speed", "speeds", type=FILE, required=True, multiple=True)
@click.option("--recall", type=FILE, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def command(speeds: tuple[Path, ...], recall: Path, out: Path) -> None:
    """Command line."""
    with reporting():
        *speed, recalled = (json.loads(file.read_text("utf-8")) for file in (*speeds, recall))
        draw(panels(joined(speed), recalled), out)


if __name__ == "__main__":
    command()
