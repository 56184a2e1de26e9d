"""Local Ray clusters, and actors that tell which GPU they were given."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from longtake.headless.leases.driver.ray_cluster import ClusterWorkers, RowActor
from longtake.tests.support.headless.real_batches import ROOT


@contextmanager
def local_cluster(
    tmp_path: Path, patch: pytest.MonkeyPatch, *machines: dict[str, Any]
) -> Iterator[Any]:
    """Machines with these resources, whose processes import this checkout as `longtake`."""
    patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # only 127.0.0.1, as there
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "longtake").symlink_to(ROOT)
    patch.setenv("PYTHONPATH", str(tmp_path / "path"))
    patch.setenv("TMPDIR", str(machines_folder(tmp_path)))
    patch.setenv("RAY_TMPDIR", "/tmp")  # names of sockets must be short
    # A busy machine fails to start the dashboard in time.
    head = {**machines[0], "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    for machine in machines[1:]:
        made.add_node(**machine)
    assert made.address.startswith("127.0.0.1:")
    yield made
    made.shutdown()


def machines_folder(tmp_path: Path) -> Path:
    """The folder of the folders that actors work in."""
    folder = tmp_path / "machines"
    folder.mkdir(exist_ok=True)
    return folder


class SeeingActor(RowActor):
    """Writes what it sees to a folder in place of a driver, and holds its GPU."""

    def work(self, driver: str, name: str, workers: ClusterWorkers) -> int:
        """Write the process and the GPUs that CUDA would show it, and stay."""
        seen = {"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
        unfinished = Path(driver, f"{name}.part")
        unfinished.write_text(json.dumps(seen), encoding="utf-8")
        unfinished.replace(Path(driver, f"{name}-{os.getpid()}.json"))
        while True:
            time.sleep(1.0)
