"""A live address is passed on to receivers that were not written here."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import av
import pytest

from longtake.errors import BadInput
from longtake.stream.live.relay import Relay
from longtake.tests.support.server_process import free_port
from longtake.tests.support.stream.live_servers import ffmpeg
from longtake.tests.support.stream.live_site import (
    Site,
    ffmpeg_numbers,
    needs_ffmpeg,
    needs_srt,
    once_in_order,
    served,
)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("rtmp://127.0.0.1:{port}/live/key", ("-listen", "1", "-f", "flv")),
        ("udp://127.0.0.1:{port}", ("-timeout", "30000000", "-analyzeduration", "400000")),
    ],
)
def test_ffmpeg_receives_every_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr("longtake.stream.live.relay.RETRY_S", 0.2)
    address = target.format(port=free_port())

    async def test(site: Site) -> None:
        site.shot.add(100)
        site.shot.add(100)
        said: list[str] = []
        relay = Relay(f"{site.address}.mp4", address, said.append)
        receiver = asyncio.create_task(ffmpeg_numbers(address, 60, *options))
        thread = threading.Thread(target=relay.run)
        thread.start()
        numbers = await receiver
        relay.stop()
        await asyncio.to_thread(thread.join)
        assert len(numbers) == 60 and once_in_order(numbers)
        assert "Connected." in said and not any(address in line for line in said)

    served(tmp_path, test)


@needs_srt
def test_ffmpeg_passes_the_live_address_on_by_srt(tmp_path: Path) -> None:
    """What `longtake push` says where PyAV has no SRT."""
    address = f"srt://127.0.0.1:{free_port()}"

    async def test(site: Site) -> None:
        site.shot.add(100)
        site.shot.add(100)
        receiver = asyncio.create_task(ffmpeg_numbers(f"{address}?mode=listener", 60))
        copy = ("-c", "copy", "-f", "mpegts")
        with ffmpeg("-i", f"{site.address}.mp4", *copy, address):
            numbers = await receiver
        assert len(numbers) == 60 and once_in_order(numbers)

    served(tmp_path, test)


def test_what_cannot_be_passed_on_is_named() -> None:
    with pytest.raises(BadInput, match="rtmp, rtmps, srt, udp"):
        Relay("http://127.0.0.1:1/live.ts", "file:///tmp/out.ts", print)
    with pytest.raises(BadInput, match="no live address"):
        Relay("/etc/passwd", "udp://127.0.0.1:9", print)


def test_a_protocol_that_this_build_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV's wheels have no SRT; where a build has it, another protocol stands for it."""
    monkeypatch.setattr("longtake.stream.live.relay.CONTAINERS", {"zzz": "mpegts"})

    async def test(site: Site) -> None:
        relay = Relay(f"{site.address}.mp4", "zzz://127.0.0.1:9", lambda _: None)
        with pytest.raises(BadInput, match=f"PyAV {av.__version__} cannot send zzz"):
            await asyncio.to_thread(relay.run)

    served(tmp_path, test)


def test_a_side_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.stream.live.relay.RETRY_S", 0.0)
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            relay.stop()

    relay = Relay(f"http://127.0.0.1:{free_port()}/live.ts", "udp://127.0.0.1:9", tell)
    relay.run()
    assert said == ["The source failed (Connection refused). Trying again."] * 2
