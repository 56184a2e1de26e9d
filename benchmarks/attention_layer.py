"""`longtake bench attention_layer`: the history from which block-sparse attention is faster.

Runs one layer of the embedded model at 128x128 through the four steps of a chunk. Two of the sparse
steps are dense, one searches for blocks, and one estimates recall. Four dense steps run in the same
rounds. Times are processor times.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ._attention.layer import DENSITIES, FRAME_TOKENS, layer_case
from ._shared.paired import median_interval, paired_seconds, ratio_interval
from ._shared.report import Results


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """Histories in latent frames, and the number of timed rounds."""

    histories: tuple[int, ...] = (64, 256, 1024)
    rounds: int = 12
    budget_s: float = 120.0


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    results = measure(LayerPlan())
    results.publish(json_path)


def measure(plan: LayerPlan) -> Results:
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
