"""The version of Longtake, which driver and worker state in every request and answer.

Another version may make other pictures of one row, so neither works with a second one.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...versions import pack_version
from ..batch.servers.answers import short

HEADER = "Longtake-Version"
UNSTATED = "of a version that it does not state"
MAX_VERSION = 40


def stated(version: str) -> dict[str, str]:
    """Return the header that states a version."""
    return {HEADER: version}


def own_version() -> str:
    """Return the version of this process, to be asked before an update changes its files."""
    return short(pack_version(), MAX_VERSION)


def difference(worker: str | None, driver: str | None) -> str | None:
    """Return the sentence about two versions that differ; None stands for an unstated one."""
    if worker == driver:
        return None
    return (
        f"the worker runs Longtake {_shown(worker)}, the driver Longtake {_shown(driver)}, and two "
        "versions may make different pictures; install the same version on both machines."
    )


def read_version(headers: Mapping[str, str]) -> str | None:
    """Return the version that a request or an answer states, if it does."""
    return headers.get(HEADER)


def _shown(version: str | None) -> str:
    return UNSTATED if version is None else short(version, MAX_VERSION)
