"""`--ray` on machines with GPUs, which Ray takes from what it is told: none needs to be there."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from longtake.headless.leases.driver import ray_cluster as ours
from longtake.tests.support.headless.ray_clusters import SeeingActor, local_cluster

LIMIT_S = 300.0
SETTLE_S = 5.0  # in which a third actor would start


def sightings(folder: Path, count: int) -> dict[int, str]:
    """The GPUs that each process saw, once so many have told."""
    limit = time.monotonic() + LIMIT_S
    while len(files := list(folder.glob("*.json"))) < count:
        assert time.monotonic() < limit, f"{len(files)} of {count} actors have started"
        time.sleep(0.1)
    told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {seen["pid"]: seen["gpus"] for seen in told}


@contextmanager
def seeing_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Mapping[str, int], count: int
) -> Iterator[tuple[Path, str]]:
    """Start so many workers, each of which tells what GPUs it sees, on a cluster of one `node`.

    Gives the folder where they tell and what the console says.
    """
    folder, console = tmp_path / "seen", Console(record=True, width=200)
    folder.mkdir()
    monkeypatch.setattr(ours, "RowActor", SeeingActor)
    with (
        local_cluster(tmp_path, monkeypatch, dict(node)) as cluster,
        ours.ray_cluster(cluster.address),
    ):
        ours.starter(ours.ClusterWorkers(count, "key"), console)(str(folder))
        yield folder, console.export_text()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_each_actor_has_a_gpu_of_its_own_and_another_waits_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"num_cpus": 4, "num_gpus": 2}
    with seeing_workers(tmp_path, monkeypatch, node, 3) as (folder, console):
        assert "3 workers start on the Ray cluster: it has 2 GPUs, so 1 waits." in console
        seen = sightings(folder, 2)
        time.sleep(SETTLE_S)
        assert sightings(folder, 2) == seen and sorted(seen.values()) == ["0", "1"]
        victim = min(seen)
        os.kill(victim, signal.SIGKILL)
        after = sightings(folder, 3)
        [heir] = after.keys() - seen.keys()
        assert after[heir] == seen[victim]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_without_gpus_a_worker_takes_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with seeing_workers(tmp_path, monkeypatch, {"num_cpus": 2}, 2) as (folder, console):
        assert "2 workers start on the Ray cluster." in console
        assert len(sightings(folder, 2)) == 2
