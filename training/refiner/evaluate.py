"""Measure the demo's second stage on held-out seeds, and write `refiner.json` and `refiner.md`.

`python -m longtake.training.refiner.evaluate`.

The second stage is compared with enlargements frame by frame, and at several noise levels with
itself. `--frame-wise FILE` adds weights of `train --frame-wise`, which see one frame.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click

from ...machine.temporary_files import write_whole
from ...model.preset import DEMO_FOLDER
from ...model.refiner.file import load_refiner
from ..command import FILE, FOLDER, reporting
from ..evaluation.card import table
from ..evaluation.estimate import Estimate, estimate
from ..evaluation.kit import Kit
from ..evaluation.measures import spread
from .measures import (
    FRAME_WISE,
    Enlarge,
    SecondStage,
    frame_by_frame,
    on_generated_frames,
    on_true_frames,
)  # fmt: skip

HERE = Path(__file__).parent
LEVELS = (0.0, 0.02, 0.05, 0.1)
OURS = "second stage"

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class RefinerJob:
    """The second stage's weights, perhaps those of a frame-wise one, and the numbers of clips."""

    refiner: Path
    frame_wise: Path | None
    true_clips: int = 48
    generated_clips: int = 48

    @property
    def ways(self) -> dict[str, Enlarge]:
        """All ways to enlarge that are compared."""
        refiner = load_refiner(self.refiner)
        ours = {
            f"{OURS}, level {level:g}" if level else OURS: SecondStage(refiner, level)
            for level in LEVELS
        }
        alone = {"the same without memory": frame_by_frame(SecondStage(refiner))}
        if self.frame_wise is not None:
            alone["trained without memory"] = SecondStage(load_refiner(self.frame_wise))
        return {**FRAME_WISE, **alone, **ours}


def measure(job: RefinerJob, folder: Path, workers: int) -> dict[str, dict[str, Estimate]]:
    """Measure on true frames and on generated ones."""
    results = {}
    parts = (
        ("true frames", _true, job.true_clips),
        ("generated frames", _generated, job.generated_clips),
    )
    for name, of_clip, count in parts:
        clips = spread(partial(of_clip, job=job), range(count), folder, workers)
        results[name] = {key: estimate([clip[key] for clip in clips]) for key in clips[0]}
        results[name] |= gains(clips)
        for key, value in results[name].items():
            logger.info("%s: %s %s", name, key, value)
    return results


def _true(kit: Kit, seed: int, job: RefinerJob) -> dict[str, float]:
    return on_true_frames(kit, seed, job.ways)


def _generated(kit: Kit, seed: int, job: RefinerJob) -> dict[str, float]:
    return on_generated_frames(kit, seed, job.ways)


def gains(clips: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """What the second stage gains over each other way, paired clip by clip."""
    paired = {}
    for key in clips[0]:
        way, _, quantity = key.partition(", ")
        if not way.startswith(OURS) and quantity.endswith("dB") and "small again" not in quantity:
            pairs = [clip[f"{OURS}, {quantity}"] - clip[key] for clip in clips]
            paired[f"{OURS} minus {key}"] = estimate(pairs)
    return paired


@click.command(help=__doc__)
@click.option("--folder", type=FOLDER, default=DEMO_FOLDER, help="The first stage's weights.")
@click.option("--refiner", type=FILE, default=HERE / "refiner.safetensors", help="Its weights.")
@click.option("--frame-wise", type=FILE, help="Weights of a second stage without memory.")
@click.option("--clips", type=click.IntRange(1), default=48, show_default=True)
@click.option("--out", type=FOLDER, default=HERE, help="Where to write.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1)
def main(  # noqa: PLR0913  # one parameter per option
    folder: Path, refiner: Path, frame_wise: Path | None, clips: int, out: Path,
    workers: int,
) -> None:  # fmt: skip
    with reporting():
        results = measure(RefinerJob(refiner, frame_wise, clips, clips), folder, workers)
        out.mkdir(parents=True, exist_ok=True)
        figures = {name: {k: asdict(v) for k, v in rows.items()} for name, rows in results.items()}
        write_whole(out / "refiner.json", json.dumps(figures, indent=1) + "\n")
        write_whole(out / "refiner.md", _page(results))


def _page(results: Mapping[str, Mapping[str, Estimate]]) -> str:
    tables = "\n\n".join(f"## {name}\n\n{table(rows)}" for name, rows in results.items())
    return f"""# The demo's second stage

Frames four times as wide and high, against the large truth. Held-out seeds; mean and 95 % bootstrap
interval over clips. `python -m longtake.training.refiner.evaluate` measures; "above" counts only
frequencies that the small frames cannot hold.

{tables}
"""


if __name__ == "__main__":
    main()
