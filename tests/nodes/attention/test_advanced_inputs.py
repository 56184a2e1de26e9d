"""The widgets of ANN-Sparse Attention for experiments: what reaches the engine, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench


def planned(bench: Bench, model: Any) -> Any:
    """A rollout of that MODEL, of which nothing is made."""
    clip = bench.run("LongtakeLoadDemoModel")[1]
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=2)
    [cache] = bench.run("LongtakeKVCacheSettings", window_frames=5)
    [rollout] = bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, kv_cache=cache,
        width=32, height=32, length=9.0, length_unit="frames", plan_only=True,
    )  # fmt: skip
    return rollout


def behind_the_node(bench: Bench, **inputs: Any) -> Any:
    """The demo model (one layer of two heads here) behind the node."""
    model = bench.run("LongtakeLoadDemoModel")[0]
    return bench.run("LongtakeSparseAttention", model=model, **inputs)[0]


def test_a_workflow_saved_without_them_makes_the_very_same_chunks(bench: Bench) -> None:
    """They have no values in it, and none may change what there is."""
    from longtake.nodes.attention.sparse_attention import SparseAttentionNode

    prepared = type("Prepared", (SparseAttentionNode,), {"hidden": type("H", (), {"unique_id": 1})})
    model = bench.run("LongtakeLoadDemoModel")[0]
    asked = {"temp_cache": True, "self_attention": "always", "prompt_attention": "prune"}
    old = planned(bench, prepared.execute(model, preset="balanced", **asked).args[0])
    assert old.settings.cache == TempCache(
        48, sink_frames=3, reach_frames=64, max_mass=1, eviction=REDUNDANT
    )
    assert old.settings.sparsity == Sparsity(
        SparseSelf(min_keys=0), SparseCross(prune=True, from_tokens=0)
    )
    assert planned(bench, behind_the_node(bench, **asked)).spec.key(0) == old.spec.key(0)


def test_which_passes_are_sparse_and_how_much_of_a_prompt_stays(bench: Bench) -> None:
    model = behind_the_node(
        bench, preset="fast", self_attention="always", dense_share=0.5, dense_layers="",
        prompt_attention="prune", min_tokens=3,
    )  # fmt: skip
    expected = SparseSelf(0.15, 0.5, (), 0.7, min_keys=0)
    override = model.model_options["transformer_options"]["optimized_attention_override"]
    wanted = Sparsity(expected, SparseCross(True, 3, from_tokens=0))
    assert planned(bench, model).settings.sparsity == override.sparsity == wanted


def test_layers_are_numbers_and_ranges(bench: Bench) -> None:
    from types import SimpleNamespace

    from longtake.nodes.attention import advanced_inputs

    tree = SimpleNamespace(blocks=range(9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advanced_inputs.host, "module_tree", lambda model: tree)
        assert advanced_inputs.dense_layers(None, "5-7, 0 8")
        assert advanced_inputs.dense_layers(None, "5-7，0、8") == (0, 5, 6, 7, 8) == (0, 5, 6, 7, 8)
        with pytest.raises(BadInput, match=r"names layer 9, but the model has layers 0 to 8\."):
            advanced_inputs.dense_layers(None, "0 7-9")


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"dense_layers": "first"}, "has 'first', which is not a layer; write numbers from 0"),
        ({"dense_layers": "3-1"}, "has '3-1', which is not a layer"),
        ({"dense_layers": "1"}, "names layer 1, but the model has layers 0 to 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    bench: Bench, asked: dict[str, str], refused: str
) -> None:
    with pytest.raises(BadInput, match=refused):
        behind_the_node(bench, **asked)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: SparseSelf(dense_share=1.5), "dense_share must be from 0 to 1; got 1.5"),
        (lambda: SparseSelf(dense_layers=(-1,)), "dense_layers are counted from 0"),
        (lambda: SparseCross(min_tokens=0), "min_tokens must be at least 1; got 0"),
        (lambda: TempCache(5, max_mass=0.5), "max_mass must be at least 1, or None; got 0.5"),
    ],
)
def test_the_engine_refuses_them_too(make: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make()
