"""What the sampler's node says of a run that drifts."""

from __future__ import annotations

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
