"""NDI's library, kept to this machine."""

from __future__ import annotations

import pytest

from longtake.tests.support.stream.ndi_programs import VARIABLE, write_config


@pytest.fixture(autouse=True, scope="session")
def only_this_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before the first test of this process; NDI reads its settings once."""
    folder = tmp_path_factory.mktemp("ndi")
    write_config(folder)
    patch = pytest.MonkeyPatch()
    patch.setenv(VARIABLE, str(folder))
