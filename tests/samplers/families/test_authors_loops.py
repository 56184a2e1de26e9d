"""Families by their presets, against what their authors' own code made of the same inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import WindowSink
from longtake.model.families.table import BY_KEY
from longtake.model.preset_cache import preset_cache
from longtake.samplers.conditioning.first_frame import ReencodedFirstFrame
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.denoiser import Commits, LowNoise
from longtake.samplers.rules.memory import MemoryRules, preset_rules
from longtake.samplers.rules.positions import TopAligned
from longtake.tests.support.samplers.authors import RUNS, AuthorsRun, ToyCodec

CLOSE = {"rtol": 0, "atol": 5e-5}  # latents deviate by about 1; their levels are float32

SETTINGS: dict[str, dict[str, Any]] = {
    "krea-realtime": {"reencoded_first_frame": ReencodedFirstFrame(ToyCodec(), "toy")},
    "sgf-plus": {"passes": Commits()},
    "sgf-plus-framewise": {"passes": Commits()},
}
"""What a preset cannot say: a VAE, and the passes of second weights."""


@torch.inference_mode()
@pytest.mark.parametrize("key", RUNS)
def test_a_preset_is_the_authors_own_code(key: str) -> None:
    """Levels, re-noising, commits, window, sink and places, from the first block to the last."""
    run = AuthorsRun.read(RUNS[key])
    made = run.rollout(BY_KEY[key].preset, **SETTINGS.get(key, {}))
    torch.testing.assert_close(made, run.latents, **CLOSE)


@torch.inference_mode()
def test_a_sink_that_averages_much_is_the_authors_too() -> None:
    """Reward Forcing's .999 hardly shows within a test; with .5 in its code instead, it does."""
    run, preset = AuthorsRun.read("reward_forcing_half"), BY_KEY["reward-forcing"].preset
    torch.testing.assert_close(run.rollout(replace(preset, sink_decay=0.5)), run.latents, **CLOSE)


@torch.inference_mode()
def test_top_aligned_positions_are_self_gradient_forcings() -> None:
    """Without the rule that its preset sets, the window follows the sink."""
    run, preset = AuthorsRun.read("sgf_chunkwise"), BY_KEY["sgf"].preset
    assert preset_rules(preset, preset_cache(preset)) == MemoryRules(positions=TopAligned(21))
    beside = run.rollout(preset, memory=MemoryRules())
    assert (beside - run.latents).abs().max() > 100 * CLOSE["atol"]


@torch.inference_mode()
def test_memories_by_attention_and_diversity_are_tether_caches() -> None:
    """Self-Forcing with 2 latent frames of sink, 6 memories and 4 newest ones, 3 in work."""
    run, preset = AuthorsRun.read("tethercache"), BY_KEY["self-forcing"].preset
    made = run.rollout(preset, cache=TetherCache(9, 2))
    torch.testing.assert_close(made, run.latents, **CLOSE)
    for other in (WindowSink(9, 2), TetherCache(9, 2, alignment=0.0), TetherCache(9, 2, 2)):
        assert (run.rollout(preset, cache=other) - run.latents).abs().max() > 100 * CLOSE["atol"]


@torch.inference_mode()
def test_dummy_heads_are_dummy_forcings() -> None:
    """Self-Forcing with 1 latent frame of sink and 3 newest ones, from the second chunk by head."""
    run, preset = AuthorsRun.read("dummy_forcing"), BY_KEY["self-forcing"].preset
    published = DummyHeads(4, 1, distant_sink=True)
    torch.testing.assert_close(run.rollout(preset, cache=published), run.latents, **CLOSE)
    for other in (
        WindowSink(4, 1), DummyHeads(4, 1), replace(published, dummy_share=0.25),
        replace(published, dummy_frames=2),
    ):  # fmt: skip
        assert (run.rollout(preset, cache=other) - run.latents).abs().max() > 100 * CLOSE["atol"]


@torch.inference_mode()
def test_causal_wan_22_is_fastvideos_own_loop() -> None:
    """Five chunks behind a picture; their loop had a window of 7 latent frames with the chunk."""
    run, preset = AuthorsRun.read("fastvideo_pair"), BY_KEY["causal-wan22"].preset
    picture = KnownFrames((KnownFrame(0, run.latents[0]),))
    passes = LowNoise(preset.boundary)
    made = run.rollout(replace(preset, window_frames=4), passes, known_frames=picture)
    torch.testing.assert_close(made, run.latents, **CLOSE)
    for other in (None, Commits(), LowNoise(0.95)):
        away = run.rollout(replace(preset, window_frames=4), other, known_frames=picture)
        assert (away - run.latents).abs().max() > 100 * CLOSE["atol"]


@torch.inference_mode()
def test_sgf_plus_is_not_sgf() -> None:
    """The commits by its second weights show."""
    plus, plain = (AuthorsRun.read(f"sgf{name}_chunkwise").latents for name in ("_plus", ""))
    assert (plus[3:] - plain[3:]).abs().max() > 0.1


def test_two_windows_that_differ_in_places_alone_are_told_apart() -> None:
    """LongLive 1.0 and infinity run on the same inputs here."""
    plain, infinity = (AuthorsRun.read(name).latents for name in ("longlive", "longlive_infinity"))
    assert torch.equal(plain[:12], infinity[:12])
    assert (plain[15:] - infinity[15:]).abs().max() > 100 * CLOSE["atol"]
