"""Plans that make nothing, and shots without an end, under the stand-in host."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from longtake.errors import BadInput
from longtake.headless.events import ChunkDone, FileSaved
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at, pictures
from longtake.units import count_of


def test_a_plan_makes_nothing_and_every_output_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    frames = bench.frames(plan_only=True)
    plan = frames.plan
    assert (plan.frames, plan.seconds, plan.chunks, plan.fits) == (33, 33 / 16, 3, True)
    assert plan.kv_bytes == frames.rollout.kv_bytes_planned > 0
    assert f"Plan: {frames.rollout.plan.text}" in caplog.text  # what is known without a decoder
    for node in ("LongtakePreview", "LongtakeSaveVideo"):
        bench.run(node, frames=frames)
    given = [
        bench.collect(frames),
        bench.collect(frames, "video"),
        bench.collect(frames.rollout, "latent"),
        bench.run("LongtakeVAEEncode", pixels=frames, vae=frames.vae)[0],
    ]
    assert {type(one).__name__ for one in given} == {"ExecutionBlocker"}
    assert (
        f"Dry run, nothing is saved: {plan.text}" in caplog.text and "is collected" in caplog.text
    )
    assert "0 frames" not in caplog.text
    made = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not made
    assert not [event for event in bench.events if isinstance(event, (ChunkDone, FileSaved))]


@pytest.mark.parametrize(
    ("meta", "title"), [({"_meta": {"title": "My shot"}}, "My shot"), ({}, "LongtakeSampler")]
)
def test_the_log_names_the_node_of_a_plan(
    bench: Bench, caplog: pytest.LogCaptureFixture, meta: dict[str, Any], title: str
) -> None:
    """A generator and its stage say nearly the same."""
    caplog.set_level(logging.INFO, "longtake")
    bench.state.start_prompt({"LongtakeSampler": {"class_type": "LongtakeSampler", **meta}})
    rollout, _ = bench.rollout(length=33.0)
    assert f"{title}: {rollout.plan.text}" in caplog.text


def test_a_plan_that_does_not_fit_is_shown_and_not_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    monkeypatch.setattr(host, "usable_memory_bytes", lambda device: 1000)
    plan = bench.frames(plan_only=True).plan
    assert not plan.fits and plan.free_bytes == 1000 and "is available" in plan.text


@pytest.mark.parametrize("kind", ["causal chunks", "pyramid", "full sequence"])
def test_a_plan_counts_the_chunks_that_the_run_finishes(bench: Bench, kind: str) -> None:
    model, clip, _ = bench.run("LongtakeLoadDemoModel", quality="full")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=2, schedule=kind)
    shot = {"width": 32, "height": 32, "length": 57.0, "length_unit": "frames"}
    [rollout] = bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, **shot
    )
    assert rollout.plan.chunks == rollout.chunk_count
    assert f", {count_of(rollout.chunk_count, 'chunk')}. Memory" in rollout.plan.text


def edited(bench: Bench, action: str, source: Any, **inputs: Any) -> Any:
    return bench.run("LongtakeEditRollout", action=action, rollout=source, **inputs)[0]


@pytest.mark.parametrize("plan_only", [False, True])
def test_a_plan_rewound_and_continued_is_what_the_run_will_be(
    bench: Bench, plan_only: bool
) -> None:
    whole, _ = bench.rollout(length=57.0, plan_only=plan_only)
    rewound = edited(bench, "rewind", whole, at=1.3)
    longer = edited(bench, "continue", rewound, more=0.5)
    made = [whole, rewound, longer]
    assert [one.frames for one in made] == [57, 21, 33]
    assert [(one.plan.frames, one.plan.chunks) for one in made] == [(57, 5), (21, 2), (33, 3)]
    assert [one.chunk_count for one in made] == ([0, 0, 0] if plan_only else [5, 2, 3])


@pytest.mark.parametrize("plan_only", [False, True])
def test_a_rewound_shot_is_planned_in_words_too(bench: Bench, plan_only: bool) -> None:
    whole, vae = bench.rollout(length=57.0, plan_only=plan_only)
    rewound = edited(bench, "rewind", whole, at=1.3)
    assert whole.plan.text.startswith("3.6 s, 57 frames, 5 chunks. Memory ")
    assert rewound.plan.text.startswith("1.3 s, 21 frames, 2 chunks. Memory ")
    assert rewound.plan.seconds == 21 / 16 and rewound.plan.kv_bytes == whole.plan.kv_bytes
    [frames] = bench.run("LongtakeVAEDecode", rollout=rewound, vae=vae)
    assert frames.plan.text.startswith(
        "1.3 s, 21 frames, 2 chunks. Memory "
    )  # as the player shows it


@pytest.mark.parametrize("plan_only", [False, True])
def test_a_plan_is_forked_where_the_run_would_be(
    bench: Bench, plan_only: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    whole, _ = bench.rollout(length=33.0, plan_only=plan_only)
    with pytest.raises(BadInput, match="is at 2.0625 s, and the shot would end at 2.0625 s"):
        edited(bench, "fork", whole, at=-1.0)
    forked = edited(bench, "fork", whole, at=-1.0, length=3.0, new_seed=7)
    assert forked.plan.frames == 57 and [
        one.start_frame for one in forked.settings.seed_changes
    ] == [9]
    forked = edited(bench, "fork", edited(bench, "rewind", whole, at=1.3), new_seed=7)
    assert [one.start_frame for one in forked.settings.seed_changes] == [6]
    assert "Forked at 0:02.1" in caplog.text and "Forked at 0:01.3" in caplog.text


def test_a_plan_says_what_of_it_is_made_already(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    bench.collect(bench.rollout(length=33.0)[0], "latent")
    planned, _ = bench.rollout(length=57.0, plan_only=True)
    told = bench.shown("LongtakeRolloutInfo", rollout=planned)
    [text] = told["text"] if isinstance(told, dict) else told.as_dict()["text"]
    assert "Length 0:03.6, 3 of 5 chunks exist" in text
    edited(bench, "fork", planned, at=1.3, new_seed=7)
    assert "Already made: 2 chunks." in caplog.text


def test_the_plan_of_frames_counts_their_decoding(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stays, and the larger of what a pass and what decoding takes, since they take turns."""
    from longtake.nodes import host

    frames = bench.frames(plan_only=True)
    rollout, decode = frames.rollout, frames.plan.decode_bytes
    assert rollout.plan.decode_bytes is None and decode > 3 * 32 * 32 * 4 * 9  # its pictures
    assert ", decoding " in frames.plan.text
    memory = frames.vae.decoder_memory(*rollout.largest_latents)
    assert decode == memory.state_bytes + memory.working_bytes and memory.state_bytes > 0
    working = max(rollout.footprint.working_bytes, memory.working_bytes)
    needed = rollout.kv_bytes_planned + memory.state_bytes + working
    for free, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(host, "usable_memory_bytes", lambda device, free=free: free)
        plan = bench.frames(plan_only=True).plan
        assert (
            plan.fits is fits and plan.text.endswith("lower width, height or chunk_frames.") != fits
        )


def test_a_length_of_0_goes_on_until_stop(bench: Bench) -> None:
    frames = bench.frames(length=0.0)
    assert frames.plan.frames is None and frames.rollout.chunk_count is None
    ask_at(bench, 3, frames.controls.stop)
    bench.run("LongtakeSaveVideo", frames=frames)
    assert frames.report([]).frames == 45 and frames.controls.state == "stopped"
    with pytest.raises(BadInput, match="has no end .length is 0., so its frames cannot be"):
        pictures(bench, frames)


def test_a_shot_without_an_end_needs_a_window(bench: Bench) -> None:
    [full] = bench.run("LongtakeKVCacheSettings", policy="full")
    with pytest.raises(BadInput, match="with the full history"):
        bench.frames(length=0.0, kv_cache=full)


def test_the_disk_cap_counts_the_video_and_says_why_it_stops(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.stream.journal import disk_limit

    monkeypatch.setattr(disk_limit, "DISK_CAP_BYTES", 10_000)
    frames = bench.frames(length=0.0)
    bench.run("LongtakeSaveVideo", frames=frames)
    assert frames.controls.state == "stopped" and len(frames.rollout.run.disk.files) == 1
    assert "Stopped: the shot has filled" in caplog.text
    assert frames.controls.message.startswith("Stopped")
