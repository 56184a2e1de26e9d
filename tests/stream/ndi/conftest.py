"""NDI's library, kept to this machine and to one test at a time."""

from __future__ import annotations

import getpass
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.stream.journal.lock import Held, ProcessLock
from longtake.tests.support.stream.ndi_programs import VARIABLE, write_config

NAP_S = 0.2


@pytest.fixture(autouse=True, scope="session")
def only_this_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before the first test of this process; NDI reads its settings once."""
    folder = tmp_path_factory.mktemp("ndi")
    write_config(folder)
    patch = pytest.MonkeyPatch()
    patch.setenv(VARIABLE, str(folder))


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No other test on this machine sends: without a service, NDI shows one process only."""
    path, lock = Path(tempfile.gettempdir(), f"longtake-ndi-{getpass.getuser()}.lock"), None
    while lock is None:
        try:
            lock = ProcessLock(path, "A test of NDI")
        except Held:
            time.sleep(NAP_S)
    yield
    lock.release()
