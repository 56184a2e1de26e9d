"""Doctor: what is installed here and what of it Longtake can use, as text in the node."""

from __future__ import annotations

import time

from comfy_api.latest import io, ui

from .. import installation
from ..installation import Finding
from . import categories, host
from .schema import build

MARKS = {"ok": "OK", "note": "–", "bad": "MISSING"}


class Doctor(io.ComfyNode):
    """The findings of `longtake doctor`, seen from within ComfyUI."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeDoctor",
            display_name="Longtake Doctor",
            category=categories.ROOT,
            description="Shows what is installed, the device, the free memory, and which attention "
            "backends work or why not. Changes nothing. Include its text in a bug report.",
            search_aliases=["diagnose", "versions", "environment", "troubleshoot", "check install"],
            is_output_node=True,
            inputs=[],
            outputs=[io.String.Output(display_name="text")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls) -> float:
        """Always new: installations and free memory change without the graph."""
        return time.monotonic()

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Show all findings; this takes a moment."""
        findings = examine()
        lines = [
            f"{MARKS[finding.state]} {finding.subject}: {finding.text}" for finding in findings
        ]
        text = "\n".join([installation.summary(findings), *lines])
        host.show_status(cls.hidden.unique_id, text)
        return io.NodeOutput(text, ui=ui.PreviewText(text))


def examine() -> list[Finding]:
    """All findings for this ComfyUI, its device and its folders."""
    device = host.compute_device()
    return [
        Finding("ok", "ComfyUI", f"{host.core_version()}, computing on {device}"),
        *installation.copies(None),
        *installation.software(),
        *installation.devices(host.free_memory_bytes()),
        *installation.attention(device),
        *(installation.folder(name, path) for name, path in host.folders().items()),
        *installation.extras(),
    ]
