"""The live addresses over HTTP, read by programs that were not written here."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from aiohttp import ClientSession, web

from longtake.headless.player.app import Sockets, application
from longtake.stream.live import routes
from longtake.stream.live.sources import MAX_VIEWERS
from longtake.tests.support.stream.live_shot import LiveShot
from longtake.tests.support.stream.live_site import (
    FPS,
    MP4,
    Site,
    ffmpeg_numbers,
    needs_ffmpeg,
    once_in_order,
    served,
)


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["ts", MP4, "mjpeg"])
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


@needs_ffmpeg
def test_two_programs_watch_at_once_and_one_joins_late(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for _ in range(3):
            site.shot.add(100)
        first = asyncio.create_task(ffmpeg_numbers(f"{site.address}.ts", 110))
        while not site.broadcasts:
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.5)  # until the first program is past the jitter buffer
        late = await ffmpeg_numbers(f"{site.address}.mp4", 40)
        early = await first
        assert len(early) == 110 and early[0] == 300 and once_in_order(early)
        assert len(late) == 40 and late[0] > early[0] and once_in_order(late)

    served(tmp_path, test)


@pytest.mark.parametrize("ending", ["ts", MP4])
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


@pytest.mark.parametrize(("pyav", "status"), [("16.1.0", 501), ("17.0.0", 200)])
def test_an_mp4_that_no_program_could_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pyav: str, status: int
) -> None:
    """PyAV 16 wrote the header of an encoder with other settings into it."""
    monkeypatch.setattr(routes.av, "__version__", pyav)

    async def test(site: Site) -> None:
        async with ClientSession() as client, client.get(f"{site.address}.mp4") as answer:
            assert answer.status == status
            if status == 501:
                reason = (await answer.json())["error"]
                assert reason.startswith(f"live.mp4 needs PyAV 17.0 or newer, and this is {pyav}; ")
        async with ClientSession() as client, client.get(f"{site.address}.ts") as answer:
            assert answer.status == 200

    served(tmp_path, test)


def read_times(address: str, count: int) -> dict[str, list[float]]:
    """The times of the first `count` pictures at an address, and of the sound among them."""
    times: dict[str, list[float]] = {"video": [], "audio": []}
    with av.open(address, timeout=60) as file:
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
        while not site.broadcasts:
            await asyncio.sleep(0.02)
        for _ in range(10_000):
            await asyncio.to_thread(site.shot.add, 10)
            if not site.broadcasts:
                break
        writer.close()

    served(tmp_path, test)


def test_unknown_addresses_heads_and_too_many_viewers(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with ClientSession() as page:
            async with page.head(f"{site.address}.mp4") as answer:
                assert answer.status == 200 and answer.content_type == "video/mp4"
            assert not site.broadcasts
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
            await asyncio.wait_for(runner.cleanup(), 50)  # aiohttp would wait 60 s
            await answer.read()  # comes to its end
        names = {thread.name for thread in threading.enumerate()}
        assert "longtake live" not in names
        shot.takes.reset()

    asyncio.run(test())
