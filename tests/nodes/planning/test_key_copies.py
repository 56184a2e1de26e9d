"""A plan that is tight does without rotated copies of keys; nothing else of the shot changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.tests.support.node_bench import CONFIG, Bench, node_bench, tiny_demo


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A model of several layers: one layer's copy of keys is always there."""
    (tmp_path / "demo").mkdir()
    demo = tiny_demo(tmp_path / "demo", replace(CONFIG, num_layers=3))
    with node_bench(tmp_path / "out", demo, monkeypatch) as opened:
        yield opened


def given_memory(patch: pytest.MonkeyPatch, free: int) -> None:
    from longtake.nodes import host

    patch.setattr(host, "usable_memory_bytes", lambda device: free)


def needed(rollout: Any) -> tuple[int, int]:
    """Bytes that the rollout needs with and without copies of keys."""
    full, lean = rollout.footprint, rollout.footprint.lean
    return tuple(one.kv_bytes + one.working_bytes for one in (full, lean))  # type: ignore[return-value]


def test_keys_are_kept_rotated_where_there_is_room_and_not_where_there_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy, _ = bench.rollout(plan_only=True)
    full, lean = needed(roomy)
    assert lean < full
    for free, expected in ((full, True), (full - 1, False), (lean, False)):
        given_memory(monkeypatch, free)
        rollout, _ = bench.rollout(plan_only=True)
        assert rollout.settings.hold_rotated is expected and rollout.plan.fits
        assert rollout.plan.kv_bytes == rollout.kv_bytes_planned
        assert ("keys are rotated in every pass" in rollout.plan.text) is not expected
        assert rollout.spec.id == roomy.spec.id
    given_memory(monkeypatch, lean - 1)
    assert not bench.rollout(plan_only=True)[0].plan.fits


def test_decoding_may_leave_no_room_for_copies_of_keys(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = bench.frames(plan_only=True)
    decoder = frames.vae.decoder_memory(*frames.rollout.largest_latents)
    full = (
        frames.rollout.kv_bytes_planned
        + decoder.state_bytes
        + max(frames.rollout.footprint.working_bytes, decoder.working_bytes)
    )
    assert frames.rollout.settings.hold_rotated
    given_memory(monkeypatch, full - 1)
    tight = bench.frames(plan_only=True)
    assert not tight.rollout.settings.hold_rotated and tight.plan.fits
    assert "keys are rotated in every pass" in tight.plan.text


def test_a_shot_without_copies_of_keys_is_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another seed's journal, so that both are really made."""
    _, lean = needed(bench.rollout(plan_only=True, seed=7)[0])
    given_memory(monkeypatch, lean)
    tight, _ = bench.rollout(seed=7)
    latents = bench.collect(tight, "latent")["samples"]
    assert tight.kv_bytes == tight.kv_bytes_planned
    from longtake.nodes import host

    for chunk in host.rollout_folder().rglob("*.safetensors"):
        chunk.unlink()
    given_memory(monkeypatch, 2**40)
    roomy, _ = bench.rollout(seed=7)
    assert torch.equal(latents, bench.collect(roomy, "latent")["samples"])
    assert (roomy.kv_bytes or 0) > (tight.kv_bytes or 0)


def test_the_user_can_stop_a_plan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from longtake.nodes import host

    class Cancel(Exception):
        """What the host raises."""

    def cancel() -> None:
        raise Cancel

    given_memory(monkeypatch, 1000)
    monkeypatch.setattr(host, "check_interrupted", cancel)
    with pytest.raises(Cancel):
        bench.rollout(plan_only=True)


def test_a_full_history_that_does_not_fit_names_length_and_window(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_memory(monkeypatch, 2**20)
    [cache] = bench.run("LongtakeKVCacheSettings", policy="full")
    day, _ = bench.rollout(kv_cache=cache, length=86_400.0, length_unit="seconds", plan_only=True)
    assert "lower length, width or height, or choose the policy `window + sink`" in day.plan.text
    [window] = bench.run("LongtakeKVCacheSettings", policy="window + sink")
    given_memory(monkeypatch, 1000)
    tight, _ = bench.rollout(kv_cache=window, plan_only=True)
    assert not tight.plan.fits and "`window + sink`" not in tight.plan.text
