"""The plots of docs/attention.md from results of `attention` and `attention_recall`:

python -m longtake.benchmarks._attention_plot --speed SPEED.json --recall RECALL.json --out PNG
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import BadInput
from ..training.command import reporting
from ._attention_cases import MAIN
from ._attention_recall import FULL, FULL_INT8, KINDS, SHARES, half_way
from .attention_recall import AWAY

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
INCHES = (10.0, 4.0)
DOTS_PER_INCH = 110


def times(speed: dict[str, Any]) -> dict[str, list[tuple[int, float, float, float]]]:
    """By case: history in latent frames, seconds of a chunk and the bounds of their interval."""
    found: dict[str, list[tuple[int, float, float, float]]] = {}
    for name in MAIN:
        at = f"{name}, history "
        rows = [(int(key[len(at) :]), one["median"], one["low"], one["high"])
                for key, one in speed["figures"].items() if key.startswith(at)]  # fmt: skip
        found[name] = sorted(rows)
    return found


def agreements(recall: dict[str, Any]) -> dict[str, list[tuple[float, float, float, float]]]:
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


def draw(speed: dict[str, Any], recall: dict[str, Any], out: Path) -> None:
    """Both panels as a PNG; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadInput("the plots need matplotlib; install it.") from error
    figure = Figure(figsize=INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    panels = ((left, times(speed)), (right, agreements(recall)))
    for panel, lines in panels:
        for name, rows in lines.items():
            x, y, low, high = zip(*rows, strict=True)
            bars = (
                [a - b for a, b in zip(y, low, strict=True)],
                [b - a for a, b in zip(y, high, strict=True)],
            )
            panel.errorbar(x, y, bars, marker="o", capsize=3, label=name)
        panel.legend(fontsize="small")
    left.set(xscale="log", yscale="log", xlabel="latent frames of history", ylabel="s a chunk")
    right.set(xlabel="MB of KV cache", ylabel="agreement of what re-enters")
    figure.savefig(out, dpi=DOTS_PER_INCH)


@click.command(help=__doc__)
@click.option("--speed", type=FILE, required=True)
@click.option("--recall", type=FILE, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def command(speed: Path, recall: Path, out: Path) -> None:
    """Command line."""
    with reporting():
        draw(json.loads(speed.read_text("utf-8")), json.loads(recall.read_text("utf-8")), out)


if __name__ == "__main__":
    command()
