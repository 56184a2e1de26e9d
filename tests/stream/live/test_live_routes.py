"""The live addresses over HTTP, read by programs that were not written here."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from aiohttp import ClientSession, web

from longtake.headless.player.app import Sockets, application
from longtake.stream.live.routes import live_routes
from longtake.stream.live.sources import MAX_VIEWERS, LiveSources
from longtake.tests.support.numbered_frames import number_in
from longtake.tests.support.stream.live_shot import HEIGHT, WIDTH, LiveShot

FPS = 50.0
FFMPEG = shutil.which("ffmpeg")


class Site:
    """A server over a run that makes pictures faster than they are shown."""

    def __init__(self, shot: LiveShot, sources: LiveSources, port: int) -> None:
        self.shot, self.sources = shot, sources
        self.address = f"http://127.0.0.1:{port}/longtake/live/{shot.token}/live"

    async def ended(self) -> None:
        """Wait until no broadcast runs."""
        while self.sources.thread_count:
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
    """Run a test against a server, for a minute at most."""

    async def run() -> None:
        async with site(folder) as opened:
            await asyncio.wait_for(test(opened), 60)

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
    """Whether each picture is there once, after black ones (0) and before the last one held."""
    shown = numbers[next(place for place, number in enumerate(numbers) if number) :]
    last = shown.index(shown[-1])
    return shown[:last] == [*range(shown[0], shown[-1])]


@pytest.mark.skipif(FFMPEG is None, reason="needs the program ffmpeg")
@pytest.mark.parametrize("ending", ["ts", "mp4", "mjpeg"])
def test_ffmpeg_joins_leaves_and_returns(tmp_path: Path, ending: str) -> None:
    async def test(site: Site) -> None:
        options = {"mjpeg": ("-f", "mpjpeg"), "ts": ("-analyzeduration", "400000")}.get(ending, ())
        for _ in range(2):
            site.shot.add(100)
            site.shot.add(100)
            numbers = await ffmpeg_numbers(f"{site.address}.{ending}", 60, *options)
            assert len(numbers) == 60 and once_in_order(numbers)
            await site.ended()

    served(tmp_path, test)


@pytest.mark.skipif(FFMPEG is None, reason="needs the program ffmpeg")
def test_two_programs_watch_at_once_and_one_joins_late(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for _ in range(3):
            site.shot.add(100)
        first = asyncio.create_task(ffmpeg_numbers(f"{site.address}.ts", 110))
        while not site.sources.thread_count:
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.5)  # until the first program is past the jitter buffer
        late = await ffmpeg_numbers(f"{site.address}.mp4", 40)
        early = await first
        assert len(early) == 110 and early[0] == 0 and once_in_order(early)
        assert len(late) == 40 and late[0] > 300 and once_in_order(late)

    served(tmp_path, test)


@pytest.mark.parametrize("ending", ["ts", "mp4"])
def test_pyav_reads_pictures_and_silence_on_one_clock(tmp_path: Path, ending: str) -> None:
    async def test(site: Site) -> None:
        for _ in range(2):
            site.shot.add(100)
        times = await asyncio.to_thread(read_times, f"{site.address}.{ending}", 100)
        pictures, sounds = times["video"], times["audio"]
        steps = np.diff(pictures)
        assert np.allclose(steps, 1 / FPS, atol=1e-3), "a steady clock, whatever the chunks"
        assert abs(sounds[0] - pictures[0]) < 0.1 and abs(sounds[-1] - pictures[-1]) < 0.3

    served(tmp_path, test)


def read_times(address: str, count: int) -> dict[str, list[float]]:
    """The times of the first `count` pictures at an address, and of the sound among them."""
    times: dict[str, list[float]] = {"video": [], "audio": []}
    with av.open(address, timeout=30) as file:
        for packet in file.demux():
            for frame in packet.decode():
                times[packet.stream.type].append(frame.time)
                if isinstance(frame, av.AudioFrame):
                    assert not frame.to_ndarray().any(), "silence"
            if len(times["video"]) >= count:
                return times
    raise AssertionError("the broadcast ended")


def test_a_viewer_who_reads_nothing_is_let_go_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.stream.live.routes.STALL_S", 0.3)

    async def test(site: Site) -> None:
        site.shot.takes.reset()
        site.shot.size = (512, 512)  # enough bytes to fill the buffers of the system
        site.shot.run()
        site.shot.grain = 20.0
        address = urlsplit(site.address)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1)
        writer.write(f"GET {address.path}.mjpeg HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while not site.sources.thread_count:
            await asyncio.sleep(0.02)
        for _ in range(10_000):
            await asyncio.to_thread(site.shot.add, 10)
            if not site.sources.thread_count:
                break
        writer.close()

    served(tmp_path, test)


def test_unknown_addresses_heads_and_too_many_viewers(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with ClientSession() as page:
            async with page.head(f"{site.address}.mp4") as answer:
                assert answer.status == 200 and answer.content_type == "video/mp4"
            assert not site.sources.thread_count
            unknown = site.address.replace(site.shot.token, site.shot.take.token)
            async with page.get(f"{unknown}.ts") as answer:
                assert answer.status == 404
                assert "run the workflow" in (await answer.json())["error"]
            async with page.get(f"{site.address}.avi") as answer:
                assert answer.status == 404
            watching = [await page.get(f"{site.address}.mjpeg") for _ in range(MAX_VIEWERS)]
            assert {answer.status for answer in watching} == {200}
            async with page.get(f"{site.address}.mjpeg") as answer:
                assert answer.status == 503
            for answer in watching:
                answer.close()
        await site.ended()

    served(tmp_path, test)


def test_the_end_of_the_server_ends_all_viewers_and_threads(tmp_path: Path) -> None:
    async def test() -> None:
        shot = LiveShot(tmp_path, FPS)
        shot.add(20)
        runner = web.AppRunner(application(shot.takes, Sockets()))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        for prefix in ("", "/api"):
            address = f"http://127.0.0.1:{port}{prefix}/longtake/live/{shot.token}/live.ts"
            async with ClientSession() as page, page.get(address) as answer:
                assert answer.status == 200 and len(await answer.content.readexactly(188)) == 188
        async with ClientSession() as page, page.get(address) as answer:
            await asyncio.wait_for(runner.cleanup(), 10)
            await answer.read()  # comes to its end
        names = {thread.name for thread in threading.enumerate()}
        assert "longtake live" not in names
        shot.takes.reset()

    asyncio.run(test())
