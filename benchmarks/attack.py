"""`longtake bench attack`: is anything lost, or anything wrong accepted, under attack?

Runs are killed, disks fail, bits flip in chunks, records and snapshots, saved rollouts are mutated,
servers of a batch lie and hang, and the player page gets fuzzed requests. Nothing delivered may be
lost, no video may differ, nothing wrong may be accepted. No user may meet a traceback or a hang.

    python -m longtake.benchmarks.attack --kills 12 --faults 9 --seed 7 --json out.json

runs fewer attacks of some kinds, with other dice.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch

from ..errors import BadInput
from ..training.command import reporting
from ._attack import bit_flips, faults, requests, rollout_files, servers
from ._attack.forked import Call, start
from ._attack.tally import Tally
from ._long.kill import KINDS, WAYS
from ._shared.report import Results
from .crash import CrashPlan, kill_runs

SERVERS_LIMIT_S = 2400.0
SHOWN_PROBLEMS = 20  # of one kind of attack
Attack = Callable[[int, int, Callable[[str], None]], Tally]


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """The number of attacks of each kind; 0 leaves a kind out."""

    kills: int = 200
    faults: int = 200
    flips: int = 200
    files: int = 200
    servers: int = len(servers.KINDS)
    requests: int = 5000
    seed: int = 0


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    report(AttackPlan(), json_path)


def report(plan: AttackPlan, json_path: Path | None) -> None:
    """Attack, show and save."""
    torch.set_num_threads(1)  # each run is small, and forks share no threads
    logging.getLogger("longtake").setLevel(logging.ERROR)  # damage is expected
    measure(plan).publish(json_path)


def measure(plan: AttackPlan) -> Results:
    """Run all attacks of a plan."""
    if not hasattr(os, "fork"):
        raise BadInput("the attack suite needs POSIX process signals; run it on Linux or macOS.")
    results = Results("attack")
    waiting = start(lambda: _attack_servers(plan)) if plan.servers else None  # it mostly waits
    if plan.kills:
        _claim_kills(results, plan)
    parts: dict[str, tuple[Attack, int]] = {
        "injected faults": (faults.attack, plan.faults),
        "flipped bits": (bit_flips.attack, plan.flips),
        "mutated rollout files": (rollout_files.attack, plan.files),
        "fuzzed requests": (requests.attack, plan.requests),
    }
    for name, (attack, count) in parts.items():
        if count:
            began, shown = time.monotonic(), list[str]()
            tally = attack(count, plan.seed, shown.append)
            _claim(results, name, tally, count, time.monotonic() - began, shown)
    if waiting is not None:
        _claim_servers(results, plan, waiting)
    return results


def _claim_kills(results: Results, plan: AttackPlan) -> None:
    """Divide the kills among all schedules and ways to resume."""
    began, totals = time.monotonic(), Counter[str]()
    kills = -(-plan.kills // (len(KINDS) * len(WAYS)))
    for kind in KINDS:
        for way in WAYS:
            totals.update(asdict(kill_runs(kind, way, CrashPlan(kills=kills, seed=plan.seed))))
    name = f"kills in {totals['runs']} runs"
    results.at_least(f"{name}, as many as asked for", totals["kills"], plan.kills)
    results.at_most(f"{name}, delivered chunks lost", totals["lost"], 0)
    results.at_most(f"{name}, other latents or frames", totals["different"], 0)
    results.at_most(f"{name}, files not whole", totals["torn"], 0)
    results.samples["kills"] = [time.monotonic() - began]


def _attack_servers(plan: AttackPlan) -> str:
    """Meet the servers in a process of its own; the tally as JSON."""
    began, shown = time.monotonic(), list[str]()
    tally = servers.attack(plan.servers, plan.seed, shown.append)
    seconds = time.monotonic() - began
    return json.dumps([dict(tally.attempts), tally.problems, shown, seconds])


def _claim_servers(results: Results, plan: AttackPlan, waiting: Call) -> None:
    outcome = waiting.outcome(SERVERS_LIMIT_S)
    if outcome.end != "done":
        raise RuntimeError(f"the attack of the servers ended with {outcome.end}: {outcome.text}")
    attempts, problems, shown, seconds = json.loads(outcome.text)
    tally = Tally(Counter(attempts), problems)
    expected = min(plan.servers, len(servers.KINDS))
    _claim(results, "kinds of bad server", tally, expected, seconds, shown)


def _claim(  # noqa: PLR0913
    results: Results, name: str, tally: Tally, expected: int, seconds: float, shown: list[str]
) -> None:
    """Claim that there were as many attacks as asked for, and that none did harm."""
    results.at_least(f"{name}, as many as asked for", tally.count, expected)
    results.at_most(f"{name} that did harm", len(tally.problems), 0)
    results.notes[name] = tally.summary
    results.samples[name] = [seconds]
    if shown:
        results.notes[f"{name} that did harm"] = "\n".join(shown[:SHOWN_PROBLEMS])


def _count(name: str, default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--{name}", default=default, type=click.IntRange(0), show_default=True,
        help=f"The number of {name}; 0 leaves them out.",
    )  # fmt: skip


@click.command(help=__doc__)
@_count("kills", AttackPlan().kills)
@_count("faults", AttackPlan().faults)
@_count("flips", AttackPlan().flips)
@_count("files", AttackPlan().files)
@_count("servers", AttackPlan().servers)
@_count("requests", AttackPlan().requests)
@click.option("--seed", default=AttackPlan().seed, show_default=True, help="Seed of all dice.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(json_path: Path | None, **counts: int) -> None:
    with reporting():
        report(AttackPlan(**counts), json_path)


if __name__ == "__main__":
    command()
