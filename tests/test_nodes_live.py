"""Live controls on the canvas, under the stand-in host: edits, stops, plans, shots without end."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.kv_cache import KVCache
from longtake.errors import BadInput
from longtake.headless.events import ChunkDone, Event, FileSaved
from longtake.tests.node_bench import Bench

TEXT = "0: a red ball\n1: a blue ball"
SAMPLER = "LongtakeSampler"


def asked_at(bench: Bench, chunk: int, ask: Callable[[], None]) -> None:
    """Call `ask` when that chunk has been decoded."""
    tell = bench.state.listener

    def listen(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == chunk:
            bench.state.listener = tell
            ask()

    bench.state.listener = listen


def collected(bench: Bench, frames: Any) -> torch.Tensor:
    """All pictures of a stream."""
    return bench.run("LongtakeCollectFrames", frames=frames)[0]


def forget_chunks(bench: Bench) -> None:
    for path in (bench.state.folders["output"] / "longtake" / "rollouts").glob("*.safetensors"):
        path.unlink()


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (lambda c: c.set_prompt("a blue  ball"), "0.5625: a blue ball"),
        (lambda c: c.set_guidance(1.0), "0.5625 (guidance 1): a red ball"),
        (lambda c: (c.set_prompt("ball"), c.set_guidance(4.5)), "0.5625 (guidance 4.5): ball"),
    ],
)
def test_keep_edit_gives_the_edited_video_from_the_workflow_alone(
    bench: Bench, asked: Callable[[Any], None], line: str
) -> None:
    frames = bench.frames(text=TEXT)
    asked_at(bench, 0, lambda: asked(frames.controls))
    edited = collected(bench, frames)
    [edit] = frames.controls.edits
    assert (edit.status, edit.line) == ("applied", line)
    bench.state.start_prompt()
    kept = bench.frames(text=f"{TEXT}\n{line}")
    assert kept.rollout.stored_chunks() == 3  # it goes on from the edited run's own chunks
    forget_chunks(bench)
    assert torch.equal(collected(bench, kept), edited)
    assert not torch.equal(collected(bench, bench.frames(text=TEXT)), edited)


def test_the_same_workflow_again_is_unedited_and_runs_anew(bench: Bench) -> None:
    frames = bench.frames(text=TEXT)
    asked_at(bench, 0, lambda: frames.controls.set_prompt("ball"))
    before = fingerprint(bench)
    edited = collected(bench, frames)
    assert torch.equal(collected(bench, frames), edited)  # a later node of the same prompt
    assert fingerprint(bench) != before
    bench.state.start_prompt()  # the host hands the very same FRAMES to the next prompt
    again = collected(bench, frames)
    forget_chunks(bench)
    assert torch.equal(again, collected(bench, bench.frames(text=TEXT)))
    assert not torch.equal(again, edited) and frames.controls.edits == ()


def fingerprint(bench: Bench, node_id: str | None = SAMPLER) -> int:
    """What the host asks the sampler before a prompt, to see whether it must run."""
    from longtake.headless.stand_in.io_types import HiddenHolder
    from longtake.nodes.sampler import DiffusionForcingSampler

    prepared = type("Asked", (DiffusionForcingSampler,), {"hidden": HiddenHolder(node_id)})
    return prepared.fingerprint_inputs(seed=0, model=None)


def test_only_the_sampler_that_was_altered_runs_anew(bench: Bench) -> None:
    frames = bench.frames()
    asked_at(bench, 0, frames.controls.stop)
    before = [fingerprint(bench, node) for node in (SAMPLER, "other", None)]
    collected(bench, frames)
    after = [fingerprint(bench, node) for node in (SAMPLER, "other", None)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 0, 1]


def test_a_stop_ends_every_output_with_what_exists_and_the_next_run_goes_on(bench: Bench) -> None:
    frames = bench.frames()
    asked_at(bench, 1, frames.controls.stop)
    calls = [("LongtakePreview", {"frames": frames}), ("LongtakeSaveVideo", {"frames": frames})]
    asyncio.run(bench.side_by_side(*calls))
    assert frames.controls.state == "stopped"
    assert collected(bench, frames).shape == (21, 32, 32, 3)  # not the 33 it would have been
    assert frames.report([]).frames == 21 and frames.resume_at_s == 21 / 16
    bench.state.start_prompt()
    whole = collected(bench, frames)
    assert frames.rollout.resumed_from == 2
    forget_chunks(bench)
    assert torch.equal(whole, collected(bench, bench.frames()))


def test_the_report_tells_edits_drift_and_loading(bench: Bench) -> None:
    frames = bench.frames(text="0: a red ball", length=69.0)
    asked_at(bench, 0, lambda: frames.controls.set_guidance(3.0))
    collected(bench, frames)
    report = frames.report([])
    assert report.edits == ["0.5625 (guidance 3): a red ball"]
    assert report.drift is not None and report.drift > 0
    assert report.model_load_s is not None and report.model_load_s > 0


def test_a_prompt_is_encoded_in_view_and_on_the_prompts_thread(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from longtake.nodes import prompts

    threads: list[int] = []
    statuses: list[str] = []
    embed = prompts.embed

    def spy(clip: Any, text: str, node_id: str | None) -> Any:
        threads.append(threading.get_ident())
        statuses.extend(edit.status for edit in frames.controls.edits)
        return embed(clip, text, node_id)

    caplog.set_level(logging.INFO, "longtake")
    frames = bench.frames()
    monkeypatch.setattr(prompts, "embed", spy)
    asker = threading.Thread(target=lambda: frames.controls.set_prompt("ball"))
    asked_at(bench, 0, lambda: (asker.start(), asker.join())[0])
    collected(bench, frames)
    assert threads == [threading.get_ident()] and statuses == ["encoding"]
    assert "Encoding the new prompt 'ball'." in caplog.text


def test_without_a_timeline_the_prompt_cannot_be_edited_but_guidance_can(bench: Bench) -> None:
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    [schedule] = bench.run("LongtakeSchedule", steps=1)
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize("a red ball"))
    shot = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
    [rollout] = bench.run(SAMPLER, model=model, prompts=conditioning, schedule=schedule, **shot)
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    asked_at(bench, 0, lambda: frames.controls.set_prompt("ball"))
    frames.controls.set_guidance(3.0)
    collected(bench, frames)
    guided, prompted = frames.controls.edits
    assert guided.status == "applied" and guided.line is None
    assert "no Prompt Timeline is connected" in prompted.error


class FakePatcher:
    """As much of the host's patcher as deciding where to encode needs."""

    def __init__(self, device: str, size: int, *, dynamic: bool = False) -> None:
        self.load_device = self.offload_device = torch.device(device)
        self.size, self.dynamic = size, dynamic

    def model_size(self) -> int:
        return self.size

    def loaded_size(self) -> int:
        return 10

    def is_dynamic(self) -> bool:
        return self.dynamic


class FakeCLIP:
    """A CLIP of the host's, whose embedding tells the device it was made on."""

    def __init__(self, patcher: FakePatcher, module: Any = None) -> None:
        self.patcher, self.layer_idx = patcher, None
        self.cond_stage_model = module or torch.nn.Module()

    def clone(self, disable_dynamic: bool = False) -> FakeCLIP:
        p = self.patcher
        copy = FakePatcher(str(p.load_device), p.size, dynamic=p.dynamic and not disable_dynamic)
        return FakeCLIP(copy, self.cond_stage_model)

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> Any:
        on_cpu = self.patcher.load_device.type == "cpu"
        return [[torch.full((1, 2, 3), float(on_cpu)), {}]]


@pytest.mark.parametrize(
    ("device", "size", "dynamic", "on_cpu"),
    [
        ("cuda", 1000, False, True), ("cuda", 1000, True, True), ("cuda", 510, False, False),
        ("cpu", 1000, False, True),
    ],
)  # fmt: skip
def test_an_edit_is_encoded_on_the_cpu_where_it_would_push_models_off_the_card(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, device: str, size: int, dynamic: bool,
    on_cpu: bool,
) -> None:  # fmt: skip
    """And the timeline that keeps the edit has the very same embedding, not the card's."""
    import comfy.model_management

    from longtake.nodes.prompts import CLIPPrompter, embed

    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 500)
    clip: Any = FakeCLIP(FakePatcher(device, size, dynamic=dynamic))
    edited = CLIPPrompter(clip, None).encode("a ball")
    assert bool(edited[0, 0]) is on_cpu
    assert torch.equal(embed(clip, "a ball", None), edited)
    assert clip.patcher.load_device == torch.device(device)  # the user's own is left alone
    assert embed(clip, "another", None)[0, 0] == (device == "cpu")


def test_the_session_remembers_few_embeddings_of_living_encoders(bench: Bench) -> None:
    from longtake.nodes.session import EMBEDDINGS_KEPT, Session

    session = Session()
    clip: Any = FakeCLIP(FakePatcher("cpu", 1))
    for number in range(EMBEDDINGS_KEPT + 1):
        session.remember(clip, str(number), torch.tensor(number))
    assert session.embedding(clip, "0") is None and session.embedding(clip, "1") == 1
    clip.layer_idx = -2
    assert session.embedding(clip, "1") is None
    clip.layer_idx = None
    session.reset()
    assert session.embedding(clip, "1") is None


# Plans, and shots without an end


def test_a_plan_makes_nothing_and_every_output_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    frames = bench.frames(plan_only=True)
    plan = frames.plan
    assert (plan.frames, plan.seconds, plan.chunks, plan.fits) == (33, 33 / 16, 3, True)
    assert plan.kv_bytes == frames.rollout.kv_bytes_planned > 0 and plan.text in caplog.text
    for node in ("LongtakePreview", "LongtakeSaveVideo"):
        bench.run(node, frames=frames)
    given = [
        bench.run("LongtakeCollectFrames", frames=frames)[0],
        bench.run("LongtakeFramesToVideo", frames=frames)[0],
        bench.run("LongtakeCollectLatents", rollout=frames.rollout)[0],
        bench.run("LongtakeVAEEncode", pixels=frames, vae=frames.vae)[0],
    ]
    assert {type(one).__name__ for one in given} == {"ExecutionBlocker"}
    assert "Nothing is saved" in caplog.text and "Nothing is collected" in caplog.text
    made = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert made == ["longtake_schedule_00001_levels.png"]  # the schedule node's own picture
    assert not [event for event in bench.events if isinstance(event, (ChunkDone, FileSaved))]


def test_a_plan_that_does_not_fit_is_shown_and_not_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    monkeypatch.setattr(host, "usable_memory_bytes", lambda device: 1000)
    plan = bench.frames(plan_only=True).plan
    assert not plan.fits and plan.free_bytes == 1000 and "are free" in plan.text


def test_a_length_of_0_goes_on_until_stop(bench: Bench) -> None:
    frames = bench.frames(length=0.0)
    assert frames.plan.frames is None and frames.rollout.chunk_count is None
    asked_at(bench, 3, frames.controls.stop)
    bench.run("LongtakeSaveVideo", frames=frames)
    assert frames.report([]).frames == 45 and frames.controls.state == "stopped"
    with pytest.raises(BadInput, match="has no end .length is 0., so its frames cannot be"):
        collected(bench, frames)


def test_a_shot_without_an_end_needs_a_window(bench: Bench) -> None:
    [full] = bench.run("LongtakeKVCacheSettings", policy="full")
    with pytest.raises(BadInput, match="keeps the full history"):
        bench.frames(length=0.0, kv_cache=full)


def test_the_disk_cap_counts_the_video_and_says_why_it_stops(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.stream import disk_cap

    monkeypatch.setattr(disk_cap, "DISK_CAP_BYTES", 10_000)
    frames = bench.frames(length=0.0)
    bench.run("LongtakeSaveVideo", frames=frames)
    assert frames.controls.state == "stopped" and len(frames.rollout.run.disk.files) == 1
    assert "Stopped: the shot has filled" in caplog.text
    assert frames.controls.message.startswith("Stopped")


# Memory


def test_no_kv_cache_outlives_its_run(bench: Bench) -> None:
    """The host keeps ROLLOUT and FRAMES for the next prompt; the memory must not stay with them."""
    frames = bench.frames()
    collected(bench, frames)
    gc.collect()
    alive = [one for one in gc.get_objects() if type(one) is KVCache]
    assert alive == [] and not frames.rollout.claim.memory.in_use


def test_kv_caches_given_up_between_chunks_are_made_again_with_the_same_bits(bench: Bench) -> None:
    frames = bench.frames()
    memory = frames.rollout.claim.memory
    held: list[int] = []

    def unload() -> None:
        held.append(memory.loaded_size())
        memory.partially_unload(memory.offload_device, 1)  # as the host does for another model
        held.append(memory.loaded_size())

    asked_at(bench, 1, unload)
    unloaded = collected(bench, frames)
    assert held == [frames.rollout.kv_bytes_planned, 0]
    forget_chunks(bench)
    assert torch.equal(unloaded, collected(bench, bench.frames()))


def test_a_long_pause_moves_the_kv_cache_to_the_host(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a pretended accelerator: the host's device is told apart by its index."""
    moved: list[str] = []
    move = KVCache.move
    monkeypatch.setattr(KVCache, "move", lambda c, d: moved.append(str(d)) or move(c, d))
    frames = bench.frames()
    memory, controls = frames.rollout.claim.memory, frames.controls
    memory.load_device = torch.device("cpu", 0)
    frames.rollout.model = dataclasses.replace(frames.rollout.model, device=memory.load_device)
    controls.long_pause_s = 0.0
    check = bench.state.check_interrupted
    on_host: list[bool] = []

    def look() -> None:
        if controls.state == "paused" and moved:
            on_host.append(frames.rollout.kv_on_host)
            controls.resume()
        check()

    asked_at(bench, 0, controls.pause)
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", look)
    paused = collected(bench, frames)
    assert on_host[0] and "cpu" in moved and controls.paused_s > 0
    forget_chunks(bench)
    assert torch.equal(paused, collected(bench, bench.frames()))
