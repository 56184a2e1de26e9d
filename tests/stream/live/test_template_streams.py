"""Streams that are passed on keep the header that belongs to their packets."""

from __future__ import annotations

import ast

from longtake.tests.support.import_graph import ROOT, modules


def test_no_copy_of_a_stream_opens_an_encoder_of_its_own() -> None:
    """Unless it is opaque, PyAV 16 opens one, whose header belongs to no packet of the stream."""
    calls = [
        node
        for file in modules()
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_stream_from_template"
    ]
    assert len(calls) >= 4
    for call in calls:
        assert [(word.arg, ast.unparse(word.value)) for word in call.keywords] == [
            ("opaque", "True")
        ]
