"""What a command says of a failure is a sentence: it begins like one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHOWN = ("BadInput", "LongtakeError", "StorageError", "UsageError", "BadParameter")
PARTS = ("headless/leases/messages.py", "headless/leases/driver/service.py")
"""What a driver answers: a worker says `The driver refuses: ...` before it."""
NAMES = ("filename_prefix ",)
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("core_*.py"), *(ROOT / "headless").rglob("*.py"))
)


def beginning(node: ast.Raise) -> str:
    """The first letters of the message that a statement raises; empty if it begins with a value."""
    if not isinstance(node.exc, ast.Call) or not node.exc.args:
        return ""
    kind, message = node.exc.func, node.exc.args[0]
    name = kind.attr if isinstance(kind, ast.Attribute) else getattr(kind, "id", "")
    first = message.values[0] if isinstance(message, ast.JoinedStr) else message
    return str(getattr(first, "value", "")) if name in SHOWN else ""


@pytest.mark.parametrize("file", [file for file in FILES if file not in PARTS])
def test_a_message_begins_with_a_capital(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    texts = [beginning(node) for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    assert not [text for text in texts if text[:1].islower() and not text.startswith(NAMES)]
