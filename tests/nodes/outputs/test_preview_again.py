"""Streaming Preview asks the host to run it again once its take is too old to be watched."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from longtake.headless.hosts.stand_in.io_types import HiddenHolder
from longtake.stream.preview.takes import Limits
from longtake.tests.support.node_bench import Bench

NODE = "LongtakePreview"


def fingerprint() -> int:
    """What the host asks the node before a prompt, to see whether it must run."""
    from longtake.nodes.outputs.preview import StreamingPreview

    prepared = type("Asked", (StreamingPreview,), {"hidden": HiddenHolder(NODE)})
    return prepared.fingerprint_inputs(frames=None)


def test_a_preview_runs_again_once_its_take_is_too_old(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.runtime.session import session

    before = fingerprint()
    bench.run(NODE, frames=bench.frames())
    [take] = session.takes._takes.values()
    take.join()
    assert fingerprint() == before
    monkeypatch.setattr(session.takes, "limits", Limits(finished_s=-1.0))
    assert session.takes.get(take.token) is None and fingerprint() != before


def test_a_preview_is_for_every_page_that_the_host_may_serve(bench: Bench) -> None:
    """Under ComfyUI a page may open later; the stand-in has none but that of `--watch`."""
    from longtake.nodes.host import server

    assert not server.can_be_watched()
    web = server.PromptServer.instance
    web.routes = object()
    assert server.can_be_watched()
    web.routes, bench.state.page = None, SimpleNamespace(key="x")  # type: ignore[assignment]
    assert server.can_be_watched()
    bench.state.page = None
