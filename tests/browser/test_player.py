"""The player's modules alone, and the player in Chromium with our own routes, without ComfyUI.

The cases are in the `*_cases.mjs` files of this folder; each case is a test here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import pytest

from .node import HERE, cases, lacking, player_server, run_cases

MODULES = [
    "module_cases.mjs", "takes/library_cases.mjs", "graph_cases.mjs", "canvas/menu_cases.mjs",
    "canvas/picture_cases.mjs", "canvas/status_room_cases.mjs", "steering/driver_cases.mjs",
    "steering/keys_cases.mjs", "takes/patience_cases.mjs",
]  # fmt: skip
PAGES = ["run_cases.mjs"]
LONG_PAGES = [
    "address_cases.mjs", "connection_cases.mjs", "lasting_cases.mjs", "live_input/screen_cases.mjs",
    "looks_cases.mjs", "playback_cases.mjs", "refined/refined_cases.mjs",
    "steering/drive_cases.mjs", "steering/form_cases.mjs", "steering/prompt_keys_cases.mjs",
]  # fmt: skip
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js here")
run_once = cache(run_cases)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a page with the player."""
    with player_server(tmp_path_factory.mktemp("player") / "server.log") as address:
        yield address


class Pages:
    """Runs the files of cases, each once. Its next file runs beside the one that is wanted: pages
    mostly wait.
    """

    def __init__(self, address: str, files: Sequence[str], pool: ThreadPoolExecutor) -> None:
        self._address, self._files, self._pool = address, files, pool
        self._running: dict[str, Future[dict[str, str | None]]] = {}

    def results(self, file: str) -> dict[str, str | None]:
        """The failure of each case of a file, None if it passed."""
        at = self._files.index(file)
        for each in self._files[at : at + 2]:
            if each not in self._running:
                run = self._pool.submit(run_cases, each, LONGTAKE_URL=self._address)
                self._running[each] = run
        return self._running[file].result()


@pytest.fixture(scope="session")
def pages(server: str, request: pytest.FixtureRequest) -> Iterator[Pages]:
    """Yield the files whose cases were chosen."""
    chosen = (
        item.callspec.params for item in request.session.items if "pages" in item.fixturenames
    )
    files = [*dict.fromkeys(params["file"] for params in chosen)]
    with ThreadPoolExecutor() as pool:
        yield Pages(server, files, pool)
        pool.shutdown(cancel_futures=True)


@needs_node
@pytest.mark.parametrize(
    ("file", "case"), [(file, case) for file in MODULES for case in cases(file)]
)
def test_module(file: str, case: str) -> None:
    failure = run_once(file)[case]
    assert failure is None, failure


@pytest.mark.browser
@pytest.mark.skipif(lacking() is not None, reason=lacking() or "")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("file", "case"),
    [
        *((file, case) for file in PAGES for case in cases(file)),
        *(
            pytest.param(file, case, marks=pytest.mark.slow)
            for file in LONG_PAGES
            for case in cases(file)
        ),
    ],
)
def test_page(pages: Pages, file: str, case: str) -> None:
    failure = pages.results(file)[case]
    assert failure is None, failure


@pytest.mark.slow
@needs_node
@pytest.mark.browser
@pytest.mark.skipif(not (HERE / "node_modules" / "typescript").is_dir(), reason="run `npm ci`")
def test_the_modules_agree_with_their_types() -> None:
    compiler = HERE / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([compiler, "-p", HERE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
