"""What a saved shot's attention needs, where it is not installed, and where it is not needed."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from longtake.attention.coarse.window import CoarseWindow
from longtake.attention.delta.window import DeltaWindow
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.errors import BadInput
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.loop import generate
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.tiny_model import TINY, random_dit, settings

MODEL = local_denoiser(random_dit(), TINY)


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither FAISS nor Triton."""
    for name in ("faiss", "triton"):
        monkeypatch.setitem(sys.modules, name, None)


def check(chosen: RolloutSettings) -> None:
    """As Load Rollout does."""
    from longtake.nodes.rollouts.compatibility import check_compatible

    check_compatible(chosen, None, MODEL)


def sparse(kernel: str, min_keys: int | None = 0) -> Sparsity:
    """AnnSA that will run, or where it was measured to be faster: nowhere."""
    return Sparsity(SparseSelf(0.3, min_keys=min_keys, kernel=kernel))


@pytest.mark.usefixtures("_bare", "bench")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cache": TempCache(5, index="faiss")}, "index faiss .* faiss is not installed"),
        ({"cache": TempCache(5, index="lsh", kernel="triton")}, "kernel triton .* not installed"),
        ({"sparsity": sparse("triton")}, "kernel triton .* not installed"),
    ],
)
def test_what_is_missing_is_named_in_one_sentence(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=f"The shot's {says}"):
        check(settings(length=6, **changes))


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("cache", [CoarseWindow(7, 1), DeltaWindow(7, 1)])
def test_a_model_that_cannot_read_the_past_is_refused_when_the_shot_is_loaded(cache: Any) -> None:
    with pytest.raises(BadInput, match="layer.*connect a model of the family that made the shot"):
        check(settings(length=6, cache=cache))


@pytest.mark.usefixtures("_bare", "bench")
@pytest.mark.parametrize(
    "changes",
    [
        {"cache": TempCache(5, index="faiss", eviction=REDUNDANT)},
        {"cache": TempCache(5, index="lsh", eviction=REDUNDANT, kernel="triton")},
        {"cache": TempCache(5, kernel="triton")},
        {"cache": TempCache(5, index="k-means", kernel="flex")},
        {"sparsity": sparse("triton", min_keys=None)},
    ],
)
def test_what_is_not_used_is_not_missing(changes: dict[str, Any]) -> None:
    chosen = settings(length=6, **changes)
    check(chosen)
    planned = planned_bytes(chosen, TINY, torch.float32)
    assert {chunk.kv_bytes for chunk in generate(chosen, MODEL)} == {planned}


def test_an_index_that_is_not_asked_takes_no_memory() -> None:
    plain, coded = (settings(length=6, cache=TempCache(5, index=index, eviction=REDUNDANT))
                    for index in ("exact", "int8"))  # fmt: skip
    sizes = [planned_bytes(one, TINY, torch.float32) for one in (plain, coded)]
    assert sizes[0] == sizes[1]
