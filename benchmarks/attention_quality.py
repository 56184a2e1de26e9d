"""`longtake bench attention_quality`: the effect of merged and sparse attention on the picture.

Each case makes the chunk after a true history of 21 or 63 latent frames from the same noise. The
reference is dense attention to the whole history. All cases get the same keys and values. Every
case runs on a few clips; cases with a target run on enough clips to resolve two points of
adherence.

The suite runs the embedded model at 96x64 in one process of one thread. PSNR in dB covers moving
pixels, SSIM all pixels. Error is the chunk's squared error over its variance. Adherence is the
share of right readings minus dense attention's. Free rollouts then measure adherence and drift
(`_attention/drift.py`). For memory over longer histories see `attention_recall`.

    python -m longtake.benchmarks.attention_quality --clips 2 --judged 4 --latents SAFETENSORS

runs a smaller version. With a file of real Wan 2.1 latents the suite also measures one layer on
keys of the same redundancy (`_attention/synthetic.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from rich.console import Console

from ..model.preset import DEMO_FOLDER
from ..training.command import reporting
from ..training.evaluation.estimate import estimate
from ..training.evaluation.kit import Kit, load_kit
from ._attention import synthetic
from ._attention.chunk import DENSE_CASE, TEMP, chunk_cases, measure_chunk
from ._attention.drift import MEMORIES, measure_rollouts
from ._shared.paired import median_interval
from ._shared.report import Results

JUDGED = (TEMP, "TempCache, int8", "AnnSA 30 %, recall 0.85", "all")


@dataclass(frozen=True, slots=True)
class QualityPlan:
    """Histories in latent frames, clips per history, and the number and length of rollouts.

    All cases run on the first `clips` clips; cases in JUDGED run on `judged` clips.
    """

    histories: tuple[int, ...] = (21, 63)
    clips: int = 8
    judged: int = 96
    rollouts: int = 8
    rolled_frames: int = 120
    latents: Path | None = None


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` after each clip."""
    results = Results("attention_quality")
    measure(QualityPlan(), results, lambda: None if json_path is None else results.save(json_path))
    results.show(Console(soft_wrap=True))


def measure(plan: QualityPlan, results: Results, keep: Callable[[], None]) -> None:
    """Measure every clip after every history, then judge the targets."""
    kit = load_kit(DEMO_FOLDER)
    for seed in range(max(plan.clips, plan.judged)):
        for history in plan.histories:
            cases = chunk_cases(history)
            if seed >= plan.clips:
                cases = {name: cases[name] for name in (DENSE_CASE, *JUDGED)}
            note(results, f", history {history}", measure_chunk(kit, seed, history, cases))
        keep()
    if plan.latents is not None:
        latents = synthetic.real_latents(plan.latents)
        for seed in range(plan.clips):
            note(results, ", real latents", synthetic.measure_layer(latents, seed))
    for history in plan.histories:
        for name in JUDGED:
            at = f"{name}, history {history}"
            low = results.figures[f"PSNR: {at}"].low
            results.at_least(f"{name} is within 28 dB of dense at {history}", low, 28)
            lost = estimate(results.samples[f"adherence: {at}"]).low
            results.at_least(f"{name} keeps adherence within 2 points at {history}", lost, -0.02)
    roll(plan, results, kit, keep)


def roll(plan: QualityPlan, results: Results, kit: Kit, keep: Callable[[], None]) -> None:
    """Measure free rollouts of the model."""
    suffix = f", rollout of {plan.rolled_frames}"
    for seed in range(plan.rollouts):
        with torch.inference_mode():
            note(results, suffix, measure_rollouts(kit, seed, plan.rolled_frames))
        keep()
    for name in [name for name in MEMORIES if plan.rollouts and name != DENSE_CASE]:
        lost = estimate(results.samples[f"adherence: {name}{suffix}"]).low
        results.at_least(f"{name} keeps adherence within 2 points in rollouts", lost, -0.02)
    keep()


def note(results: Results, suffix: str, figures: dict[str, float]) -> None:
    """Add the figures of one clip."""
    for name, value in figures.items():
        results.samples.setdefault(name + suffix, []).append(value)
        results.figures[name + suffix] = median_interval(results.samples[name + suffix])


@click.command(help=__doc__)
@click.option("--clips", type=click.IntRange(1), default=8, show_default=True)
@click.option("--judged", type=click.IntRange(0), default=96, show_default=True)
@click.option("--rollouts", type=click.IntRange(0), default=8, show_default=True)
@click.option("--latents", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(
    clips: int, judged: int, rollouts: int, latents: Path | None, json_path: Path | None
) -> None:
    results = Results("attention_quality")
    with reporting():
        plan = QualityPlan(clips=clips, judged=judged, rollouts=rollouts, latents=latents)
        measure(plan, results, lambda: None if json_path is None else results.save(json_path))
        results.show(Console(soft_wrap=True))


if __name__ == "__main__":
    command()
