"""Chains of guidance nodes: what the sum is does not depend on where in the chain a node stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from longtake.errors import BadInput
from longtake.model.families.table import BY_KEY
from longtake.samplers import guidance as g
from longtake.tests.support.node_bench import Bench

HISTORY, TERM = "LongtakeHistoryGuidance", "LongtakeGuidanceTerm"
PRESETS = ("text only", "vanilla", "vanilla with text", "temporal", "fractional", "three branches")
NODES: dict[str, tuple[str, dict[str, Any]]] = {
    **{preset: (HISTORY, {"preset": preset}) for preset in PRESETS},
    "stabilised": (HISTORY, {"preset": "temporal", "stabilise": 0.05}),
    "text 4": (HISTORY, {"preset": "text only", "text_scale": 4.0}),
    "vanilla, text 3": (HISTORY, {"preset": "vanilla", "scale": 1.5, "none_as": "sink",
                                  "text_scale": 3.0}),
    "term": (TERM, {}),
    "against": (TERM, {"weight": -1.0, "view": "all", "prompt": "negative"}),
}  # fmt: skip
MODELS = {"demo": 1.0, "skyreels-df": 6.0, "self-forcing": 1.0}  # and their text guidance
Chained = Callable[..., Any]


@pytest.fixture
def chained(bench: Bench) -> Chained:
    """The value after a chain of nodes, each as its widgets stand unless its name says more."""
    from longtake.nodes.guidance.guidance_spec import GuidanceOptionsSpec, GuidanceSpec

    steps = {name: bench.run(node, **inputs)[0].steps[0] for name, (node, inputs) in NODES.items()}
    steps["options"] = GuidanceOptionsSpec(from_level=0.9, norm_cap=2.0)

    def chain(*names: str) -> GuidanceSpec:
        made = GuidanceSpec()
        for name in names:
            made = made.then(steps[name])
        return made

    return chain


def sums(chain: Any) -> dict[str, g.Guidance]:
    """What a chain is for the model of each family."""
    return {key: chain.resolve(BY_KEY[key].preset, sink=True) for key in MODELS}


def weights(guidance: g.Guidance) -> dict[tuple[str, str], Any]:
    """The weight of each prompt and view."""
    return {(str(b.prompt), str(b.view)): pytest.approx(b.weight) for b in guidance.branches}


def are_one(
    first: dict[str, g.Guidance], other: dict[str, g.Guidance], names: Sequence[str]
) -> None:
    """Two chains are the same sum for every model, but for the order of its branches."""
    for key in MODELS:
        assert weights(other[key]) == weights(first[key]), names
        assert replace(other[key], branches=first[key].branches) == first[key], names


def test_nodes_give_the_same_sum_in_every_order(chained: Chained) -> None:
    for names in (
        ("text only", "temporal"), ("text only", "vanilla", "term"), ("fractional", "term"),
        ("text only", "temporal", "fractional", "against"), ("vanilla", "stabilised", "term"),
        ("vanilla with text", "temporal"), ("text only", "vanilla with text"),
        ("three branches", "term"), ("three branches", "term", "against"),
        ("temporal", "options", "term"), ("three branches", "options", "term"),
    ):  # fmt: skip
        for order in permutations(names):
            are_one(sums(chained(*names)), sums(chained(*order)), order)


def test_a_chain_has_the_models_text_guidance_once(chained: Chained) -> None:
    once = [("text only", "temporal"), ("temporal", "text only"), ("term", "temporal"),
            ("temporal", "vanilla"), ("text only", "text only")]  # fmt: skip
    for names in once:
        for key, guidance in sums(chained(*names)).items():
            assert guidance.text_scale == pytest.approx(MODELS[key]), names
    assert {one.text_scale for one in sums(chained("term")).values()} == {1.0}


def test_vanilla_with_text_is_in_the_place_of_other_text_guidance(chained: Chained) -> None:
    for guidance in sums(chained("temporal", "vanilla with text")).values():
        assert guidance.text_scale == pytest.approx(1.5)
    for key, guidance in sums(chained("vanilla with text", "text only")).items():
        assert guidance.text_scale == pytest.approx(MODELS[key] + 0.5)


def test_text_only_sets_the_text_guidance_of_the_whole_chain(chained: Chained) -> None:
    wanted = weights(g.extend(g.cfg(4.0), g.vanilla(1.5, g.SINK)))
    for names in (("text 4", "vanilla, text 3"), ("vanilla, text 3", "text 4"),
                  ("vanilla, text 3", "text only", "text 4")):  # fmt: skip
        chain = chained(*names)
        assert [weights(one) for one in sums(chain).values()] == [wanted] * len(MODELS)
        assert chain.unset_fields == ()
    assert chained("vanilla, text 3", "text only").unset_fields == ("text_scale",)


def test_of_several_histories_the_first_ones_text_scale_counts(chained: Chained) -> None:
    behind = chained("term", "vanilla, text 3", "temporal")
    before = chained("temporal", "vanilla, text 3")
    assert sums(behind)["skyreels-df"].text_scale == pytest.approx(3.0)
    assert sums(before)["skyreels-df"].text_scale == pytest.approx(6.0)
    assert behind.unset_fields == () and before.unset_fields == ("text_scale",)


def test_a_term_leaves_the_three_branches_what_they_are(chained: Chained) -> None:
    both = sums(chained("term", "three branches"))["demo"]
    assert both.base == "negative" and both.timing == g.GuidanceTiming((0.7, 1.0))
    added = g.Guidance((g.Branch(0.5), g.Branch(0.5, view=g.last(4))))
    assert weights(both) == weights(g.extend(g.magi(), added))


def test_options_hold_wherever_they_stand(chained: Chained) -> None:
    for names in (("term", "options", "three branches"), ("term", "options", "temporal")):
        made = sums(chained(*names))["skyreels-df"]
        assert made.timing == g.GuidanceTiming((0.9, 1.0)) and made.limits == g.Limits(norm_cap=2.0)


def test_three_branches_and_another_history_are_refused_in_either_order(chained: Chained) -> None:
    for other in ("text only", "temporal", "vanilla with text", "three branches"):
        for names in (other, "three branches"), ("three branches", other):
            for chain in names, (names[0], "term", names[1]):
                with pytest.raises(BadInput, match="`three branches` is a .* Guidance T"):
                    chained(*chain)
