"""Laws of recache: only on request, from the window alone, at addresses of its own, and from there
on with reproducible bits.
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
from longtake.errors import Unsupported
from longtake.samplers.denoiser import Denoiser
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.rules.anchor import Anchor
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import records
from longtake.stream.rollout import recache
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model_hosts import model_with_hooks
from longtake.tests.support.stream.rollouts import (
    KINDS,
    MODEL,
    assert_same_bits,
    cut_after,
    rollout,
)
from longtake.tests.support.tiny_model import settings, timeline

WINDOW = WindowSink(5, 1)  # of chunks of 3 latent frames
LONG: dict[str, Any] = {"length": 24, "cache": WINDOW}


def quick(folder: Path, model: Denoiser = MODEL, **changes: Any) -> Rollout:
    return rollout(folder, model, resume="recache", **{**LONG, **changes})


def from_the_window(**changes: Any) -> list[Chunk]:
    """Generate from latent frame 15 on with only the sink and the four frames before committed."""
    chosen = settings(**{**LONG, **changes})
    whole = list(generate(chosen, MODEL))
    before = [chunk for chunk in whole if chunk.first_frame < 15]
    newest = whole[len(before)].first_frame - 4
    seen = (
        chunk
        for chunk in before
        if chunk.index == 0 or chunk.first_frame + len(chunk.latents) > newest
    )
    return [*before, *generate(chosen, MODEL, seen)]


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("kind", ["causal, multistep", "pyramid, multistep", "rolling, multistep"])
def test_a_recached_shot_continues_from_sink_and_window_alone(tmp_path: Path, kind: str) -> None:
    changes = {**LONG, **KINDS[kind], "cache": WINDOW}
    whole = list(rollout(tmp_path / "whole", **changes).chunks)
    done = sum(chunk.first_frame < 15 for chunk in whole)
    cut_after(rollout(tmp_path, **changes), done)
    made = quick(tmp_path, **changes)
    chunks = list(made.chunks)
    assert made.resumed_from == done
    assert_same_bits(chunks, from_the_window(**changes))
    assert not torch.equal(chunks[done].latents, whole[done].latents)


def test_recache_is_not_the_default_and_has_addresses_of_its_own(tmp_path: Path) -> None:
    whole = list(rollout(tmp_path / "whole", **LONG).chunks)
    cut_after(rollout(tmp_path, **LONG), 5)
    assert len(list(quick(tmp_path).chunks)) == 8
    exact = rollout(tmp_path, **LONG)
    assert exact.spec.resume == "exact"
    assert_same_bits(list(exact.chunks), whole)


def test_a_recached_shot_resumes_with_its_own_bits_at_any_cut(tmp_path: Path) -> None:
    """Every recache belongs to the addresses of the chunks after it."""
    cut_after(rollout(tmp_path, **LONG), 5)
    chunks = iter(quick(tmp_path).chunks)
    first = [next(chunks) for _ in range(6)]
    del chunks
    again = quick(tmp_path)
    assert again.spec.stored_chunks() == 6 and again.spec.resume_at_s == 4 * 17.25 / 16
    assert_same_bits(list(again.chunks)[:6], first)
    assert again.run.state.settings.recache_frames == (15, 18)
    assert_same_bits(list(quick(tmp_path).chunks), list(again.chunks))
    assert {record.latent_frames for record in records(Journal(tmp_path))} == {15, 18, 24}


def test_a_stored_state_is_resumed_exactly(tmp_path: Path) -> None:
    whole = list(rollout(tmp_path / "whole", **LONG).chunks)
    cut_after(rollout(tmp_path, snapshot_chunks=2, **LONG), 5)
    made = quick(tmp_path)
    assert_same_bits(list(made.chunks), whole)
    assert made.run.state.settings.recache_frames == ()


def test_a_recached_shot_keeps_the_anchor_that_has_left_its_window(tmp_path: Path) -> None:
    """No sink: the first chunk is not committed again, and still anchors what follows."""
    changes = {**LONG, "cache": WindowSink(4), "anchor": Anchor(1.0), "prompts": timeline(0)}
    cut_after(rollout(tmp_path, **changes), 5)
    chunks = list(quick(tmp_path, **changes).chunks)
    first, last = (chunks[i].latents.mean((0, 2, 3)) for i in (0, -1))
    torch.testing.assert_close(last, first)


def test_a_recache_commits_only_the_window(tmp_path: Path) -> None:
    counted: list[int] = []
    cut_after(rollout(tmp_path, **{**LONG, "length": 45}), 14)
    model = model_with_hooks(MODEL, on_check=lambda: counted.append(1))
    assert len(list(quick(tmp_path, model, length=45).chunks)) == 15
    assert len(counted) == 3 + 2  # commits of the sink's chunk and the window's two, then the steps


def test_a_rebuilt_window_gives_the_same_video(tmp_path: Path) -> None:
    changes: dict[str, Any] = {**LONG, "cache": RebuiltWindow(5, 1)}
    whole = list(rollout(tmp_path / "whole", **changes).chunks)
    cut_after(rollout(tmp_path, **changes), 5)
    assert_same_bits(list(quick(tmp_path, **changes).chunks), whole)


def test_a_recache_that_omits_nothing_is_exact(tmp_path: Path) -> None:
    for name, cache, count in (("full", FullHistory(), 5), ("early", WINDOW, 1)):
        made = quick(tmp_path / name, cache=cache)
        cut_after(rollout(tmp_path / name, **{**LONG, "cache": cache}), count)
        list(made.chunks)
        assert made.run.state.settings.recache_frames == ()


def test_a_damaged_chunk_before_a_recache_is_replaced_and_later_chunks_stay(tmp_path: Path) -> None:
    """Production rebuilds the history at the same chunk again."""
    cut_after(rollout(tmp_path, **LONG), 5)
    made = quick(tmp_path)
    chunks, chain = list(made.chunks), made.run.state.chain
    for index in (3, 6):
        (tmp_path / f"{chain.key(index)}.safetensors").write_bytes(b"")
        again = Rollout(RolloutSpec(made.run.state.settings, MODEL, "model", Journal(tmp_path)))
        assert_same_bits(list(again.chunks), chunks)


def test_a_cache_with_longer_memory_cannot_be_recached() -> None:
    with pytest.raises(Unsupported, match="remembers frames that have left the window"):
        recache.check("recache", AveragingSink(6, 3))
    recache.check("exact", AveragingSink(6, 3))
    recache.check("recache", WINDOW)
