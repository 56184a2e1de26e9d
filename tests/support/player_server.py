"""The plain player page over numbered frames instead of a model's, for tests in a browser:

    python -m longtake.tests.support.player_server --port 8765     (in the folder above)

POST /fake/run {"client_id": ..., fields of `FakeRun`} starts a rollout and answers {"take": token};
GET /below/ is the page once more, as behind a proxy that has it below a path;
GET /?no-screens is the page with a header by which the browser refuses to share a screen.
GET /fake/input/TAKE gives the newest picture that came in for a take, or why none came;
GET /fake/store says what the frames of all takes, and the whole process, hold; GET /fake/process
its number.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from longtake.benchmarks._shared.process_memory import resident_bytes
from longtake.headless.player.app import Sockets, application
from longtake.model.config import FRAMES_PER_LATENT
from longtake.model.vae.latent_format import latent_frame_count
from longtake.stream.drive.timing import DriveTiming
from longtake.stream.incoming.inlet import Inlet, Kind, Wish
from longtake.stream.preview.messages import Ending, Origin, Plan, Shot, TakeStats
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Limits, Takes
from longtake.stream.rollout.live.controls import Controls
from longtake.tests.support.numbered_frames import numbered_frames

LIMITS = Limits()
STORED_CHUNK_S = 0.05  # a chunk from disk is only decoded


@dataclass(frozen=True)
class FakeRun:
    """A rollout to be faked; `end` is how it ends if nobody stops it."""

    client_id: str
    node_id: str = "7"
    prompt_id: str = "fake"
    workflow_id: str | None = None
    frames: int = 48
    chunk_frames: int = 12
    fps: float = 16.0
    width: int = 192
    height: int = 128
    first_s: float = 0.2  # until the first chunk
    chunk_s: float = 0.2  # from then on, for each
    resume_at_s: float | None = None  # earlier chunks come fast, as from disk
    encode_s: float = 0.0  # that an edited prompt takes
    end: str = "done"
    endless: bool = False
    sparse: bool = False  # whether it says what sparse attention did
    camera: bool = False  # whether keys can drive it
    recalls: bool = False  # whether chunks from the third on recall the first 17 frames
    refined_s: float | None = None  # after which each chunk comes refined, as a larger negative
    refined_chunks: int = 1000  # the refining fails after so many
    prompts: tuple[tuple[int, str], ...] = ((0, "a red ball"),)  # (from frame, text)
    grain: float = 0.0  # of the pictures, so that they take as many bytes as real ones
    wish: Kind | None = None  # the pictures that the run wants of its page
    planned: bool = False  # whether it says its plan


class FakeControls(Controls):
    """Real controls, with edits applied as a rollout does it; each takes `encode_s`."""

    encode_s = 0.0
    guidance = lora = 1.0  # of the newest chunk

    def apply(self, first_frame: int, fps: float) -> str | None:
        """Put what is queued in force from this frame on; gives the new prompt, if there is one."""
        edit = self.edit_queue.take()
        if edit is None:
            return None
        time.sleep(self.encode_s)
        self.guidance = self.guidance if edit.guidance is None else edit.guidance
        self.lora = self.lora if edit.lora is None else edit.lora
        start_s = first_frame / fps
        over = f" (over {edit.over_s:g})" if edit.over_s else ""
        line = f"{start_s:.3f}{over}: {edit.text}" if edit.text else None
        self.edit_queue.apply(edit, first_frame, start_s, line)
        return edit.text


def start(
    takes: Takes, sockets: Sockets, run: FakeRun, inlets: dict[str, Inlet] | None = None
) -> Take:
    """Begin a fake rollout on a thread of its own; `inlets` are those of takes by their tokens."""
    plan = Plan(48, 3.0, 4, 7 << 20, 1 << 30, True, "The run fits.") if run.planned else None
    shot = Shot(run.fps, run.width, run.height, None if run.endless else run.frames, plan,
                resume_at_s=run.resume_at_s)  # fmt: skip
    shown_at = run.node_id.split(".")[0]
    origin = Origin(run.node_id, shown_at, run.prompt_id, run.workflow_id, run.client_id)
    controls = FakeControls()
    controls.encode_s = run.encode_s
    if run.camera:
        controls.drive.open(run.fps)
    if run.wish is not None:
        controls.inlet.ask(Wish(run.wish, run.width, run.height, run.fps))
    take = takes.create(shot, origin, sockets.emitter(run.client_id), controls)
    if inlets is not None:
        inlets[take.token] = controls.inlet
    if run.refined_s is not None:
        larger = replace(shot, width=2 * run.width, height=2 * run.height)
        refined_origin = replace(origin, refines=take.token)
        refined = takes.create(larger, refined_origin, sockets.emitter(run.client_id), controls)
        take.add_refined(refined.token)
        threading.Thread(target=_refine, args=(take, refined, run), daemon=True).start()
    threading.Thread(target=_produce, args=(take, controls, run), daemon=True).start()
    return take


def sparse_stats(chunk: int) -> dict[str, Any]:
    """Another density after each chunk, the same recall, one head more that is dense."""
    return {
        "attention_density": 0.3 + 0.01 * chunk, "ann_recall": 0.91, "dense_fallbacks": chunk,
    }  # fmt: skip


def _produce(take: Take, controls: FakeControls, run: FakeRun) -> None:
    began, text = time.monotonic(), ""
    timing = DriveTiming(controls.drive, run.fps)
    for first in range(0, run.frames, run.chunk_frames):
        stored = first < (run.resume_at_s or 0) * run.fps
        time.sleep((STORED_CHUNK_S if stored else run.chunk_s) if first else run.first_s)
        controls.wait_while_paused(lambda: None, lambda: None)
        if controls.state == "stopping":
            break
        text = next((new for start, new in reversed(run.prompts) if start == first), text)
        text = controls.apply(first, run.fps) or text
        _drive(controls, timing, run, first)
        count = min(run.chunk_frames, run.frames - first)
        rate = (first + count) / max(time.monotonic() - began, 1e-3)
        stats = TakeStats(
            first_frame_s=run.first_s,
            frames_per_s=rate,
            eta_s=(run.frames - first - count) / rate,
            chunk_p95_s=run.chunk_s,
            block_latency_s=run.chunk_s,
            real_time_factor=run.chunk_s * run.fps / run.chunk_frames,
            continuous_play_rate=0.5 if first else None,
            kv_bytes=7 << 20,
            kv_bytes_planned=8 << 20,
            **(sparse_stats(first // run.chunk_frames) if run.sparse else {}),
            paused_s=controls.paused_s,
            resumed_from_s=_resume_point(run, first),
            guidance=controls.guidance,
            lora=controls.lora,
        )
        take.show(
            numbered_frames(first, count, run.width, run.height, grain=run.grain),
            first, text, stats,
            recalled=((0, 17),) if run.recalls and first >= 2 * run.chunk_frames else (),
        )  # fmt: skip
    controls.end(stopped=controls.state == "stopping")
    take.finish(_ending(controls, run))


def _refine(take: Take, refined: Take, run: FakeRun) -> None:
    """Show each chunk of `take` again, larger and as a negative, some time after it."""
    for number, first in enumerate(range(0, run.frames, run.chunk_frames)):
        while len(take.chunks) <= number:
            time.sleep(0.01)
        time.sleep(run.refined_s or 0)
        if number >= run.refined_chunks:
            return refined.finish(Ending("error", "The device is full."))
        count = min(run.chunk_frames, run.frames - first)
        frames = numbered_frames(first, count, 2 * run.width, 2 * run.height)
        frames[:, :, : 2 * run.height * 2 // 3].neg_().add_(1)  # the colours, not the barcode
        refined.show(frames, first, "", _both_times(number))
    refined.finish(Ending("done"))


def _both_times(chunk: int) -> TakeStats:
    """What a stage's take says beside its source's: the times of both, from the second chunk on."""
    return TakeStats(generator_factor=0.4, stage_factor=2.0 + chunk) if chunk else TakeStats()


def _drive(controls: FakeControls, timing: DriveTiming, run: FakeRun, first: int) -> None:
    """Read the keys for the chunk from frame `first` on, as a rollout does it.

    A chunk that keys throw away takes as long again.
    """
    latent = latent_frame_count(first) if first else 0
    frames, frame_s = run.chunk_frames // FRAMES_PER_LATENT, FRAMES_PER_LATENT / run.fps
    motions = controls.drive.read(frames, frame_s)
    timing.note_arrival()
    if motions is not None:
        controls.drive.note(latent, motions)
    while first:
        motions = timing.other_motions(first, frames, motions, lambda: controls.state == "running")
        if motions is None:
            return
        controls.drive.note(latent, motions)
        controls.drive.count_replanned()
        time.sleep(run.chunk_s)


def _resume_point(run: FakeRun, first: int) -> float | None:
    """Where the run resumed, from its first new chunk on, which begins at frame `first`."""
    at = run.resume_at_s
    return at if at is not None and first >= at * run.fps else None


def _ending(controls: FakeControls, run: FakeRun) -> Ending:
    if controls.state == "stopped":
        return Ending("stopped")
    if run.end == "interrupted":
        return Ending("interrupted", None, run.frames / run.fps or run.resume_at_s)
    return (
        Ending("error", "The model produced NaN in layer 3.")
        if run.end == "error"
        else Ending("done")
    )


def player_server(folder: Path, limits: Limits = LIMITS) -> web.Application:
    """The application with /fake/run; takes are reset when it ends."""
    takes, sockets = Takes(lambda: folder, limits), Sockets()
    app, inlets = application(takes, sockets), dict[str, Inlet]()
    app.add_subapp("/below", application(takes, sockets))

    async def run(request: web.Request) -> web.Response:
        fields: dict[str, Any] = json.loads(await request.text())
        fields["prompts"] = tuple(map(tuple, fields.get("prompts", FakeRun.prompts)))
        return web.json_response({"take": start(takes, sockets, FakeRun(**fields), inlets).token})

    async def came_in(request: web.Request) -> web.Response:
        news = inlets[request.match_info["take"]].take(0)
        if isinstance(news, bytes):
            return web.Response(body=news, content_type="image/jpeg")
        return web.Response(text=news or "")

    async def store(_: web.Request) -> web.Response:
        held = {
            "ram_bytes": takes.ram_bytes, "disk_bytes": takes.disk_bytes,
            "waiting_bytes": takes.waiting_bytes, "resident_bytes": resident_bytes(),
        }  # fmt: skip
        return web.json_response(held)

    async def reset(_: web.Application) -> None:
        takes.reset()

    async def process(_: web.Request) -> web.Response:
        return web.json_response(os.getpid())

    async def refuse_screens(request: web.Request, response: web.StreamResponse) -> None:
        if "no-screens" in request.query:
            response.headers["Permissions-Policy"] = "display-capture=()"

    app.on_response_prepare.append(refuse_screens)
    app.router.add_post("/fake/run", run)
    app.router.add_get("/fake/store", store)
    app.router.add_get("/fake/input/{take}", came_in)
    app.router.add_get("/fake/process", process)
    app.on_cleanup.append(reset)
    return app


def main() -> None:
    """Serve on 127.0.0.1 until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    port = parser.parse_args().port
    with tempfile.TemporaryDirectory() as folder:
        web.run_app(player_server(Path(folder)), host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
