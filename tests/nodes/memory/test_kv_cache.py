"""KV Cache Settings under the stand-in host: what a user chooses, is told, and gets."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import (
    AveragingSink,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.attention.recall.window import RecallWindow
from longtake.attention.storage.placement import OnDisk
from longtake.errors import BadInput
from longtake.model.families.table import BY_KEY, DEMO_KEY, FAMILIES, FAST_DEMO_KEY
from longtake.model.preset import DEMO
from longtake.model.preset_cache import preset_cache
from longtake.nodes.memory.cache_spec import POLICIES
from longtake.samplers.history.settings import CacheSettings
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import pictures
from longtake.tests.support.tiny_model import TINY, settings


def chosen(bench: Bench, **inputs: Any) -> CacheSettings:
    """What the node gives."""
    [cache] = bench.run("LongtakeKVCacheSettings", **inputs)
    cache = cache.resolve(DEMO)
    assert isinstance(cache, CacheSettings)
    return cache


def test_left_alone_the_node_is_the_demos_memory(bench: Bench) -> None:
    assert chosen(bench) == CacheSettings(preset_cache(DEMO), gives_way=True)
    from longtake.nodes.memory.kv_cache import KVCacheSettings

    old = KVCacheSettings.execute("window + sink", 9, 2)  # a workflow saved before there was more
    [asked] = old.args
    assert asked.resolve(BY_KEY["reward-forcing"].preset) == CacheSettings(WindowSink(9, 2))


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("full", FullHistory()),
        ("window + EMA sink", AveragingSink(9, 3)),
        ("rebuilt window", RebuiltWindow(9, 3)),
        ("window + memory bank", MemoryBank(9, 3)),
        ("most attended", MostAttended(9, 3)),
        ("most attended, per head", MostAttended(9, 3, per_head=True)),
        ("window + deep sink", WindowSink(9, 3)),
        ("attention + diversity", TetherCache(9, 3)),
        ("window + dummy heads", DummyHeads(9, 3)),
        ("window + recall by view", RecallWindow(9, 3, 3, flat_world=True, only_new_views=True)),
        ("window + recall by content", RecallWindow(9, 3, 3, by="content", flat_world=True)),
    ],
)
def test_every_policy_makes_a_video(bench: Bench, name: str, policy: object) -> None:
    cache = chosen(bench, policy=name, window_frames=9, sink_frames=3)
    assert cache.policy == policy
    frames = bench.frames(kv_cache=cache)
    assert len(pictures(bench, frames)) == 33
    assert frames.report([]).kv_bytes == frames.rollout.kv_bytes_planned


@pytest.mark.each_value
@pytest.mark.parametrize("placement", ["device", "main memory", "disk"])
@pytest.mark.parametrize("storage", ["as computed", "fp8", "int8", "int4"])
def test_every_storage_in_every_place_makes_the_video_and_says_its_bytes(
    bench: Bench, storage: str, placement: str, tmp_path: Path
) -> None:
    wanted = {"policy": "window + sink", "window_frames": 6, "unquantised_frames": 1}
    cache = chosen(bench, storage=storage, placement=placement, **wanted)
    frames = bench.frames(kv_cache=cache)
    text = frames.plan.text
    assert ("% of " in text and " unquantized)" in text) == (storage != "as computed")
    assert (" in main memory" in text, " on disk" in text) == (
        placement == "main memory",
        placement == "disk",
    )
    near = pictures(bench, bench.frames(kv_cache=chosen(bench, storage=storage, **wanted)))
    assert torch.equal(pictures(bench, frames), near)
    if placement == "disk":
        assert isinstance(cache.placement, OnDisk) and not [*tmp_path.rglob("*.kv")]


def test_recalled_frames_are_planned_in_main_memory_and_reported(bench: Bench) -> None:
    cache = chosen(bench, policy="window + recall by view", window_frames=4, recall_frames=2)
    assert cache.policy == RecallWindow(4, 0, 2, flat_world=True, only_new_views=True)
    turning = "0: the camera pans left\n0.5: the camera pans right"
    frames = bench.frames(kv_cache=cache, text=turning)
    pictures(bench, frames)
    report = frames.report([])
    assert report.versions is not None
    assert report.versions["recalled"] == "chunk 2: 0-1"  # latent frames, and below their pictures
    assert report.kv_bytes == report.kv_bytes_planned
    shown = [chunk.recalled for chunk in frames.chunks]  # read again, from the journal
    assert shown == [(), (), ((0, 5),)]
    beside = frames.rollout.footprint.offloaded_bytes
    assert beside and report.versions["kv_beside_device"] == f"{beside} bytes"
    assert "in main memory" in frames.plan.text


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [({"recall_frames": 9}, "recall_frames is 9 and the window has room for 7"),
     ({"recall_frames": 4, "archive_frames": 2}, "archive_frames is 2 and recall_frames 4"),
     ({"recall_frames": -2}, "recall_frames is -2")],
)  # fmt: skip
def test_a_window_has_room_for_what_it_recalls(
    bench: Bench, inputs: dict[str, int], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        chosen(bench, policy="window + recall by view", window_frames=9, sink_frames=1, **inputs)


def test_an_ema_sink_that_is_not_told_its_size_is_reward_forcings(bench: Bench) -> None:
    assert chosen(bench, policy="window + EMA sink").policy == AveragingSink(21, 3, 0.999)


def test_a_budget_says_how_long_the_window_is(bench: Bench) -> None:
    whole = bench.frames(kv_cache=chosen(bench, window_frames=9), plan_only=True)
    half = whole.rollout.kv_bytes_planned / 2
    cache = chosen(bench, window_frames=9, budget_gb=half / 2**30)
    frames = bench.frames(kv_cache=cache)
    window = frames.rollout.settings.cache.limit
    assert 1 <= window < 9 and frames.rollout.kv_bytes_planned <= half
    assert f"allows a window of {window} latent frames" in frames.plan.text
    roomy = bench.frames(kv_cache=chosen(bench, window_frames=9, budget_gb=1.0), plan_only=True)
    assert "The window of 9 latent frames fits the KV cache budget of 1.0 GB" in roomy.plan.text


def test_a_budget_makes_a_window_of_a_history_without_end(bench: Bench) -> None:
    """Which would otherwise be refused."""
    cache = chosen(bench, policy="full", budget_gb=0.001)
    frames = bench.frames(length=0.0, kv_cache=cache, plan_only=True)
    assert frames.rollout.settings.cache.limit and "allows a window of" in frames.plan.text


@pytest.mark.parametrize(
    "inputs", [{"placement": "main memory"}, {"policy": "window + recall by content"}]
)
def test_what_cannot_lie_in_main_memory_is_refused_with_the_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, inputs: dict[str, Any]
) -> None:
    from longtake.nodes import host

    monkeypatch.setattr(host, "free_memory_bytes", lambda: 1000)
    cache = chosen(bench, **{"window_frames": 4, **inputs})
    with pytest.raises(BadInput, match="in main memory, but only 0.0 MB is available; lower"):
        bench.frames(kv_cache=cache)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"sink_frames": 21}, "set sink_frames to a smaller"),
        (
            {"policy": "window + EMA sink", "window_frames": 3},
            "set sink_frames to a smaller",
        ),
    ],
)
def test_a_sink_that_cannot_be_is_refused(
    bench: Bench, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        chosen(bench, **inputs)


def policy_of(cache: CacheSettings, *, drops_first_frame: bool) -> object:
    """The policy that a model gets."""
    place = torch.device("cpu"), torch.float32
    made = cache.apply_to(settings(), TINY, place, drops_first_frame=drops_first_frame)
    return made.cache


def test_the_first_latent_stays_unless_the_model_learnt_to_do_without() -> None:
    window, sink = CacheSettings(WindowSink(6)), CacheSettings(WindowSink(6, 3))
    assert policy_of(window, drops_first_frame=False) == WindowSink(6, 1)
    assert policy_of(window, drops_first_frame=True) == WindowSink(6)
    assert policy_of(sink, drops_first_frame=False) == WindowSink(6, 3)
    for choice, expected in (("sink", WindowSink(6, 1)), ("leave", WindowSink(6))):
        asked = dataclasses.replace(window, first_latent=choice)
        assert {policy_of(asked, drops_first_frame=one) for one in (True, False)} == {expected}
    assert policy_of(CacheSettings(FullHistory()), drops_first_frame=False) == FullHistory()
    assert policy_of(CacheSettings(WindowSink(1)), drops_first_frame=False) == WindowSink(1)


def test_the_demo_was_trained_on_windows_without_the_first_latent_and_wan_was_not() -> None:
    assert DEMO.drops_first_frame
    others = (row.preset for row in FAMILIES if row.key not in (DEMO_KEY, FAST_DEMO_KEY))
    assert not any(preset.drops_first_frame for preset in others)


def test_reward_forcing_gets_the_sink_it_was_trained_with() -> None:
    [row] = [row for row in FAMILIES if row.key == "reward-forcing"]
    assert preset_cache(row.preset) == AveragingSink(6, 3, 0.999)


def re_encoding(bench: Bench, vae: object, **inputs: object) -> Any:
    """A shot on a short window whose oldest picture is encoded as a first one."""
    policy = {"policy": "rebuilt window", "window_frames": 4, "sink_frames": 0}
    asked = {**policy, "first_latent": "re-encode", "vae": vae, **inputs}
    return bench.rollout(kv_cache=bench.run("LongtakeKVCacheSettings", **asked)[0])[0]


def test_re_encoding_makes_another_video_and_claims_the_vae_with_the_model(bench: Bench) -> None:
    from longtake.nodes import host

    _, vae = bench.rollout()
    left, again = (re_encoding(bench, vae, first_latent=one) for one in ("leave", "re-encode"))
    claimed: list[Any] = []
    claim = host.claim
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "claim", lambda p, count: claimed.append([*p]) or claim(p, count))
        made = bench.collect(again, "latent")["samples"]
    assert all(vae.patcher in patchers for patchers in claimed) and len(claimed) == 3
    before = bench.collect(left, "latent")["samples"]
    assert torch.equal(made[:, :, :6], before[:, :, :6])
    assert not torch.equal(made[:, :, 6:], before[:, :, 6:])
    assert again.settings.reencoded_first_frame.room_bytes > 0
    [forked] = bench.run("LongtakeEditRollout", action="fork", rollout=again, at=0.0)
    assert torch.equal(bench.collect(forked, "latent")["samples"], made)


def test_re_encoding_without_what_it_needs_is_refused(bench: Bench) -> None:
    _, vae = bench.rollout()
    with pytest.raises(BadInput, match="needs a VAE; connect a VAE to KV Cache"):
        re_encoding(bench, None)
    with pytest.raises(BadInput, match="choose the policy `rebuilt window`"):
        re_encoding(bench, vae, policy="window + sink")
    kept = re_encoding(bench, vae, sink_frames=1)
    assert kept.settings.reencoded_first_frame is None  # a sink never leaves
    with pytest.raises(BadInput, match="HostCodec, which a file cannot hold; remove it"):
        bench.shown("LongtakeSaveRollout", rollout=re_encoding(bench, vae))


@pytest.mark.parametrize("page", ["web/docs/LongtakeSampler.md", "docs/reference/rollouts.md"])
def test_the_pages_say_which_policies_refuse_recache(page: str) -> None:
    words = " ".join((Path(__file__).parents[3] / page).read_text(encoding="utf-8").split())
    able, refusing = re.search(r"the policies (.+?) refuses? recache(.+?)TempCache", words).groups()
    assert set(re.findall("`(.+?)`", able)) == {
        name for name, policy in POLICIES.items() if not policy(21, 3).remembers
    }
    assert set(re.findall("`(.+?)`", refusing)) == {
        name for name, policy in POLICIES.items() if policy(21, 3).remembers
    }
