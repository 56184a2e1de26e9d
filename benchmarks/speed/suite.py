"""Runs the cases of the speed bench in turn, proves that they agree, and judges who is ahead."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ...core.checkout import check_checkout
from ...model.preset import DEMO_FOLDER, RANGES_NAME
from ...model.vae.int8.ranges import load_ranges
from ...model.vae.precision import fastest_decoding
from .._shared.demo import demo_weights
from .._shared.demo_engine import engine
from .._shared.demo_shot import CHUNK, DemoShot, Networks, Play, plain_networks
from .._shared.paired import MIN_ROUNDS, Prepare, median_interval, ratio_interval
from .._shared.process_memory import peak_bytes
from .._shared.report import Results
from .breakdown import OVERHEAD, PARTS, chunk_shares
from .core_case import open_core_case
from .loops import recompute, recompute_by_diffusers, straight_loop
from .watching import BLOCK, FIRST, PROCESSOR, SWITCH, WHOLE, Showing, watch

OURS, STRAIGHT, RECOMPUTE, DIFFUSERS = "Longtake", "straight loop", "recompute", "diffusers"
CORE = "ComfyUI's sampler"
FLOAT32_TIMES = "straight loop with timesteps in float32"  # as ComfyUI's core embeds them
BUILDERS: Mapping[str, Callable[[Networks], Play]] = {
    OURS: engine, STRAIGHT: straight_loop, RECOMPUTE: recompute,
    DIFFUSERS: recompute_by_diffusers,
}  # fmt: skip
PARTS_OF_BENCH = PACE, MEMORY, BREAKDOWN = "pace", "memory", "breakdown"
CAN_SWITCH = (OURS, STRAIGHT)
LENGTHS: Mapping[tuple[int, int], int] = {(96, 64): 24, (128, 128): 24, (256, 256): 12}
"""Latent frames of the shots, by size in pixels."""
SWITCH_LATENTS = 4 * CHUNK
BREAKDOWN_LATENTS = 12 * CHUNK
SAME = 1e-4
MAX_OVERHEAD = 0.03
MIN_LEAD = 1.3  # of a whole shot, over the core's sampler
JUDGED = (WHOLE, FIRST)
COMPARED = (*JUDGED, BLOCK, PROCESSOR)

Figures = Mapping[str, float]
Case = Callable[[DemoShot], Showing]
"""Makes a shot and tells how it went."""


@dataclass(frozen=True, slots=True)
class SpeedPlan:
    """Sizes in pixels, rounds, and the seconds after which a size starts no more rounds.

    `latents` replaces the usual lengths. `comfy` is a ComfyUI checkout with the core's sampler.
    `parts` are those to measure. `installed`: Longtake decodes as Load Demo Model does on this CPU,
    and the others in float32.
    """

    sizes: tuple[tuple[int, int], ...] = tuple(LENGTHS)
    rounds: int = 7
    budget_s: float = 180.0
    latents: int | None = None
    comfy: Path | None = None
    parts: tuple[str, ...] = PARTS_OF_BENCH
    installed: bool = False


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    comfy = os.environ.get("COMFYUI_PATH")
    measure(SpeedPlan(comfy=Path(comfy) if comfy else None)).publish(json_path)


def measure(plan: SpeedPlan) -> Results:
    """Measure every size of the plan."""
    results = Results("speed", notes={"demo": ", ".join(demo_weights())})
    results.notes["threads of torch"] = str(torch.get_num_threads())
    networks = ours = plain_networks()
    with ExitStack() as stack:
        cases = open_cases(networks, results.notes)
        if plan.installed:
            results.notes[OURS] = "decodes as Load Demo Model does on this CPU."
            ours = as_installed(networks)
            cases[OURS] = partial(watch, BUILDERS[OURS](ours))
        if plan.comfy is None:
            results.notes[CORE] = "not measured: COMFYUI_PATH names no ComfyUI checkout."
        else:
            results.notes[CORE] = f"ComfyUI {check_checkout(plan.comfy)}"
            cases[CORE] = stack.enter_context(open_core_case(plan.comfy))
        for width, height in plan.sizes:
            shot = DemoShot(width, height, plan.latents or LENGTHS[width, height])
            if PACE in plan.parts:
                prove_same(cases, straight_loops(networks), shot, results)
                add_figures(results, shot, take_turns(cases, shot, plan))
            if MEMORY in plan.parts:
                add_memory(results, shot, cases, plan)
            if BREAKDOWN in plan.parts:
                add_breakdown(results, ours, shot)
    return results


def as_installed(networks: Networks) -> Networks:
    """The networks with the decoder that Load Demo Model chooses on this CPU."""
    ranges = load_ranges(DEMO_FOLDER / RANGES_NAME, networks.vae)
    return replace(networks, vae=fastest_decoding(networks.vae, ranges, torch.device("cpu")))


def open_cases(networks: Networks, notes: dict[str, str]) -> dict[str, Case]:
    """Every case of this process by name; why one is missing goes to `notes`."""
    cases = dict[str, Case]()
    for name, build in BUILDERS.items():
        try:
            cases[name] = partial(watch, build(networks))
        except ImportError:
            notes[name] = f"not measured: {name} is not installed."
    return cases


def straight_loops(networks: Networks) -> dict[str, Case]:
    """The loops whose latents the cases must make, by name."""
    dtypes = {STRAIGHT: torch.float64, FLOAT32_TIMES: torch.float32}
    return {name: partial(watch, straight_loop(networks, dtypes[name])) for name in dtypes}


def prove_same(
    cases: Mapping[str, Case], loops: Mapping[str, Case], shot: DemoShot, results: Results
) -> None:
    """Claim that all cases make the latents of a straight loop; this warms them up too."""
    expected = {name: loop(shot).latents for name, loop in loops.items()}
    for name, case in cases.items():
        latents = case(shot).latents
        if name != STRAIGHT:
            loop = FLOAT32_TIMES if name == CORE else STRAIGHT
            apart = (latents - expected[loop]).abs().max().item()
            text = f"{size_of(shot)}: {name} makes the latents of the {loop}"
            results.at_most(text, apart, SAME)


def take_turns(
    cases: Mapping[str, Case], shot: DemoShot, plan: SpeedPlan
) -> dict[str, list[Figures]]:
    """Return the figures of every case in every round; each round begins with another case."""
    names, began = [*cases], time.monotonic()
    rows: dict[str, list[Figures]] = {name: [] for name in names}
    switching = DemoShot(shot.width, shot.height, SWITCH_LATENTS, switches=True)
    for turn in range(plan.rounds):
        if turn >= MIN_ROUNDS and time.monotonic() - began > plan.budget_s:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            figures = cases[name](shot).figures
            if name in CAN_SWITCH:
                figures[SWITCH] = cases[name](switching).figures[SWITCH]
            rows[name].append(figures)
    return rows


def add_figures(results: Results, shot: DemoShot, rows: Mapping[str, Sequence[Figures]]) -> None:
    """Add every case's figures, and how many times ours each peer takes."""
    size = size_of(shot)
    for name, rounds in rows.items():
        for figure in rounds[0]:
            values = [row[figure] for row in rounds]
            results.figures[f"{size}: {name}: {figure}"] = median_interval(values)
        results.samples[f"{size}: {name}: {WHOLE}"] = [row[WHOLE] for row in rounds]
    for name, rounds in rows.items():
        if name == OURS:
            continue
        for figure in COMPARED:
            add_ratio(results, f"{size}: {name} / {OURS}", figure, rounds, rows[OURS])


def add_ratio(
    results: Results, text: str, figure: str, peer: Sequence[Figures], ours: Sequence[Figures]
) -> None:
    """Add one figure of a peer over ours; claim that we are ahead where seconds are judged."""
    above, below = ([row[figure] for row in rows] for rows in (peer, ours))
    ratio = ratio_interval(above, below)
    results.figures[f"{text}, {figure}"] = ratio
    if figure in JUDGED:
        needed = MIN_LEAD if CORE in text and figure == WHOLE else 1.0
        results.at_least(f"{text}, {figure}: we are ahead", ratio.low, needed)


def add_memory(
    results: Results, shot: DemoShot, cases: Mapping[str, Case], plan: SpeedPlan
) -> None:
    """Add the peak of each case in a process of its own, weights included."""
    for name in cases:
        label = f"{size_of(shot)}: {name}"
        if name == CORE and plan.comfy is not None:
            with open_core_case(plan.comfy) as core:
                results.bytes[f"peak: {label}"] = core.peak(shot)
        else:
            build = partial(memory_case, installed=plan.installed)
            results.bytes[f"peak: {label}"] = peak_bytes(build, label, shot.latents)


def memory_case(label: str, latents: int, *, installed: bool) -> Prepare:
    """Prepare the case of a label "WIDTHxHEIGHT: NAME"."""
    size, name = label.split(": ")
    width, height = map(int, size.split("x"))
    torch.set_num_threads(1)  # the peak must not depend on the machine
    networks, shot = plain_networks(), DemoShot(width, height, latents)
    play = BUILDERS[name](as_installed(networks) if installed and name == OURS else networks)
    return lambda: lambda: watch(play, shot)


def add_breakdown(results: Results, networks: Networks, shot: DemoShot) -> None:
    """Add the share of every part of our own run, and judge the engine's."""
    size = size_of(shot)
    longer = DemoShot(shot.width, shot.height, max(shot.latents, BREAKDOWN_LATENTS))
    seconds = chunk_shares(networks, longer)
    walls = [sum(chunk) for chunk in zip(*seconds.values(), strict=True)]
    for part in PARTS:
        share = ratio_interval(seconds[part], walls)
        results.figures[f"{size}: {OURS}: share of {part}"] = share
    engine_s = [sum(chunk) for chunk in zip(*(seconds[part] for part in OVERHEAD), strict=True)]
    share = ratio_interval(engine_s, walls)
    results.figures[f"{size}: {OURS}: share of the engine"] = share
    results.at_most(f"{size}: the engine takes less than 3 %", share.high, MAX_OVERHEAD)


def size_of(shot: DemoShot) -> str:
    """The size of a shot in a label."""
    return f"{shot.width}x{shot.height}"
