"""Laws of going on by recache: only when asked for, from the window alone, under an address of its
own, and from there on with the same bits as itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import (
    AveragingSink,
    FullHistory,
    RebuiltWindow,
    WindowSink,
)
from longtake.errors import BadInput
from longtake.samplers.denoiser import Denoiser
from longtake.samplers.loop import Chunk, generate
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import records
from longtake.stream.rollout import recache
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model_hosts import watched_model
from longtake.tests.support.stream.rollouts import (
    KINDS,
    MODEL,
    assert_same_bits,
    cut_after,
    rollout,
)
from longtake.tests.support.tiny_model import settings

WINDOW = WindowSink(5, 1)  # of chunks of 3 latent frames
LONG: dict[str, Any] = {"length": 24, "cache": WINDOW}


def quick(folder: Path, model: Denoiser = MODEL, **changes: Any) -> Rollout:
    return rollout(folder, model, resume="recache", **{**LONG, **changes})


def from_the_window(**changes: Any) -> list[Chunk]:
    """What follows latent frame 15 where only the sink and the four before it are committed."""
    chosen = settings(**{**LONG, **changes})
    whole = list(generate(chosen, MODEL))
    before = [one for one in whole if one.first_frame < 15]
    newest = whole[len(before)].first_frame - 4
    seen = (one for one in before if one.index == 0 or one.first_frame + len(one.latents) > newest)
    return [*before, *generate(chosen, MODEL, seen)]


@pytest.mark.parametrize("kind", ["causal, multistep", "pyramid, multistep", "rolling, multistep"])
def test_what_follows_is_made_from_sink_and_window_alone(tmp_path: Path, kind: str) -> None:
    changes = {**LONG, **KINDS[kind], "cache": WINDOW}
    whole = list(rollout(tmp_path / "whole", **changes).chunks)
    done = sum(one.first_frame < 15 for one in whole)
    cut_after(rollout(tmp_path, **changes), done)
    made = quick(tmp_path, **changes)
    chunks = list(made.chunks)
    assert made.resumed_from == done
    assert_same_bits(chunks, from_the_window(**changes))
    assert not torch.equal(chunks[done].latents, whole[done].latents)


def test_it_is_never_the_default_and_nothing_else_finds_its_chunks(tmp_path: Path) -> None:
    whole = list(rollout(tmp_path / "whole", **LONG).chunks)
    cut_after(rollout(tmp_path, **LONG), 5)
    assert len(list(quick(tmp_path).chunks)) == 8
    exact = rollout(tmp_path, **LONG)
    assert exact.spec.resume == "exact"
    assert_same_bits(list(exact.chunks), whole)


def test_it_goes_on_with_its_own_bits_wherever_it_is_cut_again(tmp_path: Path) -> None:
    """Each place where it went on so belongs to the address of what follows."""
    cut_after(rollout(tmp_path, **LONG), 5)
    chunks = iter(quick(tmp_path).chunks)
    first = [next(chunks) for _ in range(6)]
    del chunks
    again = quick(tmp_path)
    assert again.spec.stored_chunks() == 6 and again.spec.resume_at_s == 4 * 17.25 / 16
    assert_same_bits(list(again.chunks)[:6], first)
    assert again.run.state.settings.recache_frames == (15, 18)
    assert_same_bits(list(quick(tmp_path).chunks), list(again.chunks))
    assert {one.latent_frames for one in records(Journal(tmp_path))} == {15, 18, 24}


def test_a_state_that_is_kept_is_gone_on_from_exactly(tmp_path: Path) -> None:
    whole = list(rollout(tmp_path / "whole", **LONG).chunks)
    cut_after(rollout(tmp_path, snapshot_chunks=2, **LONG), 5)
    made = quick(tmp_path)
    assert_same_bits(list(made.chunks), whole)
    assert made.run.state.settings.recache_frames == ()


def test_it_commits_the_window_and_no_more(tmp_path: Path) -> None:
    counted: list[int] = []
    cut_after(rollout(tmp_path, **{**LONG, "length": 45}), 14)
    model = watched_model(MODEL, on_check=lambda: counted.append(1))
    assert len(list(quick(tmp_path, model, length=45).chunks)) == 15
    assert len(counted) == 3 + 2  # commits of the sink's chunk and the window's two, then the steps


def test_what_a_window_alone_gives_anyway_is_the_same_video(tmp_path: Path) -> None:
    changes: dict[str, Any] = {**LONG, "cache": RebuiltWindow(5, 1)}
    whole = list(rollout(tmp_path / "whole", **changes).chunks)
    cut_after(rollout(tmp_path, **changes), 5)
    assert_same_bits(list(quick(tmp_path, **changes).chunks), whole)


def test_where_nothing_is_left_out_it_is_the_exact_run(tmp_path: Path) -> None:
    for name, cache, count in (("full", FullHistory(), 5), ("early", WINDOW, 1)):
        made = quick(tmp_path / name, cache=cache)
        cut_after(rollout(tmp_path / name, **{**LONG, "cache": cache}), count)
        list(made.chunks)
        assert made.run.state.settings.recache_frames == ()


def test_a_damaged_chunk_before_it_is_made_again_and_what_follows_stays(tmp_path: Path) -> None:
    """The history is made anew at the same place when production passes it."""
    cut_after(rollout(tmp_path, **LONG), 5)
    made = quick(tmp_path)
    chunks, chain = list(made.chunks), made.run.state.chain
    for index in (3, 6):
        (tmp_path / f"{chain.key(index)}.safetensors").write_bytes(b"")
        again = Rollout(RolloutSpec(made.run.state.settings, MODEL, "model", Journal(tmp_path)))
        assert_same_bits(list(again.chunks), chunks)


def test_what_a_window_cannot_give_back_is_refused() -> None:
    with pytest.raises(BadInput, match="frames that have left the window"):
        recache.check("recache", AveragingSink(6, 3))
    recache.check("exact", AveragingSink(6, 3))
    recache.check("recache", WINDOW)
