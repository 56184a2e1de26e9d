"""What the user is told of ANN-Sparse Attention on the host's own samplers, by a fake server."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest

from longtake.tests.support.attention.override_calls import HEADS, dense, options, qkv
from longtake.tests.support.node_bench import Bench

Shown = list[tuple[str, str, str]]


@pytest.fixture
def shown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """The text, node and page of everything that a page is shown under a node."""
    from server import PromptServer

    found: Shown = []
    web = SimpleNamespace(
        client_id="page", send_progress_text=lambda text, node, sid: found.append((text, node, sid))
    )
    monkeypatch.setattr(PromptServer, "instance", web)
    return found


def behind_the_node(bench: Bench, shown: Shown, model: Any = None, **inputs: Any) -> Any:
    """A MODEL behind the node; what it said when it ran is forgotten."""
    model = model or bench.run("LongtakeLoadDemoModel")[0]
    [model] = bench.run("LongtakeSparseAttention", model=model, **inputs)
    shown.clear()
    return model


def sample(model: Any, *levels: float, fails: bool = False) -> None:
    """What the host's samplers do: call back, ask for attention in every step, call back."""

    def call_back(when: str) -> None:
        for callbacks in model.callbacks[when].values():
            for callback in callbacks:
                callback(model)

    override = model.model_options["transformer_options"]["optimized_attention_override"]
    call_back("on_pre_run")
    try:
        for level in levels:
            for keys in (200, 30):  # the picture's own, then the prompt's
                override(dense, *qkv(200, keys), HEADS, transformer_options=options(level))
        if fails:
            raise RuntimeError("out of memory")
    finally:
        call_back("on_cleanup")


def test_each_step_stands_under_the_node_and_the_end_of_a_run_in_the_log_too(
    bench: Bench, shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    model = behind_the_node(
        bench, shown, preset="custom", density=0.2, recall_floor=1.0, self_attention="always"
    )
    with caplog.at_level(logging.INFO, "longtake"):
        sample(model, 1.0, 0.8, 0.5)
    lines = [text for text, node, page in shown]
    assert {(node, page) for _, node, page in shown} == {("LongtakeSparseAttention", "page")}
    assert len(lines) == 3
    assert lines[0].startswith(
        "On ComfyUI's sampler: self-attention dense, since the first 30% of the steps are dense"
    )
    assert lines[1:] == [lines[2], lines[2]]  # by then both heads are known to be poor
    assert lines[2].startswith("On ComfyUI's sampler: density 100%, recall ")
    assert "2 dense fallbacks" in lines[2]
    assert [record.getMessage() for record in caplog.records] == [lines[2]]


def test_a_second_run_is_told_of_alone(bench: Bench, shown: Shown) -> None:
    model = behind_the_node(
        bench, shown, preset="custom", density=0.2, recall_floor=1.0, self_attention="always"
    )
    sample(model, 1.0, 0.5)
    sample(model, 1.0, 0.5)
    assert "2 dense fallbacks" in shown[-1][0] and len(shown) == 4


def test_a_sampler_that_never_asks_is_named(bench: Bench, shown: Shown) -> None:
    sample(behind_the_node(bench, shown))
    [(text, _, _)] = shown
    assert text.startswith("ANN-Sparse Attention did nothing: this sampler ignores attention")


def test_a_node_behind_that_takes_its_place_is_named(bench: Bench, shown: Shown) -> None:
    model = behind_the_node(bench, shown).clone()
    options = model.model_options["transformer_options"]
    options["optimized_attention_override"] = lambda attend, *given, **more: attend(*given, **more)
    sample(model, 1.0)
    [(text, _, _)] = shown
    assert "a later node replaced its attention override; move ANN-Sparse" in text


@pytest.mark.parametrize("levels", [(), (1.0,)])
def test_of_a_run_that_fails_before_any_attention_nothing_is_said(
    bench: Bench, shown: Shown, levels: tuple[float, ...]
) -> None:
    """As after Cancel, while its exception is in flight; an earlier one does not count."""
    model = behind_the_node(bench, shown)
    try:
        raise RuntimeError("an earlier run")
    except RuntimeError:
        with pytest.raises(RuntimeError, match="out of memory"):
            sample(model, *levels, fails=True)
        assert len(shown) == len(levels)
        sample(model)
    assert "ignores attention overrides" in shown[-1][0]


def test_what_became_of_the_prompt_is_told(bench: Bench, shown: Shown) -> None:
    for how, expected in (
        ("prune", r"; \d+% of the prompt's tokens, [1-9]\d?% of the words left out\."),
        ("off", r"; prompt attention unchanged\."),
    ):
        sample(behind_the_node(bench, shown, prompt_attention=how), 0.5)
        assert re.search(expected, shown[-1][0]), shown


def test_of_two_nodes_in_a_row_the_second_tells(bench: Bench, shown: Shown) -> None:
    first = behind_the_node(bench, shown)
    chosen = {"self_attention": "off", "prompt_attention": "merge padding"}
    sample(behind_the_node(bench, shown, first, **chosen), 0.5)
    assert [text for text, _, _ in shown] == [
        "On ComfyUI's sampler: self-attention unchanged; 100% of the prompt's tokens."
    ]
