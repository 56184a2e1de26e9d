"""Laws of a window whose oldest latent frame is encoded as the first of a video is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import CachePolicy, RebuiltWindow, WindowSink
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput
from longtake.model.vae.streaming import StreamingDecoder
from longtake.samplers.conditioning.first_frame import LOOKBACK_FRAMES
from longtake.samplers.guidance import Guidance, cfg
from longtake.samplers.planning.memory import rollout_memory
from longtake.tests.support.samplers.brute_force import Term
from longtake.tests.support.samplers.first_frame import AGAIN, VAE, as_a_first_one
from longtake.tests.support.samplers.guided_rollouts import CLOSE, ours, reference
from longtake.tests.support.stream.rollouts import assert_same_bits, cut_after, rollout
from longtake.tests.support.tiny_model import TINY, randomise, settings

WINDOW = 4
randomise(VAE, 1)


GIVEN: dict[str, Any] = {"cache": RebuiltWindow(WINDOW), "reencoded_first_frame": AGAIN}


def terms(first: int) -> list[Term]:
    seen = range(max(0, first - WINDOW), first)
    return [Term(1.0, seen, recommitted=True, again=as_a_first_one)]


def test_a_window_begins_with_its_oldest_picture_encoded_alone() -> None:
    """Against whole videos and passes without a cache; the tiny VAE looks back four at most."""
    assert StreamingDecoder(VAE).overlap_frames <= LOOKBACK_FRAMES
    made = ours(Guidance(), **GIVEN)
    torch.testing.assert_close(made, reference(terms), **CLOSE)
    left_alone = ours(Guidance(), cache=RebuiltWindow(WINDOW))
    assert torch.equal(made[:6], left_alone[:6]) and not torch.equal(made[6:9], left_alone[6:9])


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_it_goes_on_with_the_same_bits(tmp_path: Path, count: int, every: int) -> None:
    given = {**GIVEN, "length": 18, "guidance": cfg(2.0)}
    whole = list(rollout(tmp_path / "whole", **given).chunks)
    cut_after(rollout(tmp_path, snapshot_chunks=every, **given), count)
    again = rollout(tmp_path, **given)
    assert_same_bits(list(again.chunks), whole)
    assert again.resumed_from == count


@pytest.mark.parametrize("on_prompt_change", ["keep", "re-cache", "flush"])
def test_it_goes_with_prompt_switches_and_coded_storage(on_prompt_change: str) -> None:
    made = ours(Guidance(), **GIVEN, on_prompt_change=on_prompt_change, storage=Packed(INT8, 3))
    assert made.isfinite().all()


def test_its_chunks_have_addresses_of_their_own_by_vae(tmp_path: Path) -> None:
    other = dataclasses.replace(AGAIN, digest="other")
    keys = {rollout(tmp_path, **{**GIVEN, "reencoded_first_frame": one}).spec.key(0)
            for one in (None, AGAIN, other)}  # fmt: skip
    assert len(keys) == 3


def test_the_vaes_memory_is_in_the_plan() -> None:
    room = dataclasses.replace(AGAIN, room_bytes=10**9)
    chosen = settings(**{**GIVEN, "reencoded_first_frame": room})
    assert rollout_memory(chosen, TINY, torch.float32).working_bytes == 10**9


@pytest.mark.parametrize("kept", [WindowSink(WINDOW), TempCache(WINDOW)], ids=["window", "temp"])
def test_a_kept_window_cannot_begin_anew(kept: CachePolicy) -> None:
    """Nor can merged entries, which are of no frame alone: the two are never in force at once."""
    with pytest.raises(BadInput, match="never rebuilds its history"):
        settings(cache=kept, reencoded_first_frame=AGAIN)
