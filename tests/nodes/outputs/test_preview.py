"""Streaming Preview under the stand-in host: its take holds the run's frames, however the run
ends.
"""

from __future__ import annotations

import asyncio
import gc
import io
import struct
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.errors import BadInput, LongtakeError
from longtake.headless.events import ChunkDone, Event
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.stream.preview.take import Take
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.stream.live_servers import wait_until


def takes(bench: Bench, *, whole: bool = True) -> list[Take]:
    """Every take there is, oldest first; `whole`: wait until all is encoded."""
    from longtake.nodes.runtime.session import session

    kept = list(session.takes._takes.values())
    for take in kept if whole else ():
        take.join()
    return kept


def session_of(bench: Bench) -> Any:
    from longtake.nodes.runtime.session import session

    return session


def pictures(take: Take) -> torch.Tensor:
    """All frames of a take, (n, H, W, 3) in [0, 1], read the way the player does."""
    found = []
    for chunk in take.manifest()["chunks"]:
        blob = take.blob(chunk["seq"])
        packed = (blob and blob.read()) or b""
        count = struct.unpack(">I", packed[8:12])[0]
        place = 12 + 4 * count
        for size in struct.unpack(f">{count}I", packed[12:place]):
            found.append(np.array(Image.open(io.BytesIO(packed[place : place + size]))))
            place += size
    return torch.from_numpy(np.stack(found)).float() / 255


def as_jpeg(image: torch.Tensor) -> torch.Tensor:
    """(H, W, 3) as a JPEG of quality 85 keeps it."""
    file = io.BytesIO()
    Image.fromarray((image * 255).round().byte().numpy()).save(file, format="JPEG", quality=85)
    return torch.from_numpy(np.array(Image.open(file))).float() / 255


def cancel_after(bench: Bench, chunk: int) -> None:
    """Press Cancel when this chunk is done."""
    tell = bench.state.listener

    def listen(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == chunk:
            bench.state.listener = tell
            bench.state.interrupt()

    bench.state.listener = listen


def test_a_take_holds_the_frames_of_the_run(bench: Bench) -> None:
    frames = bench.frames()
    bench.run("LongtakePreview", frames=frames)
    [take] = takes(bench)
    known = take.manifest()
    assert known["state"] == "done" and known["frames"] == known["total_frames"] == 33
    assert (known["width"], known["height"], known["fps"]) == (32, 32, 16)
    assert [change["text"] for change in known["prompt_changes"]] == ["a red ball", "a blue ball"]
    assert known["stats"]["kv_bytes"] == known["stats"]["kv_bytes_planned"] > 0
    assert known["stats"]["first_frame_s"] > 0 and known["stats"]["eta_s"] == 0
    images = bench.collect(frames)
    assert torch.equal(pictures(take), torch.stack([as_jpeg(image) for image in images]))


def test_its_result_is_the_take_and_no_picture_that_the_host_would_draw_over_it(
    bench: Bench,
) -> None:
    shown = bench.shown("LongtakePreview", frames=bench.frames())
    [take] = takes(bench)
    assert shown == {"longtake": [{"take": take.token}]}


def test_after_a_cancel_it_stays_and_says_where_the_next_run_goes_on(bench: Bench) -> None:
    frames = bench.frames()
    cancel_after(bench, 1)
    with pytest.raises(InterruptProcessingException):
        bench.run("LongtakePreview", frames=frames)
    [take] = takes(bench)
    known = take.manifest()
    assert known["state"] == "interrupted" and known["message"] is None
    assert known["resume_at_s"] == 21 / 16 and known["frames"] in (9, 21)
    bench.run("LongtakePreview", frames=frames)
    assert takes(bench)[-1].manifest()["stats"]["resumed_from_s"] == 21 / 16


def feeds(frames: Any) -> list[int]:
    """A list of the latent frames that are decoded from now on."""
    fed: list[int] = []
    open_decoder = frames.open_decoder

    def open_counted() -> Any:
        decoder = open_decoder()
        feed = decoder.feed
        decoder.feed = lambda latents: (fed.append(len(latents)), feed(latents))[1]
        return decoder

    frames.open_decoder = open_counted
    return fed


def interrupted_take(bench: Bench, frames: Any, chunk: int = 3) -> Take:
    cancel_after(bench, chunk)
    with pytest.raises(InterruptProcessingException):
        bench.run("LongtakePreview", frames=frames)
    bench.state.start_prompt()
    return takes(bench)[-1]


def test_a_resumed_preview_goes_on_from_the_frames_of_the_cancelled_one(bench: Bench) -> None:
    cut = interrupted_take(bench, bench.frames(length=69.0))
    seen, text = pictures(cut), cut.manifest()["prompt_changes"]
    assert 0 < len(seen) < 69
    frames = bench.frames(length=69.0)
    fed = feeds(frames)
    bench.run("LongtakePreview", frames=frames)
    [take] = takes(bench)  # it took the place of the cancelled one
    known = take.manifest()
    assert take is not cut and known["frames"] == 69 and known["prompt_changes"] == text
    assert [chunk["seq"] for chunk in known["chunks"]] == [*range(len(known["chunks"]))]
    whole = pictures(take)
    assert torch.equal(whole[: len(seen)], seen) and sum(fed) < 18
    images = bench.collect(frames)
    assert torch.equal(whole, torch.stack([as_jpeg(image) for image in images]))
    assert frames.report([]).frames == 69


def test_with_a_preview_too_a_resumed_run_decodes_only_what_is_missing(bench: Bench) -> None:
    """Save Video goes on in its file, the preview in its frames."""
    calls = ["LongtakePreview", "LongtakeSaveVideo"]

    def run(frames: Any) -> None:
        asyncio.run(bench.side_by_side(*((call, {"frames": frames}) for call in calls)))

    cancel_after(bench, 3)
    with pytest.raises(InterruptProcessingException):
        run(bench.frames(length=69.0))
    bench.state.start_prompt()
    takes(bench)
    frames = bench.frames(length=69.0)
    fed = feeds(frames)
    run(frames)
    assert takes(bench)[-1].manifest()["frames"] == 69 and sum(fed) < 18


def test_other_pictures_another_page_or_an_edit_begin_a_take_of_their_own(bench: Bench) -> None:
    cut = interrupted_take(bench, bench.frames(length=69.0))
    seen = len(pictures(cut))
    for frames in (bench.frames(length=69.0, seed=9), bench.frames(length=69.0, width=48)):
        bench.run("LongtakePreview", frames=frames)
        assert len(pictures(cut)) == seen and takes(bench)[-1].manifest()["frames"] == 69
        assert takes(bench)[-1].token != cut.token
    bench.state.start_prompt()
    frames = bench.frames(length=69.0, seed=11)
    frames.controls.set_prompt("ball")  # only for this run
    edited = interrupted_take(bench, frames)
    count = len(takes(bench))
    bench.run("LongtakePreview", frames=bench.frames(length=69.0, seed=11))
    assert len(takes(bench)) == count + 1 and len(pictures(edited)) > 0


def test_an_edit_while_a_run_resumes_acts_from_the_first_new_chunk(bench: Bench) -> None:
    """What is in the file and in the preview already was made without it."""
    calls = ["LongtakePreview", "LongtakeSaveVideo"]

    def run(frames: Any) -> None:
        asyncio.run(bench.side_by_side(*((call, {"frames": frames}) for call in calls)))

    cancel_after(bench, 2)
    with pytest.raises(InterruptProcessingException):
        run(bench.frames(length=69.0))
    bench.state.start_prompt()
    cut = len(pictures(takes(bench)[-1]))
    frames = bench.frames(length=69.0)
    frames.controls.set_prompt("ball")  # before any chunk
    run(frames)
    [edit] = frames.controls.edits
    assert edit.status == "applied" and edit.first_frame is not None and edit.first_frame >= cut
    changes = takes(bench)[-1].manifest()["prompt_changes"]
    assert [change["frame"] for change in changes if change["text"] == "ball"] == [edit.first_frame]


def test_a_page_never_gets_the_frames_of_another_page(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = interrupted_take(bench, bench.frames(length=69.0))
    seen = len(pictures(cut))
    monkeypatch.setattr(type(sys.modules["server"].PromptServer.instance), "client_id", "other")
    bench.run("LongtakePreview", frames=bench.frames(length=69.0))
    assert [len(pictures(take)) for take in takes(bench)] == [seen, 69]


def test_a_resumed_run_says_before_its_first_chunk_where_it_resumes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = bench.frames()
    cancel_after(bench, 1)
    with pytest.raises(InterruptProcessingException):
        bench.run("LongtakePreview", frames=frames)
    session_of(bench).takes.reset()  # as after a restart of the server
    announced: list[Any] = []
    announce = Take.announce
    monkeypatch.setattr(
        Take, "announce", lambda take: announced.append(take.summary()) or announce(take)
    )
    bench.run("LongtakePreview", frames=frames)
    token = takes(bench)[-1].token
    first, *_, last = (summary for summary in announced if summary["take"] == token)
    assert (first["state"], first["frames"], first["resume_at_s"]) == ("waiting", 0, 21 / 16)
    assert (last["state"], last["resume_at_s"]) == ("done", None)


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [(BadInput, "The disk is full; free some.", "The disk is full; free some."),
     (ValueError, "no", "ValueError: no")],
)  # fmt: skip
def test_a_failure_is_one_sentence_in_the_take(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], said: str, message: str
) -> None:
    from longtake.nodes.outputs.preview import host

    def fail(self: Any, done: int) -> None:
        raise kind(said)

    frames = bench.frames()
    monkeypatch.setattr(host.Progress, "advance", fail)
    with pytest.raises(kind):
        bench.run("LongtakePreview", frames=frames)
    known = takes(bench)[0].manifest()
    assert (known["state"], known["message"]) == ("error", message)


def test_stop_keeps_what_is_there_and_says_stopped(bench: Bench) -> None:
    frames = bench.frames()
    tell = bench.state.listener

    def stop(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == 1:
            assert takes(bench, whole=False)[0].controls.obey(1, lambda controls: controls.stop())

    bench.state.listener = stop
    bench.run("LongtakePreview", frames=frames)
    known = takes(bench)[0].manifest()
    assert (known["state"], known["frames"], known["control_rev"]) == ("stopped", 21, 1)


def test_an_edit_through_the_take_is_shown_where_it_took_effect(bench: Bench) -> None:
    frames = bench.frames()
    tell = bench.state.listener

    def edit(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == 0:
            takes(bench, whole=False)[0].controls.obey(1, lambda c: c.set_prompt("a blue ball"))

    bench.state.listener = edit
    bench.run("LongtakePreview", frames=frames)
    known = takes(bench)[0].manifest()
    [change] = known["edits"]
    assert (change["status"], change["first_frame"]) == ("applied", 9) and change["line"]
    assert known["prompt_changes"] == [
        {"frame": 0, "text": "a red ball", "edited": False},
        {"frame": 9, "text": "a blue ball", "edited": True},
    ]


def test_a_plan_is_shown_and_nothing_made(bench: Bench) -> None:
    bench.run("LongtakePreview", frames=bench.frames(plan_only=True))
    known = takes(bench)[0].manifest()
    assert (known["state"], known["frames"], known["plan"]["frames"]) == ("done", 0, 33)
    assert known["plan"]["fits"] and known["plan"]["text"]


def test_a_plan_after_a_plan_makes_nothing(bench: Bench) -> None:
    """The take of the first one has no chunk to go on from."""
    for _ in range(2):
        frames = bench.frames(plan_only=True)
        bench.run("LongtakePreview", frames=frames)
        assert frames.rollout.run.delivered == 0


def test_a_file_saved_from_the_same_frames_is_named(bench: Bench) -> None:
    frames = bench.frames()
    calls = [("LongtakePreview", {"frames": frames}), ("LongtakeSaveVideo", {"frames": frames})]
    asyncio.run(bench.side_by_side(*calls))
    assert takes(bench)[0].manifest()["files"] == [
        {"filename": "clip_00001_.mp4", "subfolder": "longtake", "type": "output", "role": "video"}
    ]


def test_two_previews_show_the_same(bench: Bench) -> None:
    frames = bench.frames()
    asyncio.run(bench.side_by_side(*[("LongtakePreview", {"frames": frames})] * 2))
    one, other = takes(bench)
    assert torch.equal(pictures(one), pictures(other)) and one.token != other.token


def test_nothing_is_left_in_the_temp_folder_when_the_host_ends(
    tmp_path: Path, tiny_demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.stream.preview.takes import Limits
    from longtake.tests.support.node_bench import node_bench

    with node_bench(tmp_path, tiny_demo_folder, monkeypatch) as bench:
        from longtake.nodes.runtime.session import session

        monkeypatch.setattr(session.takes._store, "_budgets", (1, Limits().disk_bytes))
        bench.run("LongtakePreview", frames=bench.frames())
        takes(bench)
        temp = bench.state.folders["temp"]
        assert len(list(temp.rglob("*.jpegs"))) == 3
    assert not list(temp.rglob("*.jpegs"))


def test_its_sound_goes_to_the_live_address_of_the_newest_run_alone(bench: Bench) -> None:
    frames = bench.frames()
    audio = {"waveform": torch.zeros(1, 2, 100), "sample_rate": 48000}
    bench.run("LongtakePreview", frames=frames, audio=audio)
    [first] = takes(bench)
    assert first.sound is not None and first.sound.rate == 48000
    bench.state.start_prompt()
    bench.run("LongtakePreview", frames=bench.frames(seed=5))
    assert first.sound is None, "an older run holds no sound in memory"
    assert takes(bench)[-1].sound is None


def test_a_preview_that_cannot_begin_leaves_no_take_running(bench: Bench) -> None:
    """Such a take would wait for ever, with a thread, and would never be dropped."""
    frames = bench.frames()
    several_tracks = {"waveform": torch.zeros(3, 2, 100), "sample_rate": 48000}
    with pytest.raises(BadInput, match="give one track"):
        bench.run("LongtakePreview", frames=frames, audio=several_tracks)
    assert takes(bench, whole=False) == []


def test_a_preview_that_is_cancelled_as_it_begins_ends_its_takes(bench: Bench) -> None:
    """As where the host's next node fails at once: the preview's readers have not begun."""
    frames = bench.frames()

    async def cancel_at_once() -> None:
        inputs = {"frames": frames, "refined": frames}
        preview = asyncio.ensure_future(bench.side_by_side(("LongtakePreview", inputs)))
        while not takes(bench, whole=False):
            await asyncio.sleep(0)
        preview.cancel()
        await asyncio.gather(preview, return_exceptions=True)

    asyncio.run(cancel_at_once())
    both = takes(bench, whole=False)
    wait_until(lambda: [take.state for take in both] == ["interrupted"] * 2)


def test_a_take_whose_encoder_failed_holds_neither_pictures_nor_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures_of_a_chunk = list[weakref.ref[Any]]()

    def fail(pictures: Any) -> bytes:
        pictures_of_a_chunk.append(weakref.ref(pictures))
        raise ValueError("no room")

    monkeypatch.setattr(session_of(bench).takes, "_encode", fail)
    frames = bench.frames()
    run = weakref.ref(frames.rollout.run)
    with pytest.raises(LongtakeError, match=r"^The preview cannot encode frames \(no room\)\.$"):
        bench.run("LongtakePreview", frames=frames)
    del frames
    gc.collect()
    assert takes(bench)[0].state == "error"
    assert run() is None and pictures_of_a_chunk[0]() is None
