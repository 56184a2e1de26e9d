"""NAG Guidance: what it hands to the sampler alone and in chains, and what it says."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from longtake.errors import BadInput
from longtake.model.preset import DEMO
from longtake.samplers import guidance as g
from longtake.tests.support.node_bench import Bench

NAG = "LongtakeNAGGuidance"
HISTORY = "LongtakeHistoryGuidance"
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cfg": (HISTORY, {"preset": "text only", "text_scale": 2.0}),
    "joint": (HISTORY, {"preset": "vanilla with text"}),
    "three": (HISTORY, {"preset": "three branches"}),
    "term": ("LongtakeGuidanceTerm", {}),
}


def test_alone_it_is_the_prompt_at_cfg_1_and_as_published(bench: Bench) -> None:
    [chain] = bench.run(NAG)
    expected = g.Guidance(normalized_attention=g.NormalizedAttention(11.0, 2.5, 0.25))
    assert chain.resolve(DEMO, sink=True) == expected
    [other] = bench.run(NAG, scale=3.0, tau=1.5, alpha=0.5)
    attention = other.resolve(DEMO, sink=True).normalized_attention
    assert attention == g.NormalizedAttention(3.0, 1.5, 0.5)


@pytest.mark.parametrize("name", OTHERS)
def test_its_place_in_a_chain_does_not_matter(bench: Bench, name: str) -> None:
    nodes = [(NAG, {"scale": 3.0}), OTHERS[name]]
    made = []
    for order in permutations(nodes):
        chain = None
        for node, inputs in order:
            given = {} if chain is None else {"guidance": chain}
            [chain] = bench.run(node, **inputs, **given)
        assert chain is not None
        made.append(chain.resolve(DEMO, sink=True))
    node, inputs = OTHERS[name]
    alone = bench.run(node, **inputs)[0].resolve(DEMO, sink=True)
    expected = replace(alone, normalized_attention=g.NormalizedAttention(3.0))
    assert made == [expected, expected]


def test_it_says_what_a_step_costs(bench: Bench) -> None:
    [chain] = bench.run(NAG, scale=4.0)
    assert chain.summary.startswith("1 model evaluation a step")
    assert chain.summary.endswith("NAG 4 from the negative prompt.")


@pytest.mark.usefixtures("bench")
def test_a_model_without_a_prompt_refuses_it() -> None:
    from longtake.nodes.conditioning.prompt_plan import check_guidance_prompts

    guidance = g.Guidance(normalized_attention=g.NormalizedAttention())
    config: Any = SimpleNamespace(reads_prompt=False)
    with pytest.raises(BadInput, match="remove NAG Guidance"):
        check_guidance_prompts(guidance, config)
