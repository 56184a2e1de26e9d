"""The player in ComfyUI's own page, in Chromium; the cases are in tests/browser/comfy_*.mjs."""

from __future__ import annotations

import importlib.util
from functools import cache

import pytest

from longtake.tests.browser.node import cases, lacking, run_cases
from longtake.tests.in_core.support.client import Client

FILES = (
    "comfy_cases.mjs", "steering/comfy_drive_cases.mjs", "live_input/comfy_camera_cases.mjs",
    "comfy_many_cases.mjs", "canvas/comfy_app_cases.mjs",
)  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lacking() is not None, reason=lacking() or ""),
]
if importlib.util.find_spec("pytest_timeout"):  # the core's Python may lack it
    pytestmark.append(pytest.mark.timeout(3600))
run_once = cache(run_cases)


@pytest.mark.parametrize(("file", "case"), [(file, case) for file in FILES for case in cases(file)])
def test_in_page(client: Client, file: str, case: str) -> None:
    failure = run_once(file, LONGTAKE_URL=client.url)[case]
    assert failure is None, failure
