"""A KV cache by bytes: the longest window that fits, never one that does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from longtake.attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MostAttended,
    WindowSink,
)
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT4
from longtake.errors import BadInput
from longtake.samplers.guidance import cfg, vanilla
from longtake.samplers.history.budget import within_budget
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import TINY, settings

F32 = torch.float32


def fitted(budget: int, **changes: Any) -> RolloutSettings:
    """Settings of no set end within a budget."""
    return within_budget(settings(length=None, **changes), budget, TINY, F32)


@examples(40)
@given(
    policy=st.sampled_from(
        [WindowSink(40, 2), AveragingSink(30, 3), MostAttended(25), FullHistory()]
    ),
    storage=st.sampled_from([DENSE, Packed(INT4, 3)]),
    guidance=st.sampled_from([cfg(1.0), cfg(2.0), vanilla(1.5)]),
    share=st.floats(0.3, 3.0),
)
def test_the_window_is_the_longest_that_fits(
    policy: CachePolicy, storage: Any, guidance: Any, share: float
) -> None:
    twenty = settings(length=None, cache=WindowSink(20, 2), storage=storage, guidance=guidance)
    budget = int(share * planned_bytes(twenty, TINY, F32))
    least = settings(
        length=None, cache=type(policy)(policy.sink_frames + 1, policy.sink_frames),
        storage=storage, guidance=guidance,
    ) if policy.limit else twenty  # fmt: skip
    assume(planned_bytes(least, TINY, F32) <= budget)
    found = fitted(budget, cache=policy, storage=storage, guidance=guidance)
    window = found.cache.limit
    assert window is not None and planned_bytes(found, TINY, F32) <= budget
    assert type(found.cache) is type(policy) or policy == FullHistory()
    assert found.cache.sink_frames == policy.sink_frames
    if window < (policy.limit or math.inf):
        longer = settings(
            length=None, cache=type(found.cache)(window + 1, policy.sink_frames),
            storage=storage, guidance=guidance,
        )  # fmt: skip
        assert planned_bytes(longer, TINY, F32) > budget


def test_a_budget_that_is_large_enough_changes_nothing() -> None:
    for changes in ({"cache": WindowSink(9, 1)}, {"cache": FullHistory(), "length": 12}):
        chosen = settings(**{"length": None, **changes})
        assert within_budget(chosen, 2**40, TINY, F32) == chosen


def test_a_budget_below_the_sink_and_one_frame_is_refused_with_the_bytes_it_takes() -> None:
    with pytest.raises(
        BadInput,
        match=r"is \S*[1-9]\S* GB, and 4 latent frames, the sink and one more, take \S*[1-9]",
    ):
        fitted(1000, cache=WindowSink(20, 3))


def test_a_budget_below_one_frame_names_no_sink_where_there_is_none() -> None:
    with pytest.raises(BadInput, match=r"GB, and 1 latent frame takes \S*[1-9]\S* GB"):
        fitted(1000, cache=WindowSink(20, 0))
