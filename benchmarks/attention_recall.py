"""`longtake bench attention_recall`: is scenery that comes back the scenery that went?

The embedded model, 96x64: the camera turns back after 16, 32 and 64 latent frames, and one chunk is
made over the whole history, the history in int8, and windows and TempCaches of 10, 25 and 50 % of
its bytes. Agreement is the correlation of the columns that come in with the truth. Means over
clips with 95 % bootstrap intervals, differences within clips.

    python -m longtake.benchmarks.attention_recall --clips 64 --turn 32 --record recall.jsonl

is the same with options, and goes on where it was stopped.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from ..model.checkpoint import read
from ..model.fingerprint import fingerprint
from ..model.preset import DEMO_FOLDER
from ..training.command import reporting
from ..training.estimate import Estimate, estimate
from ..training.kit import load_kit
from ._attention_recall import FULL, FULL_INT8, SHARES, history_of, recalled
from ._guided import Measured
from ._records import Records
from ._report import Claim, write

TURNS, CLIPS = (16, 32, 64), 64
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """Latent frames after which the camera turns, and how many clips of each; none is begun after
    `minutes`.
    """

    turns: tuple[int, ...] = TURNS
    clips: int = CLIPS
    minutes: float = float("inf")
    record: Path | None = None


@dataclass(slots=True)
class Recalled:
    """Agreement and megabytes by case, differences within clips, and claims."""

    suite: str = "attention_recall"
    figures: dict[str, Estimate] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        """A line each."""
        for name, found in {**self.figures, **self.differences}.items():
            console.print(f"{name:56} {found}  n={found.clips}", highlight=False)
        for claim in self.claims:
            word = "[green]holds[/]" if claim.holds else "[red]FAILS[/]"
            console.print(f"{word} {claim.text}: {claim.bound:.3f}", highlight=False)


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path` when there is one."""
    found = measure(Plan())
    found.show(Console(soft_wrap=True))
    if json_path is not None:
        found.save(json_path)


def measure(plan: Plan) -> Recalled:
    """Every clip of every turn that was not measured yet, then what all of them say."""
    kit, until = load_kit(DEMO_FOLDER), time.monotonic() + 60 * plan.minutes
    weights = [fingerprint(read(file)[0]) for file in sorted(DEMO_FOLDER.glob("*.safetensors"))]
    records = Records(plan.record, {"suite": "attention_recall", "weights": weights})
    cases = {f"turn {turn}": turn for turn in plan.turns}
    for case, seed in records.missing([*cases], range(plan.clips)):
        if time.monotonic() > until:
            break
        figures = recalled(kit, cases[case], seed)
        records.add((case, seed), Measured(figures, np.zeros((0, 0))))
    found = Recalled()
    for case, turn in cases.items():
        rows = [made.figures for (name, _), made in records.found.items() if name == case]
        if rows:
            summarise(found, f"{case}, history {history_of(turn)}", rows)
    return found


def summarise(found: Recalled, label: str, rows: list[dict[str, float]]) -> None:
    """Means of a turn's clips, and TempCache against the window of the same bytes."""
    for name in rows[0]:
        found.figures[f"{label}: {name}"] = estimate([row[name] for row in rows])
    pairs = [(f"TempCache, {share:.0%}", f"window, {share:.0%}") for share in SHARES]
    for ours, other in [*pairs, *((ours, FULL) for ours, _ in pairs), (FULL_INT8, FULL)]:
        difference = estimate([row[ours] - row[other] for row in rows])
        found.differences[f"{label}: {ours} less {other}"] = difference
        if (ours, other) in pairs:
            text = f"{label}: {ours} recalls more than the window of its bytes"
            found.claims.append(Claim(text, difference.low, 0.0, difference.low > 0))


@click.command(help=__doc__)
@click.option("--turn", "turns", multiple=True, type=click.IntRange(6), help="Latent frames.")
@click.option("--clips", type=click.IntRange(1), default=CLIPS, show_default=True)
@click.option("--minutes", default=float("inf"), help="Begin no clip after so long.")
@click.option("--record", type=NEW_FILE, help="Keep clips in FILE, and go on from there.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(
    turns: tuple[int, ...], clips: int, minutes: float, record: Path | None, json_path: Path | None
) -> None:
    """Command line."""
    with reporting():
        found = measure(Plan(tuple(turns) or TURNS, clips, minutes, record))
        found.show(Console(soft_wrap=True))
        if json_path is not None:
            found.save(json_path)


if __name__ == "__main__":
    command()
