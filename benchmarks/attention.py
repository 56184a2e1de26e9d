"""`longtake bench attention`: what long histories cost: dense, windowed, merged, sparse.

A chunk of the embedded model at 128x128 after 64 to 4,096 latent frames, decoding included; every
case in turn in one run, by the processor's time of one process, which a busy machine changes
little. Beside time: the bytes of the KV cache, and of what is in work beside it at the peak of one
more such chunk, which is not timed; how like dense attention's the decoded chunk is, from the same
noise. Where there is an NVIDIA GPU, then the same of a model of 1.3B's shape at 480x832 with random
weights, dense attention to everything as far as it fits the GPU's memory, by all time that passes.

What is remembered and how good the picture is at lengths the model was trained for are experiments
of their own: `attention_recall`, `attention_quality`.

    python -m longtake.benchmarks.attention --history 256 --history 2048 --rounds 3 --case dense
    python -m longtake.benchmarks.attention --history 2048 --ablation
    python -m longtake.benchmarks.attention --device cuda

is the same with options, of one model alone. Cases are in `_attention_cases.py`; those of the
paper's ablation are left out from 512 latent frames on, and on a GPU, unless cases are chosen. At
each history a case costs a chunk for each round and two more: on a CPU half a second each for one
of bounded memory, whatever the history, and over the full history 0.6 s at 64 latent frames and 9 s
at 2,048. So 21 cases are 4 minutes at 64, and cases over the full history end after 3 rounds where
these took `--budget` seconds. In all about an hour of one core, and 8 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click
import torch
from rich.console import Console

from ..training.command import reporting
from ..training.evaluation.psnr import psnr
from ._attention.cases import ABLATION, CASES, FULL
from ._attention.claims import claim, summarise
from ._attention.flat import Filled, claim_flat, of_flat_cases, time_in_turn
from ._attention.plan import ON_CPU, ON_GPU, Plan
from ._attention.speed import SpeedBench
from ._attention.speed_model import SpeedModel, embedded
from ._attention.wan_shaped import on_gpu
from ._shared.device import clock, device_title
from ._shared.paired import MIN_ROUNDS, median_interval
from ._shared.report import Results
from ._shared.similarity import ssim

EQUAL_DB = 99.0  # of pictures that are equal
DEVICES: Mapping[str, tuple[Plan, Callable[[], SpeedModel]]] = {
    "cpu": (ON_CPU, embedded), "cuda": (ON_GPU, on_gpu),
}  # fmt: skip
"""What is measured where."""


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path`, also after each history."""
    results = Results("attention")
    for device, (plan, model) in DEVICES.items():
        if device == "cpu" or torch.cuda.is_available():
            measure(plan, model(), results, json_path)
    results.show(Console(soft_wrap=True))


def measure(plan: Plan, model: SpeedModel, results: Results, json_path: Path | None) -> None:
    """All histories of a model, the shortest first; what there is, is written after each."""
    bench = SpeedBench(model, plan.histories, [CASES[name] for name in plan.cases])
    plan = replace(plan, reach=bench.reach, of=model.name)
    held = dict[int, Filled]()
    describe(plan, results, bench)
    for history in plan.histories:
        bench.keep_only([CASES[name] for name in plan.at(history)], history)
        bench.fill(history)
        compare(plan, results, bench, history)
        filled = bench.snapshot()
        if history in plan.flat[1]:
            held[history] = of_flat_cases(plan, filled)
        time_at(plan, results, bench, history)
        weigh(plan, results, bench, history)
        bench.restore(filled)  # longer histories go on from true frames
        summarise(plan, results, history)
        if json_path is not None:
            results.save(json_path)
    time_in_turn(plan, results, bench, held)
    claim(plan, results)
    claim_flat(plan, results)
    if json_path is not None:
        results.save(json_path)


def describe(plan: Plan, results: Results, bench: SpeedBench) -> None:
    """What is measured on what, and what is not."""
    device = bench.model.device
    results.notes[f"{plan.of}model"] = bench.model.note
    if device.type == "cuda":
        results.accelerator = device_title(device)
    for history in [history for history in plan.histories if history > bench.reach]:
        results.notes[f"{plan.of}history {history}"] = (
            "cases over the full history were not run: their keys and values take "
            f"{bench.full_bytes(history) / 1e9:.0f} GB, which do not fit beside the other caches"
        )


def compare(plan: Plan, results: Results, bench: SpeedBench, history: int) -> None:
    """Every case's chunk from one noise against that of dense attention to everything, where that
    fits; it also warms up.
    """
    baselines = {CASES[name].baseline for name in plan.at(history) if history <= bench.reach}
    of_dense = {name: bench.chunk(CASES[name], keep=False)[1] for name in baselines}
    for name in plan.at(history):
        stats, made = bench.chunk(CASES[name], keep=False)
        dense, found = of_dense.get(CASES[name].baseline), dict[str, float]()
        if dense is not None:
            found = {"PSNR": min(psnr(made, dense), EQUAL_DB), "SSIM": ssim(made, dense)}
        if stats.density is not None:
            found["density"] = stats.density
        for what, value in found.items():
            results.figures[f"{what}: {plan.label(name, history)}"] = median_interval([value])


def time_at(plan: Plan, results: Results, bench: SpeedBench, history: int) -> None:
    """Time every case in turn, beginning with another one in each round."""
    names, spent, now = plan.at(history), 0.0, clock(bench.model.device)
    for turn in range(plan.rounds):
        if turn >= MIN_ROUNDS and spent > plan.budget_s:
            names = [name for name in names if CASES[name].cache != FULL]
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            started = now()
            bench.chunk(CASES[name])
            elapsed = now() - started
            results.samples.setdefault(plan.label(name, history), []).append(elapsed)
            spent += elapsed if CASES[name].cache == FULL else 0.0


def weigh(plan: Plan, results: Results, bench: SpeedBench, history: int) -> None:
    """The bytes of every case's cache, and of what is in work beside it in one more chunk: in all,
    and before it is decoded, which takes as much in every case and often the most.
    """
    decoding = bench.peak_of_decoding()
    for name in plan.at(history):
        at, making = plan.label(name, history), bench.peak_of_making(CASES[name])
        results.bytes[f"KV cache: {at}"] = bench.held_bytes(CASES[name])
        results.bytes[f"in work: {at}"] = max(making, decoding)
        results.bytes[f"in work before decoding: {at}"] = making


@click.command(help=__doc__)
@click.option(
    "--history", "histories", multiple=True, type=click.IntRange(1), help="Latent frames."
)
@click.option("--rounds", type=click.IntRange(1), default=ON_CPU.rounds, show_default=True)
@click.option("--case", "names", multiple=True, type=click.Choice([*CASES]), help="Only these.")
@click.option("--ablation", is_flag=True, help="Those of the ablation, beside any --case.")
@click.option("--budget", "budget_s", default=ON_CPU.budget_s, show_default=True, help="Seconds.")
@click.option("--device", type=click.Choice([*DEVICES]), default="cpu", show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(  # noqa: PLR0913
    histories: tuple[int, ...], rounds: int, names: tuple[str, ...], ablation: bool,
    budget_s: float, device: str, json_path: Path | None,
) -> None:  # fmt: skip
    """Command line."""
    usual, model = DEVICES[device]
    lengths = tuple(sorted(set(histories or usual.histories)))
    plan = replace(usual, histories=lengths, rounds=rounds, budget_s=budget_s)
    results = Results("attention")
    with reporting():
        measure(plan.only(names + tuple(ABLATION) * ablation), model(), results, json_path)
        results.show(Console(soft_wrap=True))


if __name__ == "__main__":
    command()
