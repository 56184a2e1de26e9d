"""The plain player page over numbered frames instead of a model's, for tests in a browser:

    python -m longtake.tests.player_server --port 8765      (in the folder above the checkout)

POST /fake/run {"client_id": ..., fields of `FakeRun`} starts a rollout and answers {"take": token}.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from longtake.headless.player_page import Sockets, application
from longtake.stream.take import Take
from longtake.stream.take_record import Ending, Origin, Shot, TakeStats
from longtake.stream.takes import Limits, Takes
from longtake.tests.numbered_frames import numbered_frames

LIMITS = Limits()


@dataclass(frozen=True)
class FakeRun:
    """A rollout to be faked; `end` is how it ends if nobody stops it."""

    client_id: str
    node_id: str = "7"
    prompt_id: str = "fake"
    frames: int = 48
    chunk_frames: int = 12
    fps: float = 16.0
    width: int = 192
    height: int = 128
    first_s: float = 0.2  # until the first chunk
    chunk_s: float = 0.2  # from then on, for each
    end: str = "done"
    endless: bool = False
    prompts: tuple[tuple[int, str], ...] = ((0, "a red ball"),)  # (from frame, text)


@dataclass(frozen=True)
class FakeEdit:
    """A live edit."""

    status: str = "queued"
    text: str | None = None
    guidance: float | None = None
    first_frame: int | None = None
    start_s: float | None = None
    line: str | None = None
    error: str | None = None


@dataclass
class FakeControls:
    """Obeyed by `_produce` at the next chunk."""

    state: str = "running"
    edits: tuple[FakeEdit, ...] = ()
    _listeners: list[Callable[[], None]] = field(default_factory=list)

    def pause(self) -> None:
        self._become("paused")

    def resume(self) -> None:
        self._become("running")

    def stop(self) -> None:
        self._become("stopping")

    def set_prompt(self, text: str) -> None:
        self.edits += (FakeEdit(text=text),)
        self.changed()

    def set_guidance(self, strength: float) -> None:
        self.edits += (FakeEdit(guidance=strength),)
        self.changed()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def apply(self, first_frame: int, fps: float) -> str | None:
        """Apply what is queued from this frame on; gives the new prompt, if there is one."""
        queued = [edit for edit in self.edits if edit.status == "queued"]
        if not queued:
            return None
        start_s = first_frame / fps
        self.edits = tuple(
            replace(
                edit,
                status="applied",
                first_frame=first_frame,
                start_s=start_s,
                line=f"{start_s:.3f}: {edit.text}" if edit.text else None,
            )
            if edit in queued
            else edit
            for edit in self.edits
        )
        self.changed()
        return next((edit.text for edit in reversed(queued) if edit.text), None)

    def changed(self) -> None:
        for listener in list(self._listeners):
            listener()

    def _become(self, state: str) -> None:
        self.state = state
        self.changed()


def start(takes: Takes, sockets: Sockets, run: FakeRun) -> Take:
    """Begin a fake rollout on a thread of its own."""
    shot = Shot(run.fps, run.width, run.height, None if run.endless else run.frames)
    origin = Origin(run.node_id, run.node_id.split(".")[0], run.prompt_id, run.client_id)
    controls = FakeControls()
    take = takes.create(shot, origin, sockets.emitter(run.client_id), controls)
    threading.Thread(target=_produce, args=(take, controls, run), daemon=True).start()
    return take


def _produce(take: Take, controls: FakeControls, run: FakeRun) -> None:
    began, paused_s = time.monotonic(), 0.0
    text = ""
    for first in range(0, run.frames, run.chunk_frames):
        time.sleep(run.chunk_s if first else run.first_s)
        while controls.state == "paused":
            time.sleep(0.02)
            paused_s += 0.02
        if controls.state == "stopping":
            break
        text = next((new for start, new in reversed(run.prompts) if start == first), text)
        text = controls.apply(first, run.fps) or text
        count = min(run.chunk_frames, run.frames - first)
        rate = (first + count) / max(time.monotonic() - began, 1e-3)
        stats = TakeStats(
            first_frame_s=run.first_s, frames_per_s=rate, eta_s=(run.frames - first - count) / rate,
            chunk_p95_s=run.chunk_s, kv_bytes=7 << 20, kv_bytes_planned=8 << 20, paused_s=paused_s,
        )  # fmt: skip
        take.show(numbered_frames(first, count, run.width, run.height), first, text, stats)
    take.finish(_ending(controls, run))


def _ending(controls: FakeControls, run: FakeRun) -> Ending:
    if controls.state == "stopping":
        return Ending("stopped")
    if run.end == "interrupted":
        return Ending("interrupted", None, run.frames / run.fps)
    return (
        Ending("error", "The model produced NaN in layer 3.")
        if run.end == "error"
        else Ending("done")
    )


def player_server(folder: Path, limits: Limits = LIMITS) -> web.Application:
    """The application with /fake/run; takes are reset when it ends."""
    takes, sockets = Takes(lambda: folder, limits), Sockets()
    app = application(takes, sockets)

    async def run(request: web.Request) -> web.Response:
        fields: dict[str, Any] = json.loads(await request.text())
        fields["prompts"] = tuple(map(tuple, fields.get("prompts", FakeRun.prompts)))
        return web.json_response({"take": start(takes, sockets, FakeRun(**fields)).token})

    async def reset(_: web.Application) -> None:
        takes.reset()

    app.router.add_post("/fake/run", run)
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
