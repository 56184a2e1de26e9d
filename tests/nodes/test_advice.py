"""Every refusal of the engine is completed with the input to change, and only by the nodes."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import AveragingSink, MostAttended, WindowSink
from longtake.attention.storage.placement import InMainMemory
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput, OutOfMemory
from longtake.nodes.advice import ADVICE, advising, less_memory
from longtake.samplers.guidance import cfg, extend, last, temporal
from longtake.samplers.history.budget import within_budget
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout import recache
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model_hosts import model_with_claims
from longtake.tests.support.tiny_model import TINY, settings

ENGINE = ("attention", "model", "samplers", "stream")
ROOT = Path(__file__).resolve().parents[2]

MERGED, OFF = TempCache(6, sink_frames=3), "switch temp_cache of ANN-Sparse Attention off"
GROWING = ContextNoise(0.1, fresh=True)


def by_age(cache: Any) -> Any:
    return settings(cache=cache, guidance=extend(cfg(2.0), temporal(0.5, last(4))))


@pytest.mark.parametrize(
    ("refused", "window", "otherwise"),
    [
        (lambda cache: settings(cache=cache, placement=InMainMemory()),
         MostAttended(6, per_head=True), "or choose another policy there"),
        (by_age, MostAttended(6, per_head=True), "or choose another policy in KV Cache Settings"),
        (lambda cache: settings(cache=cache, context_noise=GROWING),
         AveragingSink(6, 3), "choose `window + sink` in KV Cache Settings, or"),
        (lambda cache: recache.check("recache", cache),
         AveragingSink(6, 3), "or choose `window + sink` in KV Cache Settings"),
    ],
    ids=["placement", "ages", "context noise", "recache"],
)  # fmt: skip
def test_what_helps_is_temp_caches_own_switch(
    refused: Callable[[Any], Any], window: Any, otherwise: str
) -> None:
    with pytest.raises(BadInput, match=OFF), advising():
        refused(MERGED)
    with pytest.raises(BadInput, match=re.escape(otherwise)), advising():
        refused(window)


def test_a_budget_too_small_for_the_presets_sink_names_the_preset() -> None:
    bare = WindowSink(6, 0)
    cases = (MERGED, "preset `custom`"), (WindowSink(6, 3), "or lower sink_frames"), (
        bare, "height, or choose int8 or int4 storage in KV Cache Settings.$"
    )  # fmt: skip
    for cache, says in cases:
        with pytest.raises(BadInput, match=says), advising():
            within_budget(settings(cache=cache), 1000, TINY, torch.float32)


@pytest.mark.parametrize(
    ("cache", "says"), [(MERGED, "preset `fast` of ANN"), (WindowSink(6), "or window_frames, or")]
)
def test_memory_that_runs_out_twice_names_what_takes_less(
    tmp_path: Path, cache: Any, says: str
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    model = model_with_claims(None, TINY, full)
    spec = RolloutSpec(
        settings(cache=cache), model, "model", Journal(tmp_path), memory_advice=less_memory(cache)
    )
    with pytest.raises(OutOfMemory, match=says):
        list(Rollout(spec).chunks)


def refusals() -> set[str]:
    """The code of every `Unsupported` that the engine raises."""
    calls = (
        node
        for part in ENGINE
        for path in (ROOT / part).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Unsupported"
    )
    return {ast.literal_eval(call.args[1]) for call in calls}


def test_every_refusal_of_the_engine_has_advice_and_no_advice_is_idle() -> None:
    assert refusals() == set(ADVICE)


def display_names() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "nodes").rglob("*.py")]
    pattern = r'node_id="Longtake\w+",\s*display_name="([^"]+)"'
    return {name for text in texts for name in re.findall(pattern, text)}


def test_the_engine_names_no_node() -> None:
    """It runs without a canvas; nodes/advice.py says which node to change."""
    named = [
        f"{path.relative_to(ROOT)}: {name}"
        for part in ENGINE
        for path in sorted((ROOT / part).rglob("*.py"))
        for name in display_names()
        if name in path.read_text(encoding="utf-8")
    ]
    assert len(display_names()) > 20 and named == []


@pytest.mark.parametrize("cache", [MERGED, WindowSink(6)])
def test_all_advice_begins_with_what_to_do(cache: Any) -> None:
    for code, advice in ADVICE.items():
        says = advice(cache) if inspect.signature(advice).parameters else advice()
        assert says[0].isalpha(), f"{code}: {says}"
