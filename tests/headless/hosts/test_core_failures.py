"""What a run in a real core says of a workflow that the core does not take."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from longtake.headless.hosts.core_child.prompt_runner import Core
from longtake.headless.hosts.core_failures import refusal

SENTENCE = "filename_prefix '../x' is not a file name; use a name such as longtake/clip."
ERRORS = {
    "8": {
        "class_type": "LongtakeSaveVideo",
        "errors": [
            {
                "type": "custom_validation_failed",
                "message": "Custom validation failed for node",
                "details": f"filename_prefix - {SENTENCE}",
            }
        ],
    }
}


def test_a_nodes_own_refusal_is_its_sentence() -> None:
    assert refusal({}, ERRORS) == f"Node 8 (LongtakeSaveVideo): {SENTENCE}"


def test_a_workflow_is_refused_for_one_wrong_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core would run its other outputs and say that all went well."""
    folders = SimpleNamespace(set_output_directory=lambda _: None)
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    sent = list[dict[str, Any]]()

    async def validate(*_: Any) -> tuple[bool, None, list[str], dict[str, Any]]:
        return True, None, ["7"], ERRORS

    core = Core.__new__(Core)
    core.execution = SimpleNamespace(validate_prompt=validate)
    core.channel = SimpleNamespace(send=lambda **message: sent.append(message))  # type: ignore[assignment]
    core.run({}, "out")
    assert sent == [{"event": "refused", "data": [None, ERRORS]}]
