"""What the sampler's node says of a run that drifts, and at the end of an edited one."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from longtake.samplers.guidance import Guidance
from longtake.samplers.guidance.presets import cfg, vanilla
from longtake.tests.support.node_bench import Bench


@pytest.mark.parametrize(
    ("guidance", "advice"),
    [
        (cfg(1.0), "Memory Rules, a shorter window or a little context_noise can help."),
        (cfg(3.0), "Memory Rules, a shorter window, a little context_noise or lower cfg can help."),
        (vanilla(3.0), "lower scales of the history guidance can help."),
    ],
)
def test_the_advice_against_drift_fits_the_guidance(
    bench: Bench, guidance: Guidance, advice: str
) -> None:
    from longtake.nodes.runtime.run_observer import HostRunObserver

    rollout = bench.frames().rollout
    spec = replace(rollout.spec, settings=replace(rollout.settings, guidance=guidance))
    observer = HostRunObserver(spec, None, "")
    first = next(iter(rollout.chunks))
    said = observer.on_delivered(first, 0.62)
    assert said == (
        f"The picture has drifted from the shot's beginning (by 0.6, from 0:00.0 on); {advice}"
    )
    assert observer.on_delivered(first, None) is None and observer.on_delivered(first, 0.9) is None


def test_edits_are_logged_once_where_production_ends_and_begins_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.nodes.runtime.run_observer import HostRunObserver

    caplog.set_level(logging.INFO, "longtake")
    observer = HostRunObserver(bench.frames().rollout.spec, None, "")
    for lines in ([], ["1: a"], ["1: a"], ["1: a", "2: b"]):
        observer.on_close(lines, [])
    told = [text for text in caplog.messages if "live edit" in text]
    assert [text.split(". ")[0] for text in told] == [
        "This run had 1 live edit", "This run had 2 live edits",
    ]  # fmt: skip


def test_a_warning_has_the_title_of_its_node_before_it(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several shots may run side by side."""
    from longtake.nodes import host
    from longtake.nodes.host import progress

    monkeypatch.setattr(progress, "_title", lambda node: f"Shot {node}: ")
    host.warn("5", "It drifts.")
    assert caplog.messages == ["Shot 5: It drifts."]
