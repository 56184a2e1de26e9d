"""The drive bench: drives in a real browser, figures and claims."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import BadInput
from .._shared.paired import median_interval, percentile_interval
from .._shared.report import Results
from .drives import Drive, observe
from .presses import Press, draw_presses

ROOT = Path(__file__).resolve().parents[2]
# tests/conftest.py binds the checkout, whatever its folder name, to the package name
WATCH = """
import runpy
runpy.run_path("tests/conftest.py")
from longtake.tests.browser.steering.live_drive import main
main()
"""
MODES: Mapping[str, str] = {
    "hold": "held keys", "re-plan": "held keys, re-plan", "history": "every press, one chunk later",
}  # fmt: skip
"""The choices of *When keys act*, by their value in web/player/drive/drive_pad.mjs."""

SPEEDS: Mapping[int, str] = {1: "as the shot plays", 2: "at double speed"}
RATE = 24.0  # frames a second that must be drawn at double speed
KEY_TO_PIXEL_S = 0.6
SMOOTH = 0.95  # share of the shot's own frame rate that must be drawn at single speed
PERCENT = 95


@dataclass(frozen=True, slots=True)
class DrivePlan:
    """How much to drive; `presses` counts for each choice and speed, without reversals."""

    presses: int = 50
    modes: tuple[str, ...] = tuple(MODES)
    width: int = 96
    height: int = 64
    seed: int = 1
    rest_s: float = 2.0
    fps: float = 16.0

    def for_mode(self, mode: str) -> dict[str, Any]:
        """Return the plan for tests/browser/steering/live_drive.py."""
        phases = [
            {"speed": speed, "presses": [asdict(press) for press in self._presses(speed)]}
            for speed in SPEEDS
        ]
        changes = [
            "LongtakeLoadDemoModel.quality=fast", "LongtakeSchedule.chunk_frames=1",
            f"LongtakeSampler.width={self.width}", f"LongtakeSampler.height={self.height}",
            "LongtakeSampler.length=0",
        ]  # fmt: skip
        return {"mode": mode, "rest_s": self.rest_s, "phases": phases, "changes": changes}

    def _presses(self, speed: int) -> list[Press]:
        return draw_presses(self.presses, self.seed + speed)


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    measure(DrivePlan()).publish(json_path)


def measure(plan: DrivePlan) -> Results:
    """Drive with each choice of the plan."""
    seen = {mode: drive_in_browser(plan.for_mode(mode)) for mode in plan.modes}
    drives = {mode: [*map(observe, run["phases"])] for mode, run in seen.items()}
    results = evaluate(plan, drives)
    for mode, run in seen.items():
        results.notes[f"{MODES[mode]}, of {run['frames']} frames"] = (
            f"block latency {run['report']['block_latency_s']:.3f} s, "
            f"{run['replanned']} unseen chunks made again"
        )
        results.notes["browser"] = f"Chromium {run['browser']}"
    return results


def drive_in_browser(plan: dict[str, Any]) -> dict[str, Any]:
    """Return what tests/browser/steering/live_drive.py observed."""
    if not (ROOT / "tests" / "browser" / "steering" / "live_drive.py").is_file():
        raise BadInput("the drive suite needs the tests folder; run it from the git repository.")
    done = subprocess.run(
        [sys.executable, "-c", WATCH], input=json.dumps(plan), stdout=subprocess.PIPE, text=True,
        cwd=ROOT,
    )  # fmt: skip
    if done.returncode != 0:
        raise BadInput("the browser could not drive the run; see the output above for the reason.")
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def evaluate(plan: DrivePlan, drives: Mapping[str, Sequence[Drive]]) -> Results:
    """Return the figures and the claims; `drives` has one for each choice and speed."""
    results = Results("drive")
    for mode, phases in drives.items():
        for speed, drive in zip(SPEEDS, phases, strict=True):
            where = f"{MODES[mode]}, {SPEEDS[speed]}"
            results.samples |= {f"{where}: {name}": each for name, each in _samples(drive).items()}
            _judge_rate(results, where, drive, RATE if speed > 1 else SMOOTH * plan.fps)
            _judge_keys(results, where, drive)
    return results


def _samples(drive: Drive) -> dict[str, list[float]]:
    return {
        name: value if isinstance(value, list) else [value] for name, value in asdict(drive).items()
    }


def _judge_rate(results: Results, where: str, drive: Drive, least: float) -> None:
    rate = median_interval(drive.rates)
    results.figures[f"{where}: frames drawn a second"] = rate
    results.at_least(f"{where}: frames drawn a second (low bound)", rate.low, least)
    results.at_least(f"{where}: frames drawn a second, mean", drive.mean_rate, least)


def _judge_keys(results: Results, where: str, drive: Drive) -> None:
    for name, seconds in {"key to pixel": drive.pixel_s, "player's own": drive.player_s}.items():
        most = percentile_interval(seconds, PERCENT)
        results.figures[f"{where}: {name}, s"] = median_interval(seconds)
        results.figures[f"{where}: {name}, p{PERCENT}, s"] = most
        results.at_most(f"{where}: {name}, p{PERCENT} (high bound), s", most.high, KEY_TO_PIXEL_S)
    if drive.beyond_player_s:
        beyond = median_interval(drive.beyond_player_s)
        results.figures[f"{where}: pixel later than the player says, s"] = beyond
    still = percentile_interval(drive.still_px, PERCENT)
    results.figures[f"{where}: jumps of a still camera, p{PERCENT}, pixels"] = still
