"""What guidance costs is said for the whole shot, also where it begins later than the shot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longtake.tests.support.node_bench import Bench, node_bench, tiny_demo

GUIDED = "0 (guidance 3): a red ball"
LATER = "0 (guidance 1): a red ball\n1 (guidance 3): a red ball"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "demo").mkdir()
    demo = tiny_demo(tmp_path / "demo")
    with node_bench(tmp_path / "out", demo, monkeypatch) as opened:
        yield opened


def shot(bench: Bench, text: str) -> Any:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text=text, negative="")
    return bench.run(
        "LongtakeSampler", model=model, prompts=prompts, width=512, height=512, length=45,
        plan_only=True,
    )[0]  # fmt: skip


def test_guidance_that_begins_later_takes_as_much_memory_as_from_the_start(bench: Bench) -> None:
    from longtake.nodes.planning.costs import describe_guidance_cost

    texts = [describe_guidance_cost(shot(bench, text).footprint) for text in (GUIDED, LATER)]
    added = [str(text).rpartition("; ")[2] for text in texts]
    assert added[0] == added[1]
    assert added[0].startswith("+") and not added[0].startswith("+0.0 MB")
