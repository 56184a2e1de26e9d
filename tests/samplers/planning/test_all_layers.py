"""A plan is that of a rehearsal of all layers, wherever they take the most memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import AveragingSink, CachePolicy, FullHistory, WindowSink
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT4
from longtake.attention.temp_cache.policy import TempCache
from longtake.model.action_sizes import ActionSizes
from longtake.model.config import DiTConfig
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.guidance.presets import cfg, vanilla
from longtake.samplers.planning import memory
from longtake.samplers.planning.memory import rollout_memory
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings

DEEP = DiTConfig(1536, 8960, 12, 16, 64)  # as wide as Wan 2.1 1.3B
KEYS = replace(DEEP, camera="keys", action=ActionSizes(blocks=7, keys=4, embed=128, width=1024))
SHOTS: dict[str, dict[str, Any]] = {
    "window": {"cache": WindowSink(21, 3)},
    "full": {"cache": FullHistory()},
    "full, long": {"cache": FullHistory(), "length": 960},
    "full int4": {"cache": FullHistory(), "storage": Packed(INT4, 3)},
    "not held": {"cache": FullHistory(), "hold_rotated": False},
    "merged": {"cache": TempCache(20, sink_frames=1)},
    "averaging": {"cache": AveragingSink(12, 3)},
    "re-cached": {"cache": WindowSink(21, 3), "on_prompt_change": "re-cache"},
    "noise": {"cache": WindowSink(21, 3), "guidance": vanilla(1.5)},
    "keys": {"cache": WindowSink(3), "guidance": cfg(1.0)},
}


def shot(cache: CachePolicy, **changes: Any) -> RolloutSettings:
    text = torch.zeros(32, DEEP.text_dim)
    prompts = PromptTimeline((TimedPrompt(0, text, "nothing"),), text)
    chosen = {"rows": 60, "columns": 104, "length": 240, "guidance": cfg(2.5), **changes}
    schedule = causal_chunks(flow_ladder(2, 3.0), 3)
    return RolloutSettings(prompts, schedule=schedule, cache=cache, **chosen)


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("name", SHOTS)
def test_three_layers_and_two_shorter_shots_tell_the_whole_plan(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, sizes = shot(**SHOTS[name]), KEYS if name == "keys" else DEEP
    planned = rollout_memory(settings, sizes, torch.float32)
    monkeypatch.setattr(memory, "DEEPEST", DEEP.num_layers)
    monkeypatch.setattr(memory, "shorter_shots", lambda settings: None)
    monkeypatch.setattr(memory, "_of_all_layers", lambda shot, config, measure: measure(config))
    assert planned == rollout_memory(settings, sizes, torch.float32)


def test_more_layers_never_take_less() -> None:
    settings = shot(**SHOTS["full"])
    plans = [
        rollout_memory(settings, replace(DEEP, num_layers=count), torch.float32).working_bytes
        for count in (1, 2, 3, 8, 30)
    ]
    assert plans == sorted(plans) and plans[0] > 0
