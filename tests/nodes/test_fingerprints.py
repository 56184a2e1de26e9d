"""What decides whether a node runs again: the core notes it in the prompt, and NaN where it fails.

Saved files hold that prompt, and NaN is no JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longtake.headless.hosts.stand_in.io_types import HiddenHolder
from longtake.tests.support.lasting_host import lasting_host

NO_FILES = (None, "", "missing.safetensors", "missing [output]", "a\0b", "../..", "x" * 300)


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.chdir(tmp_path)
    with lasting_host(tmp_path / "out", lambda event: None):
        from longtake.nodes.extension import NODES

        yield [node for node in NODES if "fingerprint_inputs" in vars(node)]


@pytest.mark.parametrize("value", NO_FILES, ids=repr)
def test_a_missing_file_is_a_value_that_json_can_hold(nodes: list[Any], value: str | None) -> None:
    """None is what the core gives for an input that is connected."""
    for node in nodes:
        prepared = type("Prepared", (node,), {"hidden": HiddenHolder("1")})
        given = {one.id: value for one in node.define_schema().inputs}
        json.dumps(prepared.fingerprint_inputs(**given), allow_nan=False)


@pytest.mark.parametrize("name", ["LongtakeLoadRollout", "LongtakeCameraPath"])
def test_a_file_that_comes_back_runs_its_node_again(
    nodes: list[Any], tmp_path: Path, name: str
) -> None:
    [node] = [node for node in nodes if node.define_schema().node_id == name]
    prepared = type("Prepared", (node,), {"hidden": HiddenHolder("1")})
    given = {"file": "a.x [output]", "pose_file": "a.x [output]"}
    before = prepared.fingerprint_inputs(**given)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "a.x").write_bytes(b"1")
    assert prepared.fingerprint_inputs(**given) != before
