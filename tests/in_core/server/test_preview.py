"""Streaming Preview in the real core: events over its websocket, takes over its HTTP server, pixels
against the saved files; cancelled, cached, controlled.
"""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from PIL import Image

from longtake.errors import LongtakeError
from longtake.headless.osc.remote import RemoteRun
from longtake.tests.in_core.support.client import Client, OnMessage, Run
from longtake.tests.in_core.support.graphs import (
    DECODE,
    PREVIEW,
    SAMPLER,
    SAVE,
    SCHEDULE,
    example,
    node,
)
from longtake.tests.in_core.support.outputs import frame_count, saved

pytestmark = pytest.mark.usefixtures("fresh_journal")

TAKE, CHUNK = "longtake.take", "longtake.take.chunk"


def told(run: Run, event: str) -> list[dict[str, Any]]:
    """What the page was told under this name."""
    return [data for name, data in run.messages if name == event]


async def fetch(client: Client, path: str) -> Any:
    """JSON or bytes of a route, as the front end asks for them (below /api)."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{client.url}/api/longtake/takes/{path}") as answer,
    ):
        assert answer.status == 200, await answer.text()
        return await (answer.json() if answer.content_type == "application/json" else answer.read())


def manifest(client: Client, token: str) -> dict[str, Any]:
    """Of a take that is over; its last frames may still be on their way through the encoder."""

    async def wait() -> dict[str, Any]:
        while (known := await fetch(client, token))["state"] in ("waiting", "running", "stopping"):
            await asyncio.sleep(0.05)
        return known

    return asyncio.run(wait())


def pictures(client: Client, known: dict[str, Any]) -> list[np.ndarray]:
    """All frames of a take (H, W, 3), read the way the player does."""
    found = []
    for chunk in known["chunks"]:
        packed = asyncio.run(fetch(client, f"{known['take']}/chunks/{chunk['seq']}"))
        assert len(packed) == chunk["bytes"]
        magic, _, _, count = struct.unpack(">4sHHI", packed[:12])
        place = 12 + 4 * count
        for size in struct.unpack(f">{count}I", packed[12:place]):
            found.append(as_pixels(packed[place : place + size]))
            place += size
        assert magic == b"LTF1" and count == chunk["count"] and place == len(packed)
    return found


def as_pixels(jpeg: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.array(image)


def as_jpeg(picture: np.ndarray) -> np.ndarray:
    """A picture as a JPEG of the preview's quality keeps it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=85)
    return as_pixels(file.getvalue())


def decoded(path: Path) -> list[np.ndarray]:
    """The pictures of a video file."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def token(run: Run) -> str:
    """The take that the node's result names."""
    [entry] = run.outputs[PREVIEW]["longtake"]
    return entry["take"]


def test_the_take_has_the_pictures_of_the_saved_files(client: Client) -> None:
    workflow = example(seed=21)
    lossless = {**workflow[SAVE]["inputs"], "format": "mkv (lossless)"}
    workflow["9"] = node("LongtakeSaveVideo", **lossless)
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    known = manifest(client, token(run))
    shown = pictures(client, known)
    assert known["state"] == "done" and len(shown) == known["frames"] == 69
    exact = decoded(saved(client, run, "9"))
    assert all(np.array_equal(a, as_jpeg(b)) for a, b in zip(shown, exact, strict=True))
    apart = [
        abs(a.astype(int) - b).mean()
        for a, b in zip(shown, decoded(saved(client, run)), strict=True)
    ]
    assert max(apart) < 8, "the MP4 is lossy too, in its own way"
    assert {file["filename"][-4:] for file in known["files"]} == {".mp4", ".mkv"}


def test_the_page_that_queued_is_told_of_every_chunk(client: Client) -> None:
    run = client.run(example(seed=22))
    chunks, states = told(run, CHUNK), [data["state"] for data in told(run, TAKE)]
    assert [(c["first_frame"], c["count"]) for c in chunks] == [
        (0, 9), (9, 12), (21, 12), (33, 12), (45, 12), (57, 12),
    ][: len(chunks)]  # fmt: skip
    assert len(chunks) >= 5  # the last may be encoded after the prompt's own last message
    assert states[:2] == ["waiting", "running"]
    for data in [*chunks, *told(run, TAKE)]:
        assert data["take"] == token(run) and data["v"] == 1
        assert data["node_id"] == data["display_node_id"] == PREVIEW and data["prompt_id"]
    assert chunks[-1]["stats"]["kv_bytes"] == chunks[-1]["stats"]["kv_bytes_planned"] > 0
    known = manifest(client, token(run))
    assert [one["text"] for one in known["prompt_changes"]] == [
        "a red ball over green hills at noon", "a blue ball over green hills at night",
    ]  # fmt: skip


def test_a_cached_run_names_the_same_take_again(client: Client) -> None:
    first, again = client.run(example(seed=23)), client.run(example(seed=23))
    assert PREVIEW in again.cached and told(again, CHUNK) == []
    shown = [data["output"] for data in told(again, "executed") if data["node"] == PREVIEW]
    assert shown[0]["longtake"] == [{"take": token(first)}]
    assert len(pictures(client, manifest(client, token(first)))) == 69


def test_cached_nodes_show_their_pictures_again(client: Client) -> None:
    workflow = example(seed=40) | {
        "20": node("EmptyAudio", duration=2.0, sample_rate=8000, channels=1),
        "21": node("LongtakeSoundCurve", audio=["20", 0], follow="loudness", low=0.0, high=1.0,
                   fall=0.0, every=0.25),
        "22": node("PreviewAny", source=["21", 0]),
    }  # fmt: skip
    client.run(workflow)
    for seed in (40, 41):  # all of the run is cached; these two are, before a new shot
        workflow[SAMPLER]["inputs"]["seed"] = seed
        again = client.run(workflow)
        for drawn in (SCHEDULE, "21"):
            assert drawn in again.cached
            [shown] = [data["output"] for data in told(again, "executed") if data["node"] == drawn]
            assert len(shown["longtake_picture"]) == 1


def test_after_cancel_the_take_stays_and_says_where_to_go_on(client: Client) -> None:
    async def cancel(client: Client, name: str, data: Any) -> None:
        if name == CHUNK and data["seq"] == 2:
            await client.interrupt()

    workflow = example(seed=24, frames=201)
    stopped = client.run(workflow, cancel)
    assert stopped.end[0] == "execution_interrupted"
    known = manifest(client, told(stopped, TAKE)[0]["take"])
    assert known["state"] == "interrupted" and 33 <= known["frames"] < 201
    assert known["resume_at_s"] * 16 >= known["frames"]
    assert len(pictures(client, known)) == known["frames"]
    resumed = client.run(workflow)
    assert resumed.end[0] == "execution_success"
    stats = manifest(client, token(resumed))["stats"]
    assert stats["resumed_from_s"] == pytest.approx(known["resume_at_s"])


def test_a_failing_neighbour_is_told_as_what_it_is(client: Client) -> None:
    workflow = example(seed=25, frames=201)
    workflow["9"] = node("FailingOutput", frames=["6", 0], chunks=3)
    run = client.run(workflow)
    assert run.end[0] == "execution_error"
    known = manifest(client, told(run, TAKE)[0]["take"])
    assert known["state"] in ("interrupted", "error") and known["frames"] >= 21


def test_a_failing_stage_leaves_the_rest_of_the_prompt_its_frames(client: Client) -> None:
    workflow = example(seed=27)  # 69 frames: whole chunks
    workflow["9"] = node("FailingStage", frames=[DECODE, 0], chunk=2)
    workflow[PREVIEW]["inputs"]["refined"] = ["9", 0]
    run = client.run(workflow)
    assert run.end[0] == "execution_error" and "the stage's own failure" in str(run.end[1])
    small = manifest(client, told(run, TAKE)[0]["take"])
    large = manifest(client, small["refined"])
    assert (small["state"], small["frames"]) == ("done", 69)
    assert (large["state"], large["frames"], large["refines"]) == ("error", 21, small["take"])
    assert frame_count(saved(client, run)) == 69


def test_a_page_that_reloads_finds_its_takes(client: Client) -> None:
    run = client.run(example(seed=26))

    async def attach(client_id: str) -> list[dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{client.url}/longtake/attach", json={"client_id": client_id}) as answer,
        ):
            return (await answer.json())["takes"]

    mine = [take for take in asyncio.run(attach("test")) if take["take"] == token(run)]
    assert [take["node_id"] for take in mine] == [PREVIEW]
    assert asyncio.run(attach("somebody")) == []


def test_the_server_refuses_other_sites_under_its_own_routes_too(client: Client) -> None:
    run = client.run(example(seed=26))

    def post(**headers: str) -> int:
        body = {"op": "pause", "rev": 1}
        return asyncio.run(control(client, token(run), body, **headers))

    assert post(Origin="http://evil.example") == 403
    assert post(**{"Sec-Fetch-Site": "cross-site"}) == 403
    assert post() == 409  # it is over


def test_a_loras_strength_is_changed_while_it_is_paused_and_holds_from_the_next_chunk_on(
    client: Client,
) -> None:
    """Asked for as the player asks; the run that is not edited is the reference."""

    async def edit(client: Client, take: str) -> None:
        for rev, wish in enumerate([{"op": "lora", "lora": 0.25}, {"op": "resume"}], start=1):
            assert await control(client, take, {**wish, "rev": rev}) == 200

    workflow = example(seed=27)
    workflow["9"] = node("LongtakeLoadLora", model=["1", 0], lora_name="random.safetensors")
    workflow["9"]["inputs"]["strength"] = 1.0
    workflow[SAMPLER]["inputs"]["model"] = ["9", 0]
    pause = {"chunk": 1, "control": "pause", "text": "", "once": "lora"}
    edited = client.run(
        {**workflow, "10": node("ControllingOutput", frames=[DECODE, 0], **pause)},
        when_paused(edit),
    )
    known = manifest(client, token(edited))
    [asked] = known["edits"]
    assert (asked["status"], asked["lora"], asked["first_frame"]) == ("applied", 0.25, 21)
    whole = pictures(client, manifest(client, token(client.run(workflow))))
    equal = [np.array_equal(a, b) for a, b in zip(pictures(client, known), whole, strict=True)]
    assert equal == [True] * 21 + [False] * 48


def when_paused(act: Callable[[Client, str], Awaitable[None]]) -> OnMessage:
    """Call `act` with the take that pauses, once.

    On a busy machine the first picture is encoded after the pause, and says once more that the
    take is paused, before any answer.
    """
    takes = set[str]()

    async def on_message(client: Client, name: str, data: Any) -> None:
        if name == TAKE and data["state"] == "paused" and data["take"] not in takes:
            takes.add(data["take"])
            await act(client, data["take"])

    return on_message


async def control(client: Client, take: str, body: dict[str, Any], **headers: str) -> int:
    """Post to a take's control route."""
    url = f"{client.url}/api/longtake/takes/{take}/control"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers=headers) as answer,
    ):
        return answer.status


@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_another_program_shows_the_last_picture_between_runs(client: Client, ending: str) -> None:
    known = manifest(client, token(client.run(example(seed=26))))
    last = pictures(client, known)[-1]
    with av.open(f"{client.url}/longtake/live/{known['live']}/live.{ending}", timeout=60) as video:
        for number, frame in enumerate(video.decode(video=0)):
            shown = frame.to_ndarray(format="rgb24")
            if number >= 40:  # the last chunk has been played
                break
    error = shown.astype(float) - last
    assert shown.shape == last.shape and 10 * np.log10(255**2 / np.mean(error**2)) > 30  # dB


def test_osc_finds_the_run_that_the_queue_is_at(client: Client) -> None:
    async def perform(client: Client, take: str) -> None:
        run = RemoteRun(client.url)
        for request in ({"op": "prompt", "text": "a blue ball"}, {"op": "resume"}):
            await asyncio.to_thread(run.send, request)

    workflow = example(seed=28)
    pause = {"chunk": 1, "control": "pause", "text": "", "once": "osc"}
    workflow["10"] = node("ControllingOutput", frames=[DECODE, 0], **pause)
    known = manifest(client, token(client.run(workflow, when_paused(perform))))
    [edit] = known["edits"]
    assert (edit["status"], edit["text"], edit["first_frame"]) == ("applied", "a blue ball", 21)
    with pytest.raises(LongtakeError, match="No run with a preview"):
        RemoteRun(client.url).send({"op": "stop"})


@pytest.mark.parametrize("name", ["Origin", "Host"])
def test_an_unreadable_name_is_refused_with_a_sentence(client: Client, name: str) -> None:
    """The core's own check answers 500 to such a request."""

    async def ask() -> tuple[int, dict[str, str]]:
        unreadable = {"Origin": "http://a:b:c", "Host": "[::1"}[name]
        url = f"{client.url}/longtake/fit"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers={name: unreadable}) as answer,
        ):
            return answer.status, await answer.json()

    refused = f"Requests with an unreadable {name} header are refused."
    assert asyncio.run(ask()) == (403, {"error": refused})
