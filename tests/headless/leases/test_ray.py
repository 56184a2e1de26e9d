"""`longtake batch --ray` on a local cluster: actors and a machine of it die, no row does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.headless.batch.record import DONE
from longtake.headless.leases import ray_cluster as ours
from longtake.tests.support.headless.real_batches import (
    ROOT,
    assert_same_shots,
    batch_of,
    longtake,
    records_of,
)

ROWS, LIMIT_S = 12, 180


def test_without_ray_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(BadInput, match="pip install"), ours.ray_cluster("auto"):
        pass


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Three machines of one CPU slot, whose processes import this checkout as `longtake`."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # only 127.0.0.1, as there
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "longtake").symlink_to(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        made.add_node(num_cpus=1)
    assert made.address.startswith("127.0.0.1:")
    yield made
    made.shutdown()


@pytest.mark.slow
def test_rows_outlive_a_machine_of_the_cluster(cluster: object, tmp_path: Path) -> None:
    out, log = tmp_path / "shots", tmp_path / "driver.log"
    arguments = [*batch_of(ROWS, out), "--ray", cluster.address, "--workers", "2", "--lease", "10"]
    driver = longtake(*arguments, log=log)

    def done() -> int:
        rows = records_of(out) if (out / "batch.jsonl").exists() else []
        return sum(row.state == DONE for row in rows)

    limit = time.monotonic() + LIMIT_S
    while done() < 2:
        assert time.monotonic() < limit and driver.poll() is None, log.read_text()
        time.sleep(0.2)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    assert driver.wait(LIMIT_S) == 0, log.read_text()
    alone = longtake(*batch_of(ROWS, tmp_path / "alone"), log=tmp_path / "alone.log")
    assert alone.wait(LIMIT_S) == 0
    assert_same_shots(out, tmp_path / "alone")
