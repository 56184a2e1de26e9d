"""Skip-Layer Guidance: what it hands to the sampler alone and in chains, and what it refuses."""

from __future__ import annotations

import pytest

from longtake.errors import BadInput
from longtake.model.preset import DEMO
from longtake.samplers import guidance as g
from longtake.tests.support.node_bench import Bench

SKIP = "LongtakeSkipLayerGuidance"
HISTORY = "LongtakeHistoryGuidance"
TEXT = {"preset": "text only", "text_scale": 2.0}
USUAL = g.SkippedLayers((9,), (0.0, 0.95))


def test_the_negative_prompts_pass_skips_layers(bench: Bench) -> None:
    [text] = bench.run(HISTORY, **TEXT)
    [chain] = bench.run(SKIP, guidance=text)
    assert chain.resolve(DEMO, sink=True) == g.skip_in_negative(g.cfg(2.0), USUAL)
    assert chain.summary.startswith("2 model evaluations a step: 2 x all; -1 x all, negative ")
    assert chain.summary.endswith("without layer 9 up to noise 0.95.")


def test_a_pass_of_its_own_skips_layers_alone_and_in_chains(bench: Bench) -> None:
    own = {"skip_in": "own pass", "scale": 1.5, "layers": "10, 9 9", "from_level": 0.2,
           "to_level": 1.0}  # fmt: skip
    pushed = g.without_layers(1.5, g.SkippedLayers((9, 10), (0.2, 1.0)))
    [alone] = bench.run(SKIP, **own)
    assert alone.resolve(DEMO, sink=True) == pushed
    for first, second in (((HISTORY, TEXT), (SKIP, own)), ((SKIP, own), (HISTORY, TEXT))):
        [before] = bench.run(first[0], **first[1])
        [chain] = bench.run(second[0], guidance=before, **second[1])
        made = chain.resolve(DEMO, sink=True)
        assert {*made.branches} == {*g.extend(g.cfg(2.0), pushed).branches}


def test_a_scale_of_0_is_off(bench: Bench) -> None:
    [chain] = bench.run(SKIP, skip_in="own pass", scale=0.0)
    assert chain.resolve(DEMO, sink=True) == g.Guidance()


def test_without_text_guidance_there_is_no_negative_pass(bench: Bench) -> None:
    with pytest.raises(BadInput, match="set a text guidance above 1"):
        bench.run(SKIP)


def test_the_sampler_refuses_layers_that_its_model_lacks(bench: Bench) -> None:
    """Before the run: a plan alone is refused as well."""
    [guidance] = bench.run(SKIP, skip_in="own pass", layers="99")
    with pytest.raises(BadInput, match="leaves out layer 99, and the model has"):
        bench.rollout(guidance=guidance, plan_only=True)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"layers": ""}, "write the numbers of the layers"),
        ({"layers": "9, ten"}, "write the numbers of the layers"),
        ({"layers": "-1"}, "write the numbers of the layers"),
        ({"layers": "9" * 5000}, "write the numbers of the layers"),
        ({"layers": "²"}, "write the numbers of the layers"),
        ({"from_level": 0.5, "to_level": 0.4}, "set from_level to at most to_level"),
    ],
)
def test_what_names_no_layers_or_no_levels_is_refused(
    bench: Bench, inputs: dict[str, object], said: str
) -> None:
    values = {"layers": "9", "from_level": 0.0, "to_level": 1.0, **inputs}
    with pytest.raises(BadInput, match=said):
        bench.run(SKIP, skip_in="own pass", **values)
