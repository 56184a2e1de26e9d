"""Load Demo Model: each quality has its own steps."""

from __future__ import annotations

import pytest

from longtake.model.preset import DEMO_QUALITIES
from longtake.tests.support.node_bench import Bench


@pytest.mark.parametrize("quality", [*DEMO_QUALITIES])
def test_a_quality_has_its_steps(bench: Bench, quality: str) -> None:
    from longtake.nodes.models.model_facts import facts

    model, _, _ = bench.run("LongtakeLoadDemoModel", quality=quality)
    assert facts(model).preset.steps == {"fast": 3, "full": 8}[quality]
