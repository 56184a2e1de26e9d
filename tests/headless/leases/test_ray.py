"""`longtake batch --ray` on a local cluster: actors, a machine and the driver die, no row does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.headless.batch.record import DONE, QUEUED
from longtake.headless.leases.driver import ray_cluster as ours
from longtake.tests.support.headless.ray_clusters import local_cluster, machines_folder
from longtake.tests.support.headless.real_batches import (
    assert_same_shots,
    batch_of,
    longtake,
    records_of,
)

ROWS = int(os.environ.get("LONGTAKE_RAY_ROWS", "12"))  # 200 prove more, in some twenty minutes
LIMIT_S = 3000


def test_without_ray_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(BadInput, match="pip install ray"), ours.ray_cluster("auto"):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "[::1]:{port}"])
def test_an_address_without_a_cluster_gets_a_sentence_before_ray_tries(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(ours, "_ray", NeverAsked)
    with socket.socket() as taken:  # bound, and nobody listens: no other program takes the port
        taken.bind(("127.0.0.1", 0))
        given = address.format(port=taken.getsockname()[1])
        with pytest.raises(BadInput, match="nothing answers there .*ray start --head") as refusal:
            ours.ray_cluster(given).__enter__()
    assert f"--ray {given!r}" in str(refusal.value)


@pytest.mark.parametrize("address", ["there", "there:ray", ":6379"])
def test_what_is_no_address_gets_a_sentence(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(ours, "_ray", NeverAsked)
    with pytest.raises(BadInput, match="nothing answers there"):
        ours.ray_cluster(address).__enter__()


class NeverAsked:
    """Stands for Ray, which nobody may ask for a cluster."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Three machines of one CPU slot."""
    with local_cluster(tmp_path, monkeypatch, *[{"num_cpus": 1}] * 3) as made:
        yield made


def pids_of_actors(cluster: object) -> list[int]:
    """The processes of our actors, which the cluster's machines have started."""
    nodes = cluster.list_all_nodes()
    machines = {node.all_processes["raylet"][0].process.pid for node in nodes}
    return [pid for pid, parent, title in processes() if parent in machines and "RowActor" in title]


def processes() -> Iterator[tuple[int, int, str]]:
    """Each process: its id, its parent's, and its title."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        pid, parent, *title = line.split(None, 2)
        yield int(pid), int(parent), " ".join(title)


def ends_by_row(out: Path) -> Counter[str]:
    """How often the records say of each row that it is done."""
    lines = [json.loads(line) for line in (out / "batch.jsonl").read_text().splitlines()]
    return Counter(line["key"] for line in lines if line.get("state") == DONE)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_rows_outlive_an_actor_the_driver_and_a_machine_of_the_cluster(
    cluster: object, tmp_path: Path
) -> None:
    out, log = tmp_path / "shots", tmp_path / "driver.log"
    arguments = [*batch_of(ROWS, out), "--ray", cluster.address, "--workers", "2", "--lease", "10"]
    driver = longtake(*arguments, log=log)

    def wait_for(share: float) -> None:
        limit = time.monotonic() + LIMIT_S
        while not (out / "batch.jsonl").exists() or ends_by_row(out).total() < share * ROWS:
            assert time.monotonic() < limit and driver.poll() is None, log.read_text()
            time.sleep(0.2)

    try:
        wait_for(0.1)
        os.kill(pids_of_actors(cluster)[0], signal.SIGKILL)
        wait_for(0.3)
        driver.kill()
        driver.wait(LIMIT_S)
        driver = longtake(*arguments, log=log)
        wait_for(0.6)
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
        assert driver.wait(LIMIT_S) == 0, log.read_text()
    finally:
        driver.kill()
        driver.wait(LIMIT_S)
    ends = ends_by_row(out)
    assert len(ends) == ROWS and set(ends.values()) == {1}
    alone = longtake(*batch_of(ROWS, tmp_path / "alone"), log=tmp_path / "alone.log")
    assert alone.wait(LIMIT_S) == 0
    assert_same_shots(out, tmp_path / "alone")


def addresses(folder: Path) -> set[str]:
    """The addresses of the finished chunks below a folder."""
    return {path.stem for path in folder.rglob("*.safetensors")}


def row_in_progress(out: Path, store: Path, machines: Path) -> tuple[str, int, Path] | None:
    """The key of a row with two chunks in the store, and its actor's process and folder."""
    for row in records_of(out) if (out / "batch.jsonl").exists() else ():
        if row.state != QUEUED or row.server is None:
            continue
        name, _, pid = row.server.rpartition("-")
        folder = machines / ours.work_folder().name / name
        if len(addresses(folder) & addresses(store / "chunks")) >= 2:
            return row.key, int(pid), folder
    return None


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_shot_of_a_killed_actor_goes_on_at_another_from_the_shared_store(
    cluster: object, tmp_path: Path
) -> None:
    """What the actor had on its own disk goes with it, as a machine's would."""
    out, store, log = tmp_path / "shots", tmp_path / "store", tmp_path / "driver.log"
    arguments = [*batch_of(4, out, 6.0), "--ray", cluster.address, "--workers", "2"]
    driver = longtake(*arguments, "--lease", "10", "--store", str(store), log=log)
    try:
        limit = time.monotonic() + LIMIT_S
        while (victim := row_in_progress(out, store, machines_folder(tmp_path))) is None:
            assert time.monotonic() < limit and driver.poll() is None, log.read_text()
            time.sleep(0.05)
        key, pid, folder = victim
        os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        assert driver.wait(LIMIT_S) == 0, log.read_text()
    finally:
        driver.kill()
        driver.wait(LIMIT_S)
    ends = ends_by_row(out)
    assert len(ends) == 4 and set(ends.values()) == {1}
    [row] = [row for row in records_of(out) if row.key == key]
    assert row.report["resumed_from_chunk"] >= 2 and row.server != f"{folder.name}-{pid}"
    assert any((store / "leases").iterdir()), "the dead actor's lease is marked as over"
    alone = longtake(*batch_of(4, tmp_path / "alone", 6.0), log=tmp_path / "alone.log")
    assert alone.wait(LIMIT_S) == 0
    assert_same_shots(out, tmp_path / "alone")
    assert addresses(store / "chunks") == addresses(tmp_path / "alone")
