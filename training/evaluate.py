"""Measure the demo model on held-out seeds and write its card.

`python -m longtake.training.evaluate`. The engine generates every clip at the demo's default
settings. The shipped oracle reads the attributes back from pixels. `--quick` is a smoke test with
few clips: its figures mean little, and it writes no card.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import click

from ..attention.cache.policy import CachePolicy, WindowSink
from ..machine.temporary_files import write_whole
from ..model.preset import DEMO, DEMO_FOLDER, FAST_FOLDER, overridden
from ..model.preset_cache import preset_cache
from .command import FILE, FOLDER, reporting
from .evaluation import measures
from .evaluation.card import Results, card
from .evaluation.estimate import estimate
from .evaluation.kit import Recipe, load_kit, preset_in
from .evaluation.looks import MINUTE, looks, looks_of_truth
from .evaluation.measures import Rows, spread
from .evaluation.returns import (
    CameraTurn,
    Memory,
    at_a_chunk,
    entering_figures,
    half_way,
    memory_megabytes,
    sample_shuffled,
    whole_way_figures,
)
from .evaluation.steering import DRIVE, steering, true_steering
from .world.attributes import ATTRIBUTES

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Number of clips of each measurement."""

    reconstruction: int = 32
    adherence: int = 256
    unseen: int = 128
    switch: int = 96
    drift: int = 12
    drift_latents: int = 1000
    revisit: int = 32
    recall: int = 64
    returns: int = 32
    far_returns: int = 64
    whole_ways: int = 12
    looks: int = 20
    looks_latents: int = MINUTE
    steering: int = 8
    steering_latents: int = DRIVE


QUICK = Sizes(4, 8, 4, 4, 2, 120, 4, 4, 2, 1, 1, 2, 40, 2, 60)
WINDOWS = {f"window {frames}": WindowSink(frames) for frames in (8, 16, 32, 64)}
NEAR, MIDDLE, FAR = (at_a_chunk(half_way(away)) for away in (48, 128, 512))
"""Turns after which scenery returns; its columns left the picture so many latent frames ago."""


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """What to measure: weights, number of clips, first seed and worker processes."""

    folder: Path
    sizes: Sizes
    workers: int
    recipe: Recipe
    seed: int = 0
    full_precision: Path | None = None

    def clips(self, count: int) -> range:
        """Return the seeds of `count` clips."""
        return range(self.seed, self.seed + count)


def measure(job: EvaluationJob) -> Results:
    """Run all measurements; log each when it is done."""
    results: Results = {}
    parts_of = (
        _of_the_vae, _of_prompts, _of_long_rollouts, _of_returns, _of_looks, _of_the_camera,
    )  # fmt: skip
    for parts in (measures_of(job) for measures_of in parts_of):
        for name, rows in parts:
            results[name] = {key: estimate(values) for key, values in rows.items()}
            logger.info("%s %s", name, {key: str(value) for key, value in results[name].items()})
    return results


def _of_the_vae(job: EvaluationJob) -> Iterator[tuple[str, Rows]]:
    kit = load_kit(job.folder)
    for width in (DEMO.width, 64):
        rows = measures.reconstruction(kit, job.seed, job.sizes.reconstruction, width)
        yield f"reconstruction {width}x{DEMO.height}, dB", rows
    if job.full_precision is not None:
        loss = measures.half_precision_loss(kit, job.full_precision, job.seed, 8)
        yield "fp16 file below fp32, dB", {"loss": loss}


def _of_prompts(job: EvaluationJob) -> Iterator[tuple[str, Rows]]:
    for name, count, held_out in (
        ("adherence", job.sizes.adherence, False),
        ("unseen wordings", job.sizes.unseen, True),
    ):
        one = partial(measures.adherence, recipe=job.recipe, held_out=held_out)
        clips = spread(one, job.clips(count), job.folder, job.workers)
        yield name, {key: [clip[key] for clip in clips] for key in ATTRIBUTES}
    switch = partial(measures.switch, recipe=job.recipe)
    after = zip(*spread(switch, job.clips(job.sizes.switch), job.folder, job.workers), strict=True)
    yield (
        "after a prompt switch",
        {f"{i} latent frames": list(values) for i, values in enumerate(after)},
    )


def _of_long_rollouts(job: EvaluationJob) -> Iterator[tuple[str, Rows]]:
    recipe = replace(job.recipe, length=job.sizes.drift_latents)
    drift = partial(measures.drift, recipe=recipe)
    drifts = spread(drift, job.clips(job.sizes.drift), job.folder, job.workers)
    yield (
        f"drift over {recipe.length} latent frames",
        {key: [clip[key] for clip in drifts] for key in drifts[0]},
    )
    revisit = partial(measures.revisit, recipe=job.recipe, memories=WINDOWS)
    visits = spread(revisit, job.clips(job.sizes.revisit), job.folder, job.workers)
    yield "revisit agreement", {name: [clip[name] for clip in visits] for name in WINDOWS}
    recall = partial(measures.recall, recipe=job.recipe, memories=WINDOWS)
    recalls = spread(recall, job.clips(job.sizes.recall), job.folder, job.workers)
    yield (
        "agreement of scenery that re-enters in one chunk after a true history",
        {key: [clip[key] for clip in recalls] for key in recalls[0]},
    )


def _of_returns(job: EvaluationJob) -> Iterator[tuple[str, Rows]]:
    yield from of_returns(job, preset_cache(DEMO), "the default memory")


def of_returns(job: EvaluationJob, cache: CachePolicy, name: str) -> Iterator[tuple[str, Rows]]:
    """Scenery that returns, by a memory of this `name`; where it recalls, by wrong frames too.

    The bytes are those at the end of the longest clip.
    """
    memories = {name: Memory(cache)}
    if cache.recall_frames:
        memories[f"{name}, frames shuffled"] = Memory(cache, sample_shuffled)
    near, far = job.sizes.returns, job.sizes.far_returns
    entering: Rows = {}
    for turn, clips in ((NEAR, near), (MIDDLE, near), (FAR, far)):
        rows = _by_memory(job, entering_figures, turn, memories, clips)
        entering |= {f"{turn.away} away, {key}": values for key, values in rows.items()}
    longest = replace(job.recipe, cache=cache, length=FAR.history + DEMO.chunk_frames)
    megabytes = memory_megabytes(load_kit(job.folder), longest)
    entering |= {f"{name}, {key}": [value] for key, value in megabytes.items()}
    yield f"scenery that returns, one chunk after a true history, by {name}", entering
    whole = _by_memory(job, whole_way_figures, NEAR, memories, job.sizes.whole_ways)
    yield f"scenery that returns, the whole way back after {NEAR.away} away, by {name}", whole


def _by_memory(
    job: EvaluationJob,
    measure: Callable[..., dict[str, float]],
    turn: CameraTurn,
    memories: Mapping[str, Memory],
    clips: int,
) -> Rows:
    measure_clip = partial(measure, turn=turn, memories=memories, recipe=job.recipe)
    figures = spread(measure_clip, job.clips(clips), job.folder, job.workers)
    return {key: [each[key] for each in figures] for key in figures[0]}


def _of_looks(job: EvaluationJob) -> Iterator[tuple[str, Rows]]:
    length = job.sizes.looks_latents
    for name, look in (
        (
            f"shares of frames in shots of {length} latent frames with switches",
            partial(looks, recipe=job.recipe, length=length),
        ),
        (
            "the same shares in decoded truth of the same prompts",
            partial(looks_of_truth, length=length),
        ),
    ):
        shots = spread(look, job.clips(job.sizes.looks), job.folder, job.workers)
        yield name, {key: [shot[key] for shot in shots] for key in shots[0]}


def _of_the_camera(job: EvaluationJob) -> Iterator[tuple[str, Rows]]:
    if load_kit(job.folder).config.camera == "none":
        return
    length = job.sizes.steering_latents
    rollout = partial(steering, recipe=job.recipe, length=length)
    for name, drive in (("drives, decoded truth", true_steering),
                        (f"drives of {length} latent frames", rollout)):  # fmt: skip
        drives = spread(drive, job.clips(job.sizes.steering), job.folder, job.workers)
        yield name, {key: [each[key] for each in drives] for key in drives[0]}


def write_card(results: Results, job: EvaluationJob, out: Path, elapsed_s: float) -> None:
    """Write `card.md`, and the same figures as `card.json`, into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    text = card(results, job.folder, job.recipe, elapsed_s)
    write_whole(out / "card.md", text)
    figures = {
        name: {key: asdict(value) for key, value in rows.items()} for name, rows in results.items()
    }
    write_whole(out / "card.json", json.dumps(figures, indent=1) + "\n")


@click.command(help=__doc__)
@click.option("--folder", type=FOLDER, default=FAST_FOLDER, help="The weights to measure.")
@click.option("--out", type=FOLDER, default=DEMO_FOLDER, help="Folder for the card.")
@click.option("--steps", type=click.IntRange(1), help="As the weights were trained unless given.")
@click.option("--seed", type=int, default=0, show_default=True, help="The first clip's.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1)
@click.option("--full-precision", type=FILE, help="fp32 VAE, to measure what fp16 loses.")
@click.option("--quick", is_flag=True, help="A smoke test: few clips, no card.")
def main(  # noqa: PLR0913  # one parameter per option
    folder: Path,
    out: Path,
    steps: int | None,
    seed: int,
    workers: int,
    full_precision: Path | None,
    quick: bool,
) -> None:
    sizes = QUICK if quick else Sizes()
    preset = overridden(preset_in(folder), steps=steps)
    recipe = Recipe(steps=preset.steps, first_steps=preset.first_steps, shift=preset.shift)
    job = EvaluationJob(folder, sizes, workers, recipe, seed, full_precision)
    began = time.monotonic()
    with reporting():
        results = measure(job)
        if not quick:
            write_card(results, job, out, time.monotonic() - began)


if __name__ == "__main__":
    main()
