"""What the driver says of workers on a Ray cluster that cannot work; Ray itself is played."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from longtake.errors import LongtakeError
from longtake.headless.batch.record import QUEUED, WAITING, Records
from longtake.headless.batch.row import BatchSpec
from longtake.headless.leases.driver import driver, driving
from longtake.headless.leases.driver.driver import run_on_workers
from longtake.headless.leases.driver.driving import Driving, drive
from longtake.headless.leases.driver.place import Place
from longtake.headless.leases.driver.ray_cluster import (
    ClusterWorkers,
    RowActor,
    ray_cluster,
    starter,
)
from longtake.headless.leases.worker import joining
from longtake.headless.leases.worker.joining import Joining
from longtake.tests.support.headless.lease_batches import KEY, row_of

LIMIT_S = 20


class PlayedRay:
    """A cluster whose actors end with these errors, in their order; None: it still works."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors, self.works = errors, list[int]()

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **slot: object) -> Any:
        """`ray.remote(...)(RowActor)`, whose `remote()` gives an actor with a method `work`."""
        actor = SimpleNamespace(work=SimpleNamespace(remote=self._begin))
        return lambda _: SimpleNamespace(remote=lambda: actor)

    def wait(self, works: list[int], **options: Any) -> tuple[list[int], list[int]]:
        ended = [work for work in works if self.errors[work] is not None]
        return ended, [work for work in works if work not in ended]

    def get(self, work: int) -> None:
        error = self.errors[work]
        assert error is not None
        raise error

    def _begin(self, *arguments: object) -> int:
        self.works.append(len(self.works))
        return self.works[-1]


def play(patch: pytest.MonkeyPatch, *errors: Exception | None) -> None:
    patch.setitem(sys.modules, "ray", PlayedRay(*errors))


def remote_error(cause: Exception) -> Exception:
    """An error as Ray brings it: a traceback in words, and what the worker raised."""
    error = RuntimeError(f"ray::RowActor.work()\n  File ...\n{type(cause).__name__}: {cause}\n")
    error.cause = cause  # type: ignore[attr-defined]
    return error


def test_a_batch_ends_where_all_workers_of_the_cluster_have_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        monkeypatch,
        remote_error(LongtakeError("The store s3://b has gone.")),
        RuntimeError("The actor failed to import.\n\nModuleNotFoundError: No module 'longtake'"),
    )
    console, records = Console(record=True, width=200), Records(tmp_path)
    start = starter(ClusterWorkers(2, KEY), console, is_alone=True)
    place = Place("127.0.0.1", 0, 1.0, invites=False)
    driver = run_on_workers([row_of(1)], records, place, KEY, console, start)
    with pytest.raises(LongtakeError, match="No worker is left on the Ray cluster"):
        asyncio.run(asyncio.wait_for(driver, LIMIT_S))
    text = console.export_text()
    assert "A worker on the Ray cluster has failed: The store s3://b has gone." in text
    assert "has failed: ModuleNotFoundError: No module 'longtake'" in text


@pytest.mark.parametrize(("is_alone", "other"), [(True, None), (False, ValueError("too"))])
def test_other_workers_go_on_where_one_has_failed(
    is_alone: bool, other: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, ValueError("no such model"), other)
    console = Console(record=True, width=200)
    check = starter(ClusterWorkers(2, KEY), console, is_alone=is_alone)("http://driver")
    check()
    check()
    assert console.export_text().count("has failed: no such model") == 1


def test_sigterm_ends_a_driver_as_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own handler would end the program at once, with its exit code."""
    own = signal.getsignal(signal.SIGTERM)

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
    ray = SimpleNamespace(init=init, shutdown=lambda: None, util=util)
    monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
    try:
        with ray_cluster("local"):
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, own)


@pytest.mark.parametrize(("has_own_key", "state"), [(False, WAITING), (True, QUEUED)])
def test_rows_of_a_clusters_earlier_workers_do_not_wait_for_their_leases(
    has_own_key: bool, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have the key of an earlier run, so they can neither renew a lease nor end a row."""
    begun = row_of(1).record
    begun.state, begun.server, begun.attempt = QUEUED, "ray-0-12", 3
    Records(tmp_path).start([begun])
    states: list[tuple[str, int]] = []

    async def run(_: object, records: Records, *others: object) -> None:
        states.extend((row.state, row.attempt) for row in records.rows)

    monkeypatch.setattr(driving, "ray_cluster", lambda _: nullcontext("127.0.0.1"))
    monkeypatch.setattr(
        driving, "session", lambda *_, **__: nullcontext(SimpleNamespace(host=None))
    )  # fmt: skip
    monkeypatch.setattr(driving, "check_rows", lambda *_: [])
    monkeypatch.setattr(driver, "run_on_workers", run)
    monkeypatch.delenv("LONGTAKE_KEY", raising=False)
    (tmp_path / "key.txt").write_text(KEY)
    how = Driving(None, tmp_path / "key.txt" if has_own_key else None, 60.0, "local")
    drive(BatchSpec((), (), None), how, None, None, Records(tmp_path), Console(quiet=True))
    assert states == [(state, 3)]


@pytest.mark.skipif(sys.platform == "win32", reason="each user has another folder of temp files")
def test_actors_of_two_users_of_a_machine_have_no_folder_in_common(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = list[Path]()

    def note(to: Joining, console: Console) -> int:
        folders.append(to.work)
        return 0

    monkeypatch.setattr(joining, "join", note)
    for user in (1000, 1001):
        monkeypatch.setattr("os.getuid", lambda user=user: user)
        assert RowActor().work("http://127.0.0.1:1", "ray-0", ClusterWorkers(1, KEY)) == 0
    assert folders[0].name == folders[1].name == "ray-0"
    assert folders[0].parent != folders[1].parent
