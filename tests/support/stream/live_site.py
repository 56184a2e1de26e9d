"""A server over live numbered frames, and ffmpeg as its viewer."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from aiohttp import web

from longtake.stream.live.routes import live_routes, unusable_reason
from longtake.stream.live.sources import LiveSources
from longtake.tests.support.numbered_frames import number_in
from longtake.tests.support.stream.live_shot import HEIGHT, WIDTH, LiveShot

FPS = 50.0
BROADCAST = "longtake live"  # the name of its thread
FFMPEG = shutil.which("ffmpeg")
HAS_SRT = FFMPEG is not None and b" srt" in subprocess.run(
    [FFMPEG, "-hide_banner", "-protocols"], capture_output=True, check=True
).stdout  # fmt: skip
needs_srt = pytest.mark.skipif(not HAS_SRT, reason="needs the program ffmpeg, with SRT")
MP4 = pytest.param(
    "mp4",
    marks=pytest.mark.skipif(
        unusable_reason("mp4", av.__version__) is not None, reason="needs PyAV 17 or newer"
    ),
)
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs the program ffmpeg")


class Site:
    """A server over a run that makes pictures faster than they are shown."""

    def __init__(self, shot: LiveShot, sources: LiveSources, port: int) -> None:
        self.shot, self.sources = shot, sources
        self.address = f"http://127.0.0.1:{port}/longtake/live/{shot.token}/live"

    @property
    def broadcasts(self) -> int:
        """The number of broadcasts that run."""
        return sum(thread.name == BROADCAST for thread in threading.enumerate())

    async def ended(self) -> None:
        """Wait until no broadcast runs."""
        while self.broadcasts:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """A server with one run of 400 frames in chunks of 100."""
    shot = LiveShot(folder, FPS)
    sources, app = LiveSources(shot.takes), web.Application()
    for route in live_routes(sources):
        assert isinstance(route, web.RouteDef)
        route.register(app.router)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        shot.add(100)
        yield Site(shot, sources, runner.addresses[0][1])
    finally:
        sources.close()
        shot.takes.reset()
        await runner.cleanup()


def served(folder: Path, test: Callable[[Site], Awaitable[None]]) -> None:
    """Run a test against a server, for two minutes at most."""

    async def run() -> None:
        async with site(folder) as opened:
            await asyncio.wait_for(test(opened), 120)

    asyncio.run(run())


async def ffmpeg_numbers(address: str, count: int, *options: str) -> list[int]:
    """The numbers of the first frames that ffmpeg reads from an address."""
    assert FFMPEG
    process = await asyncio.create_subprocess_exec(
        FFMPEG, "-nostdin", "-v", "error", *options, "-i", address, "-frames:v", str(count),
        "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    pixels, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    pictures = np.frombuffer(pixels, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)
    return [number_in(picture) for picture in pictures]


def once_in_order(numbers: list[int]) -> bool:
    """Whether each picture is there once, but for the first and the last one, which are held."""
    shown = numbers[numbers.count(numbers[0]) - 1 :]
    last = shown.index(shown[-1])
    return shown[:last] == [*range(shown[0], shown[-1])]
