"""`longtake bench attention`: the cost of long histories: dense, windowed, merged, sparse.

The embedded model makes one chunk at 128x128 after 64 to 4,096 latent frames, decoding included.
All cases take turns in one run. Times are processor times of one process, which other programs
hardly change. The suite also records the bytes of the KV cache, and the peak of working memory
during one more, untimed chunk. It compares each decoded chunk with dense attention's chunk from the
same noise. On an NVIDIA GPU the suite then measures a model of 1.3B's shape at 480x832 with random
weights, in wall time. Dense attention to everything runs there as far as it fits into the GPU's
memory.

Memory and picture quality at lengths the model was trained for are separate suites:
`attention_recall` and `attention_quality`.

    python -m longtake.benchmarks.attention --history 256 --history 2048 --rounds 3 --case dense
    python -m longtake.benchmarks.attention --history 2048 --ablation
    python -m longtake.benchmarks.attention --device cuda
    python -m longtake.benchmarks.attention --layer
    python -m longtake.benchmarks.attention --heads

run parts of the suite, each on one model. `_attention/cases.py` defines the cases. Unless --case or
--ablation names them, the cases of the paper's ablation are left out from 512 latent frames on, and
on a GPU. At each history a case makes one chunk per round and two more. On a CPU a chunk takes half
a second in cases of bounded memory, whatever the history. Over the full history it takes 0.6 s at
64 latent frames and 9 s at 2,048. So 21 cases take 4 minutes at 64. Cases over the full history end
after 3 rounds if these took `--budget` seconds. The whole suite takes about an hour of one core,
and 8 GB. --layer measures one layer instead: from which history on are blocks faster? It goes
through the four steps of a chunk. Two of the sparse steps are dense, one searches for blocks, and
one estimates recall. Four dense steps run in the same rounds. --heads measures a window of which
each head reads a part (`_attention/heads.py`), in some five minutes.
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
from ._attention.flat import CacheSnapshots, claim_flat, select_flat_cases, time_in_turn
from ._attention.heads import HeadsPlan, measure_heads
from ._attention.layer import LayerPlan, measure_layers
from ._attention.plan import ON_CPU, ON_GPU, SpeedPlan
from ._attention.speed import SpeedBench
from ._attention.speed_model import SpeedModel, embed
from ._attention.wan_shaped import on_gpu
from ._shared.device import clock, device_title
from ._shared.paired import MIN_ROUNDS, median_interval
from ._shared.report import Results
from ._shared.similarity import ssim

EQUAL_DB = 99.0  # PSNR recorded for identical pictures
DEVICES: Mapping[str, tuple[SpeedPlan, Callable[[], SpeedModel]]] = {
    "cpu": (ON_CPU, embed), "cuda": (ON_GPU, on_gpu),
}  # fmt: skip
"""The plan and the model for each device."""


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` after each history."""
    results = Results("attention")
    for device, (plan, model) in DEVICES.items():
        if device == "cpu" or torch.cuda.is_available():
            measure(plan, model(), results, json_path)
    results.show(Console(soft_wrap=True))


def measure(plan: SpeedPlan, model: SpeedModel, results: Results, json_path: Path | None) -> None:
    """Measure all histories of a model, the shortest first; save the results after each."""
    bench = SpeedBench(model, plan.histories, [CASES[name] for name in plan.cases])
    plan = replace(plan, reach=bench.reach, prefix=model.name)
    snapshots = dict[int, CacheSnapshots]()
    note_setup(plan, results, bench)
    for history in plan.histories:
        bench.keep_only([CASES[name] for name in plan.cases_at(history)], history)
        bench.fill(history)
        compare(plan, results, bench, history)
        filled = bench.snapshot()
        if history in plan.flat[1]:
            snapshots[history] = select_flat_cases(plan, filled)
        time_cases(plan, results, bench, history)
        measure_memory(plan, results, bench, history)
        bench.restore(filled)  # longer histories continue from true frames
        summarise(plan, results, history)
        if json_path is not None:
            results.save(json_path)
    time_in_turn(plan, results, bench, snapshots)
    claim(plan, results)
    claim_flat(plan, results)
    if json_path is not None:
        results.save(json_path)


def note_setup(plan: SpeedPlan, results: Results, bench: SpeedBench) -> None:
    """Note the model and the device, and the histories too long for dense attention."""
    device = bench.model.device
    results.notes[f"{plan.prefix}model"] = bench.model.note
    if device.type == "cuda":
        results.accelerator = device_title(device)
    for history in [history for history in plan.histories if history > bench.reach]:
        results.notes[f"{plan.prefix}history {history}"] = (
            "cases over the full history were not run: their keys and values take "
            f"{bench.full_bytes(history) / 1e9:.0f} GB and do not fit beside the other caches"
        )


def compare(plan: SpeedPlan, results: Results, bench: SpeedBench, history: int) -> None:
    """Compare every case's chunk with dense attention's chunk from the same noise.

    Cases without a dense chunk that fits into memory get no comparison. The pass also warms up all
    cases.
    """
    baselines = {CASES[name].baseline for name in plan.cases_at(history) if history <= bench.reach}
    dense_chunks = {name: bench.chunk(CASES[name], keep=False)[1] for name in baselines}
    for name in plan.cases_at(history):
        stats, frames = bench.chunk(CASES[name], keep=False)
        dense, figures = dense_chunks.get(CASES[name].baseline), dict[str, float]()
        if dense is not None:
            figures = {"PSNR": min(psnr(frames, dense), EQUAL_DB), "SSIM": ssim(frames, dense)}
        if stats.density is not None:
            figures["density"] = stats.density
        for what, value in figures.items():
            results.figures[f"{what}: {plan.label(name, history)}"] = median_interval([value])


def time_cases(plan: SpeedPlan, results: Results, bench: SpeedBench, history: int) -> None:
    """Time every case in turn, starting with a different case in each round."""
    names, spent, now = plan.cases_at(history), 0.0, clock(bench.model.device)
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


def measure_memory(plan: SpeedPlan, results: Results, bench: SpeedBench, history: int) -> None:
    """Record the bytes of every case's cache, and the peak of working memory in one more chunk.

    The peak before decoding is recorded separately: decoding takes as much in every case, and often
    the most.
    """
    decoding = bench.peak_of_decoding()
    for name in plan.cases_at(history):
        at, making = plan.label(name, history), bench.peak_of_generation(CASES[name])
        results.bytes[f"KV cache: {at}"] = bench.held_bytes(CASES[name])
        results.bytes[f"in work: {at}"] = max(making, decoding)
        results.bytes[f"in work before decoding: {at}"] = making


@click.command(help=__doc__)
@click.option(
    "--history", "histories", multiple=True, type=click.IntRange(1), help="Latent frames."
)
@click.option("--rounds", type=click.IntRange(1), default=ON_CPU.rounds, show_default=True)
@click.option("--case", "names", multiple=True, type=click.Choice([*CASES]), help="Only these.")
@click.option("--ablation", is_flag=True, help="Run the ablation, besides any --case.")
@click.option("--budget", "budget_s", default=ON_CPU.budget_s, show_default=True, help="Seconds.")
@click.option("--device", type=click.Choice([*DEVICES]), default="cpu", show_default=True)
@click.option("--layer", is_flag=True, help="Only one layer, dense and by blocks.")
@click.option("--heads", is_flag=True, help="Only a window of which each head reads a part.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(  # noqa: PLR0913
    histories: tuple[int, ...], rounds: int, names: tuple[str, ...], ablation: bool,
    budget_s: float, device: str, layer: bool, heads: bool, json_path: Path | None,
) -> None:  # fmt: skip
    if layer:
        measure_layers(LayerPlan()).publish(json_path)
        return
    if heads:
        measure_heads(HeadsPlan()).publish(json_path)
        return
    default_plan, model = DEVICES[device]
    lengths = tuple(sorted(set(histories or default_plan.histories)))
    plan = replace(default_plan, histories=lengths, rounds=rounds, budget_s=budget_s)
    results = Results("attention")
    with reporting():
        measure(plan.only(names + tuple(ABLATION) * ablation), model(), results, json_path)
        results.show(Console(soft_wrap=True))


if __name__ == "__main__":
    command()
