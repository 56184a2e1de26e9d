"""Measures the cascade bench's parts, and judges what a second stage promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ...model.config import FRAMES_PER_LATENT
from ...model.preset import DEMO, DEMO_FOLDER
from ...training.evaluation.kit import load_kit
from .._shared.demo import demo_weights
from .._shared.paired import median_interval, ratio_interval
from .._shared.process_memory import peak_bytes
from .._shared.report import Results
from .quality import TRUTH, measure_quality
from .shots import (
    AFTERWARDS,
    BASE,
    ONE_SHOT,
    ShotTimes,
    demo_shot,
    make_shot,
    shot_case,
)
from .stages import HEIGHT, PLAIN, STAGES, USUAL, WIDTH, Stage

SMALL, LARGE, FPS = "first small frame, s", "first large frame, s", "frames a second"
LONGER = 4  # times as many chunks, to see how peaks of memory grow
CHUNK_BYTES = FRAMES_PER_LATENT * DEMO.chunk_frames * 3 * HEIGHT * WIDTH * 4
"""Bytes of a chunk's large frames."""
GROWS = 0.1  # of them that a further chunk takes, at most


@dataclass(frozen=True, slots=True)
class CascadePlan:
    """Stages by name, chunks of a shot, rounds of runs, clips for quality, and whether peaks."""

    stages: tuple[str, ...] = USUAL
    chunks: int = 20
    rounds: int = 5
    clips: int = 8
    memory: bool = True


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    measure(CascadePlan()).publish(json_path)


def measure(plan: CascadePlan) -> Results:
    """Measure quality, times, equality and peaks of memory."""
    names = dict.fromkeys((PLAIN, *plan.stages))
    stages = {name: STAGES[name]() for name in names}
    results = Results("cascade", notes={name: stage.note for name, stage in stages.items()})
    results.notes["demo"] = ", ".join(demo_weights())
    add_quality(results, stages, plan.clips)
    add_times(results, stages, plan)
    add_equality(results, stages)
    if plan.memory:
        add_peaks(results, stages, plan.chunks)
    return results


def add_quality(results: Results, stages: Mapping[str, Stage], clips: int) -> None:
    """Add each stage's figures, and its gain over bicubic, clip by clip."""
    kit = load_kit(DEMO_FOLDER)
    rows = [measure_quality(kit, seed, stages) for seed in range(clips)]
    for name in rows[0]:
        results.figures[name] = median_interval([row[name] for row in rows])
    for name, stage in stages.items():
        if name == PLAIN:
            continue
        gains = [row[f"{name}: {TRUTH}"] - row[f"{PLAIN}: {TRUTH}"] for row in rows]
        gain = results.figures[f"{name}: gain over {PLAIN}, dB"] = median_interval(gains)
        if stage.least_gain_db is not None:
            text = f"{name}: gain over {PLAIN} on true frames, dB"
            results.at_least(text, gain.low, stage.least_gain_db)


def add_times(results: Results, stages: Mapping[str, Stage], plan: CascadePlan) -> None:
    """Add what runs take that take turns, after one round that is not counted."""
    cases = {BASE: (BASE, stages[PLAIN])}
    for name, stage in stages.items():
        cases |= {f"{name}, {way}": (way, stage) for way in (ONE_SHOT, AFTERWARDS)}
    times: dict[str, list[ShotTimes]] = {label: [] for label in cases}
    labels = [*cases]
    for turn in range(-1, plan.rounds):
        first = turn % len(labels)
        for label in labels[first:] + labels[:first]:
            way, stage = cases[label]
            shot = make_shot(way, stage, plan.chunks, seed=0)
            if turn >= 0:
                times[label].append(shot)
    for label, shots in times.items():
        add_case(results, label, shots)
    for name, stage in stages.items():
        judge_stage(results, name, stage)


def add_case(results: Results, label: str, times: Sequence[ShotTimes]) -> None:
    """Add a case's seconds and frames a second."""
    results.samples[f"{label}: {SMALL}"] = [each.first_small_s for each in times]
    results.samples[f"{label}: {LARGE}"] = [each.first_large_s for each in times]
    results.samples[f"{label}: {FPS}"] = [each.frames / each.total_s for each in times]
    for what in (SMALL, LARGE, FPS):
        samples = results.samples[f"{label}: {what}"]
        results.figures[f"{label}: {what}"] = median_interval(samples)


def judge_stage(results: Results, name: str, stage: Stage) -> None:
    """Compare one shot with the base alone, and with enlarging afterwards, round by round."""
    samples = results.samples

    def ratio(what: str, above: str, below: str) -> float:
        figure = ratio_interval(samples[f"{above}: {what}"], samples[f"{below}: {what}"])
        results.figures[f"{above} / {below}: {what}"] = figure
        return figure.high

    together, after = f"{name}, {ONE_SHOT}", f"{name}, {AFTERWARDS}"
    ratio(FPS, together, BASE)
    ratio(FPS, together, after)
    sooner = ratio(LARGE, together, after)
    results.at_most(f"{name}: first large frame, one shot over afterwards", sooner, 1)
    if stage.least_fps is not None:
        rate = results.figures[f"{together}: {FPS}"].low
        results.at_least(f"{name}: frames a second as one shot", rate, stage.least_fps)


def add_equality(results: Results, stages: Mapping[str, Stage], chunks: int = 4) -> None:
    """Claim that chunk by chunk a stage makes the frames that it makes of the whole."""
    with TemporaryDirectory() as folder, torch.inference_mode():
        parts = [chunk.frames for chunk in demo_shot(Path(folder), chunks, 0).chunks]
    for name, stage in stages.items():
        enlarger = stage.open()
        with torch.inference_mode():
            larger_parts = [larger for part in parts for larger in enlarger.feed(part)]
            by_chunk = torch.cat([*larger_parts, *enlarger.drain()])
        apart = (by_chunk - stage.enlarge(torch.cat(parts))).abs().max()
        results.at_most(f"{name}: one shot from afterwards, any pixel", float(apart), 0)


def add_peaks(results: Results, stages: Mapping[str, Stage], chunks: int) -> None:
    """Add peaks by length; a shot with its stage holds few of its frames, however long it is."""
    for name in stages:
        for way in (BASE, ONE_SHOT, AFTERWARDS):
            if way == BASE and name != PLAIN:
                continue
            label = way if way == BASE else f"{name}, {way}"
            peaks = [peak_bytes(shot_case, f"{way},{name}", count) for count in
                     (chunks, LONGER * chunks)]  # fmt: skip
            for count, peak in zip((chunks, LONGER * chunks), peaks, strict=True):
                results.bytes[f"{label}: peak of {count} chunks"] = peak
            if way == ONE_SHOT and peaks[0] and peaks[1]:
                further = (peaks[1] - peaks[0]) / (LONGER * chunks - chunks)
                text = f"{label}: memory of a further chunk, over its large frames"
                results.at_most(text, further / CHUNK_BYTES, GROWS)
