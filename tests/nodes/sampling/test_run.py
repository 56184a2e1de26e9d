"""Our nodes under the stand-in host, on a tiny random model: what they hand on, claim, tell and
refuse.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from longtake.errors import BadInput
from longtake.headless.events import BarMoved, ChunkDone, Event, FileSaved
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.model.preset import RANGES_NAME
from longtake.model.text import TextEncoder
from longtake.tests.support.node_bench import Bench


def test_preview_and_save_advance_together_and_progress_is_the_samplers(bench: Bench) -> None:
    frames = bench.frames()
    calls = [("LongtakePreview", {"frames": frames}), ("LongtakeSaveVideo", {"frames": frames})]
    asyncio.run(bench.side_by_side(*calls))
    outputs = [
        e.node_id
        for e in bench.events
        if isinstance(e, BarMoved) and e.node_id != "LongtakeSampler"
    ]
    assert all(
        {*pair} == {"LongtakePreview", "LongtakeSaveVideo"}
        for pair in zip(outputs[::2], outputs[1::2], strict=True)
    )
    assert bench.bar("LongtakeSampler") == bench.bar("LongtakePreview") == [1, 2, 3]
    assert [e.chunk for e in bench.events if isinstance(e, ChunkDone)] == [0, 1, 2]


def test_save_writes_video_sheet_and_report_under_one_name(bench: Bench) -> None:
    bench.run("LongtakeSaveVideo", frames=bench.frames(), filename_prefix="shots/one")
    files = {e.role: e.path for e in bench.events if isinstance(e, FileSaved)}
    assert {path.name for path in files.values()} == {
        "one_00001_.mp4", "one_00001_sheet.png", "one_00001_report.json",
    }  # fmt: skip
    report = json.loads(files["report"].read_text())
    assert report["frames"] == 33 and report["latent_frames"] == 9
    assert report["width"] == report["height"] == 32 and report["fps_target"] == 16
    assert report["kv_bytes"] == report["kv_bytes_planned"] > 0
    assert report["model_evals"] == 3 + 2  # three steps, two commits
    assert len(report["output_files"]) == 3


def test_the_history_lists_every_file_of_save_video_and_the_report(bench: Bench) -> None:
    shown = bench.shown("LongtakeSaveVideo", frames=bench.frames(), filename_prefix="shots/one")
    place = {"subfolder": "shots", "type": "output"}
    video = {"role": "video", "filename": "one_00001_.mp4", **place}
    assert shown["images"] == [video] and shown["animated"] == (True,)
    assert [file["filename"] for file in shown["longtake_files"]] == [
        "one_00001_sheet.png", "one_00001_report.json",
    ]  # fmt: skip
    [report] = shown["longtake_report"]
    beside = bench.state.folders["output"] / "shots" / "one_00001_report.json"
    assert report == beside.read_text() and json.loads(report)["frames"] == 33


def test_a_folder_of_frames_is_one_entry_that_names_them_all(bench: Bench) -> None:
    shown = bench.shown(
        "LongtakeSaveVideo", frames=bench.frames(), format="png frames", sheet_and_report=False
    )
    [entry] = shown["longtake_frames"]
    folder = bench.state.folders["output"] / entry["subfolder"]
    names = {entry["pattern"] % number for number in range(entry["count"])}
    assert {path.name for path in folder.iterdir()} == names and len(names) == 33
    [report] = shown["longtake_report"]
    assert json.loads(report)["output_files"] == [str(folder)] and "images" not in shown


@pytest.mark.parametrize("name", ["clip", "take1.5"])
def test_what_lies_beside_a_folder_of_frames_is_named_after_it(bench: Bench, name: str) -> None:
    """Every run has its own, dots in the name or not."""
    for number in (1, 2):
        bench.run(
            "LongtakeSaveVideo", frames=bench.frames(), format="png frames", filename_prefix=name
        )
        files = [e.path for e in bench.events if isinstance(e, FileSaved)][-3:]
        before = f"{name}_{number:05}_"
        assert {path.name for path in files} == {
            f"{before}frames", f"{before}sheet.png", f"{before}report.json",
        }  # fmt: skip
        assert all(path.exists() for path in files)


def test_each_chunk_claims_model_and_vae_in_one_call(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls would evict each other on a small card."""
    from longtake.nodes import host

    claims: list[tuple[int, int]] = []
    load = host.claim
    monkeypatch.setattr(host, "claim", lambda p, n: claims.append((len(p), n)) or load(p, n))
    frames = bench.frames()
    bench.run("LongtakePreview", frames=frames)
    # model, VAE and what rests from other runs; then the KV cache, once it is there
    assert [count for count, _ in claims] == [3, 4, 4]
    decoding = frames.vae.decoder_memory(*frames.rollout.largest_latents)
    stays = frames.rollout.kv_bytes_planned + decoding.state_bytes
    assert claims[0][1] == stays + decoding.working_bytes
    # from then on it is there, and must not be asked for again
    assert [planned for _, planned in claims[1:]] == [decoding.working_bytes] * 2
    claims.clear()
    bench.run("LongtakePreview", frames=frames)  # from the journal: only the VAE is needed
    assert [count for count, _ in claims] == [1, 1, 1]


def test_the_host_learns_which_models_a_stream_needs(bench: Bench) -> None:
    frames = bench.frames()
    assert frames.get_models() == [*frames.rollout.get_models(), frames.vae.patcher]


def test_a_cancelled_run_goes_on_after_its_last_whole_chunk(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    first = bench.frames()
    whole = bench.collect(bench.frames(seed=1))
    tell = bench.state.listener

    def cancel_after_two(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == 1:
            bench.state.interrupt()

    bench.state.listener = cancel_after_two
    with pytest.raises(InterruptProcessingException):
        bench.collect(first)
    bench.state.listener = tell
    bench.events.clear()
    again = bench.collect(first)
    assert bench.bar("LongtakeSampler") == [3]
    assert "Continuing at 0:01.3, after 2 finished chunks." in caplog.text
    assert again.shape == whole.shape == (33, 32, 32, 3)


def test_collected_latents_are_raw_and_decode_to_the_collected_frames(bench: Bench) -> None:
    rollout, vae = bench.rollout()
    latent = bench.collect(rollout, "latent")
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    images = bench.collect(frames)
    assert latent["samples"].shape == (1, 16, 9, 4, 4)
    torch.testing.assert_close(vae.decode(latent["samples"])[0], images, atol=1e-5, rtol=0)


def test_pictures_and_frames_encode_alike(bench: Bench) -> None:
    frames = bench.frames()
    images = bench.collect(frames)
    [a] = bench.run("LongtakeVAEEncode", pixels=images, vae=frames.vae.vae)
    [b] = bench.run("LongtakeVAEEncode", pixels=frames, vae=frames.vae.vae)
    assert a["samples"].shape == (1, 16, 9, 4, 4)
    torch.testing.assert_close(a["samples"], b["samples"])
    torch.testing.assert_close(a["samples"], frames.vae.vae.encode(images))


def test_frames_to_video_keeps_pictures_in_a_temporary_file(bench: Bench) -> None:
    video = bench.collect(bench.frames(), "video")
    with av.open(video.get_stream_source()) as container:
        assert sum(1 for _ in container.decode(video=0)) == 33
    assert Path(video.get_stream_source()).is_relative_to(bench.state.folders["temp"])


def test_unknown_words_are_named_and_left_out(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    known, _ = bench.rollout(text="a red ball")
    more, _ = bench.rollout(text="a red quantum ball")
    assert "does not know 'quantum'; the prompt is used without it." in caplog.text
    bench.rollout(text="a red quantum cat")
    assert "'quantum', 'cat'; the prompt is used without them." in caplog.text
    assert known.spec.key(0) == more.spec.key(0)


@pytest.mark.parametrize("place", ["text", "negative", "live edit", "CLIP Text Encode"])
def test_a_known_word_that_names_nothing_where_it_stands_is_named(
    place: str, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.nodes.models.demo_objects import DemoCLIP

    clip = DemoCLIP(TextEncoder(("a", "ball", "green", "hills", "over", "red"), 8, 24))
    green = "a green ball over green hills"
    if place == "CLIP Text Encode":
        clip.encode_from_tokens_scheduled(clip.tokenize(green))
    else:
        prompts = {"text": "0: a red ball", "negative": "", place.replace(" ", "_"): green}
        edit = prompts.pop("live_edit", None)
        [timeline] = bench.run("LongtakePromptTimeline", clip=clip, **prompts)
        if edit is not None:
            timeline.prompter.encode(edit, warn)
    assert (
        "The demo model knows 'green' of 'hills', not of 'ball', and cannot show it there; use "
        "'red' or 'blue' or 'yellow' or 'white' or 'purple'."
    ) in caplog.text
    assert caplog.text.count("'green'") == 1


def warn(sentence: str) -> None:
    """As a run tells what a live edit ignores."""
    logging.getLogger("longtake").warning(sentence)


@pytest.mark.parametrize("place", ["text", "negative", "live edit"])
def test_a_prompt_that_would_fill_all_of_the_demos_text_is_cut_and_said(
    place: str, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    full, short = " ".join(["red"] * 6), " ".join(["red"] * 5)  # of 6 rows
    lines = {"text": f"0: a red ball\n1: {full}"} if place == "text" else {"text": "0: a red ball"}
    negative = {"negative": full} if place == "negative" else {}
    [timeline] = bench.run("LongtakePromptTimeline", clip=clip, **lines, **negative)
    embedding = {
        "text": timeline.entries[-1].embedding,
        "negative": timeline.negative,
        "live edit": timeline.prompter.encode(full, warn),
    }[place]
    assert "too long for the demo model, which ignores 'red' and what follows" in caplog.text
    assert torch.equal(embedding, clip.encode(short)[0])
    assert not embedding[-1].any()


def test_the_snap_and_the_memory_are_said(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "longtake")
    bench.rollout(length=1.0, length_unit="seconds")
    assert re.search(
        r"1\.3 s, 21 frames, 2 chunks\. Memory 0\.\d MB\.\n"
        r"KV cache 0\.\d MB, model weights 0\.\d MB \(already in memory\)\. "
        r"Requested length: 1\.0 s, 16 frames, rounded up to whole chunks\.",
        caplog.text,
    )


def test_a_prompt_after_the_end_is_pointed_out(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.rollout(text="0: a red ball\n60: a blue ball")
    assert "The shot ends before the prompt 'a blue ball' starts." in caplog.text


def test_plain_conditioning_goes_straight_into_the_sampler(bench: Bench) -> None:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [schedule] = bench.run("LongtakeSchedule")
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize("a red ball"))
    [rollout] = bench.run("LongtakeSampler", model=model, prompts=conditioning, schedule=schedule)
    timeline, _ = bench.rollout(text="a red ball")
    same = rollout.settings.prompts.entries[0].values
    torch.testing.assert_close(same, timeline.settings.prompts.entries[0].values)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": 40}, "width is 40, not a multiple of 16"),
        ({"cfg": float("nan")}, "cfg is nan; set a number from -1 to 30"),
        ({"length": float("nan")}, "length is nan; set a number from 0 to 1382400"),
    ],
)
def test_bad_values_of_the_sampler_are_one_sentence(
    bench: Bench, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint):
        bench.rollout(**change)


def test_a_rollout_that_cannot_fit_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    monkeypatch.setattr(host, "usable_memory_bytes", lambda device: 1000)
    with pytest.raises(
        BadInput, match=r"needs .* MB of .* \(.* for the KV cache, .* for a pass .* only 0.0 MB is"
    ):
        bench.rollout()


def test_on_a_card_every_claim_asks_for_room_for_a_pass(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    rollout, _ = bench.rollout()
    assert rollout.claim.working_bytes() == 0  # main memory is nobody's to make room in
    monkeypatch.setattr(host, "usable_memory_bytes", lambda device: 2**40)
    monkeypatch.setattr(host, "compute_place", lambda m: (torch.device("meta"), torch.float32))
    rollout, _ = bench.rollout()
    claims: list[int] = []
    monkeypatch.setattr(host, "claim", lambda patchers, planned: claims.append(planned))
    rollout.claim.claim(1000)
    assert (
        claims == [1000 + rollout.footprint.working_bytes]
        and rollout.footprint.working_bytes > 10_000
    )


@pytest.mark.parametrize("prefix", ["../out", "/out", "", "a/../../out", "nul\0"])
def test_files_stay_in_the_output_folder(bench: Bench, prefix: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.parent.iterdir())
    with pytest.raises(BadInput, match="not a file name inside the output folder"):
        bench.run("LongtakeSaveVideo", frames=bench.frames(), filename_prefix=prefix)
    assert sorted(tmp_path.parent.iterdir()) == before


def test_another_vae_is_refused_by_name(bench: Bench) -> None:
    rollout, _ = bench.rollout()
    with pytest.raises(BadInput, match="The VAE is an object, which Longtake cannot stream"):
        bench.run("LongtakeVAEDecode", rollout=rollout, vae=object())


def test_collect_refuses_what_does_not_fit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from longtake.nodes import host

    frames = bench.frames()
    monkeypatch.setattr(host, "usable_memory_bytes", lambda device: 1000)
    with pytest.raises(BadInput, match="need 0.4 MB for 33 frames of 32x32, and 0.0 MB are free"):
        bench.collect(frames)


def test_truncated_weights_are_refused(
    bench: Bench, tiny_demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.models import load_demo

    shutil.copy(tiny_demo_folder / RANGES_NAME, tmp_path)
    for name in ("vae", "text", "dit"):
        content = (tiny_demo_folder / f"{name}.safetensors").read_bytes()
        cut = content[: len(content) // 2] if name == "dit" else content
        (tmp_path / f"{name}.safetensors").write_bytes(cut)
    monkeypatch.setattr(load_demo, "DEMO_FOLDER", tmp_path)
    with pytest.raises(BadInput, match="cut short"):
        bench.run("LongtakeLoadDemoModel", quality="full")


def test_the_schedule_node_shows_its_noise_levels(bench: Bench) -> None:
    from longtake.nodes.sampling.schedule import DiffusionForcingSchedule

    shown = DiffusionForcingSchedule.execute(
        3, 4, 2.0, "unipc 2", 0.0, "rolling window (Rolling Forcing)", first_steps=0
    )
    [picture] = shown.ui["longtake_picture"]
    assert picture["type"] == "temp"
    assert (bench.state.folders["temp"] / picture["filename"]).read_bytes()[1:4] == b"PNG"


def test_a_pipelined_shot_is_whole_and_goes_on_after_a_cancel(bench: Bench) -> None:
    """Several chunks in flight, a solver with a memory: run again, the same frames."""
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    [schedule] = bench.run(
        "LongtakeSchedule", schedule="rolling window (Rolling Forcing)", solver="unipc 2", steps=2
    )
    shot = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
    wired = {"model": model, "prompts": prompts, "schedule": schedule, **shot}
    [rollout] = bench.run("LongtakeSampler", **wired)
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    whole = bench.collect(frames)
    assert whole.shape == (33, 32, 32, 3)
    newest = rollout.spec.journal.folder / f"{rollout.spec.key(2)}.safetensors"
    newest.unlink()
    [again] = bench.run("LongtakeSampler", **wired)
    [frames] = bench.run("LongtakeVAEDecode", rollout=again, vae=vae)
    assert torch.equal(bench.collect(frames), whole)
    assert again.resumed_from == 2
