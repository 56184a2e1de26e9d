"""`longtake bench player`: ten minutes of 832x480 at 16 frames/s, in browser and server.

Uses the product's own routes and a plain page in Chromium. The pictures are numbered and as large
as real ones. A viewer follows the run to its end, then clicks many places on the seek bar. The
suite measures frames drawn per second, the wait for a picture, and the memory of page and server.

    python -m longtake.benchmarks.player --minutes 1 --json out.json

runs with another length. The suite needs Chromium, Node.js and `npm ci --prefix tests/browser`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..errors import BadInput
from ..stream.preview.frame_encoder import BUDGET_BYTES
from ..stream.preview.takes import Limits
from ._shared.paired import median_interval
from ._shared.report import Results

ROOT = Path(__file__).resolve().parents[1]
# tests/conftest.py binds the checkout, whatever its folder name, to the package name
WATCH = """
import runpy
runpy.run_path("tests/conftest.py")
from longtake.tests.browser.long_take import main
main()
"""
NEW_FILE = click.Path(path_type=Path, dir_okay=False)
MIB = 2**20
PAGE_BYTES = 256 * MIB  # pictures in the page: STORE_BYTES in web/player/takes/library.mjs
SCRIPT_BYTES = 32 * MIB  # everything else in the page's heap
BITMAPS = 32  # decoded pictures at any time
FLAT = 1.1  # largest max / min over the second half
SMOOTH = 0.95  # share of the take's frame rate that must be drawn


@dataclass(frozen=True, slots=True)
class PlayerPlan:
    """The take to watch; `grain` gives a picture about 70 kB."""

    minutes: float = 10.0
    fps: int = 16
    width: int = 832
    height: int = 480
    grain: float = 8.0
    chunk_frames: int = 12
    sample_s: float = 5.0
    presses: int = 100

    @property
    def run(self) -> dict[str, Any]:
        """Fields of `FakeRun`: the run is a little faster than playback."""
        frames = round(self.minutes * 60 * self.fps)
        size = {"width": self.width, "height": self.height, "grain": self.grain}
        pace = {"fps": self.fps, "chunk_frames": self.chunk_frames, "chunk_s": 0.1, "first_s": 0.0}
        return {"frames": frames, **size, **pace}


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    report(PlayerPlan(), json_path)


def report(plan: PlayerPlan, json_path: Path | None) -> None:
    """Measure, show and save."""
    results = evaluate(plan, watch_take(plan))
    results.publish(json_path)


def watch_take(plan: PlayerPlan) -> dict[str, Any]:
    """Return what tests/browser/long_take.mjs observed."""
    if not (ROOT / "tests" / "browser" / "long_take.py").is_file():
        raise BadInput("the player suite needs the tests folder; run it from the git repository.")
    options = {"sample_s": plan.sample_s, "presses": plan.presses, "run": plan.run}
    done = subprocess.run(
        [sys.executable, "-c", WATCH], input=json.dumps(options), stdout=subprocess.PIPE, text=True,
        cwd=ROOT,
    )  # fmt: skip
    if done.returncode != 0:
        raise BadInput(
            "the browser could not play the long take; see the output above for the reason."
        )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def evaluate(plan: PlayerPlan, seen: dict[str, Any]) -> Results:
    """Return the figures and the claims."""
    results = Results("player")
    samples = seen["samples"]
    results.samples = {**samples, "press_seconds": seen["press_seconds"]}
    results.figures["frames drawn per second"] = median_interval(samples["fps"])
    results.figures["share of the frames passed that were drawn"] = median_interval(
        samples["drawn_share"]
    )
    results.figures["seconds from a press on the bar to its picture"] = median_interval(
        seen["press_seconds"]
    )
    for name in ("script", "buffer", "renderer", "store", "spilled", "waiting", "server"):
        results.bytes[f"{name}, at most"] = round(max(samples[f"{name}_bytes"]))
    heap = [
        sum(pair) for pair in zip(samples["script_bytes"], samples["buffer_bytes"], strict=True)
    ]
    results.at_most("page: heap with its buffers, bytes", max(heap), PAGE_BYTES + SCRIPT_BYTES)
    results.at_most(
        "page: scripts' heap, second half, most over least", _spread(samples["script_bytes"]), FLAT
    )
    results.at_most("page: bitmaps at once", max(samples["bitmaps"]), BITMAPS)
    results.at_most(
        "server: frames in memory, bytes", max(samples["store_bytes"]), Limits().ram_bytes
    )
    results.at_most(
        "server: frames waiting to be encoded, bytes", max(samples["waiting_bytes"]), BUDGET_BYTES
    )
    results.at_most(
        "server: resident, second half, most over least", _spread(samples["server_bytes"]), FLAT
    )
    results.at_least("server: bytes spilled to files", max(samples["spilled_bytes"]), 1)
    low = results.figures["frames drawn per second"].low
    results.at_least("page: frames drawn per second (low bound)", low, SMOOTH * plan.fps)
    share = results.figures["share of the frames passed that were drawn"].low
    results.at_least("page: share of the frames passed that were drawn (low bound)", share, SMOOTH)
    wrong = sum(samples["wrong"]) + seen["wrong_presses"]
    results.at_most("page: pictures that were not the frame they were said to be", wrong, 0)
    return results


def _spread(values: list[float]) -> float:
    later = values[len(values) // 2 :]
    return max(later) / min(later)


@click.command()
@click.option("--minutes", default=PlayerPlan().minutes, help="Length of the take.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to this file.")
def command(minutes: float, json_path: Path | None) -> None:
    """Watch a long take in Chromium."""
    report(PlayerPlan(minutes=minutes), json_path)


if __name__ == "__main__":
    sys.exit(command())
