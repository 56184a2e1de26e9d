"""`longtake bench attention_layer`: from which history on block-sparse attention is faster.

One layer of the embedded model at 128x128, its four steps of a chunk (two of them dense, one search
for blocks, one estimate of recall), against four dense ones in the same rounds. Processor time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ._attention.layer import DENSITIES, FRAME_TOKENS, layer_case
from ._shared.paired import median_interval, paired_seconds, ratio_interval
from ._shared.report import Results


@dataclass(frozen=True, slots=True)
class Plan:
    """Histories in latent frames, and how often each is timed."""

    histories: tuple[int, ...] = (64, 256, 1024)
    rounds: int = 12
    budget_s: float = 120.0


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path` when there is one."""
    results = measure(Plan())
    results.publish(json_path)


def measure(plan: Plan) -> Results:
    """All histories."""
    results = Results("attention_layer")
    for history in plan.histories:
        cases = {"dense": layer_case("dense", history)}
        cases |= {f"AnnSA {d:g}": layer_case(str(d), history) for d in DENSITIES}
        seconds = paired_seconds(
            cases, rounds=plan.rounds, budget_s=plan.budget_s, clock=time.process_time
        )
        keys = history * FRAME_TOKENS
        for name, values in seconds.items():
            label = f"{name}, {keys} keys"
            results.samples[label] = values
            results.figures[label] = median_interval(values)
            if name != "dense":
                ratio = ratio_interval(seconds["dense"], values)
                results.figures[f"dense / {label}"] = ratio
                results.at_least(f"{name} is faster than dense at {keys} keys", ratio.low, 1)
    return results
