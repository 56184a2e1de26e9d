"""A live address is passed on to receivers that were not written here."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import av
import pytest

from longtake.errors import BadInput
from longtake.stream.live import relay as relaying
from longtake.stream.live.relay import Relay
from longtake.stream.live.sender import SENDING
from longtake.stream.live.target import Target
from longtake.tests.support.server_process import free_port
from longtake.tests.support.stream.live_servers import ffmpeg, wait_until
from longtake.tests.support.stream.live_site import (
    Site,
    ffmpeg_numbers,
    needs_ffmpeg,
    needs_srt,
    once_in_order,
    served,
)
from longtake.tests.support.stream.media_servers import needs_openssl, tls_front


@needs_ffmpeg
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("rtmp://127.0.0.1:{port}/live/key", ("-listen", "1", "-f", "flv")),
        ("udp://127.0.0.1:{port}", ("-timeout", "100000000", "-analyzeduration", "400000")),
    ],
)
def test_ffmpeg_receives_every_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr("longtake.stream.live.relay.RETRY_S", 0.2)
    monkeypatch.setattr("longtake.stream.live.relay.CLOSING_S", 600.0)
    address = target.format(port=free_port())
    served(tmp_path, partial(arrives, target=address, listens=address, options=options))


async def arrives(site: Site, target: str, listens: str, options: tuple[str, ...]) -> None:
    """What is sent to `target` reaches an ffmpeg that listens, each picture once."""
    site.shot.add(100)
    site.shot.add(100)
    said: list[str] = []
    relay = Relay(f"{site.address}.mp4", target, said.append)
    receiver = asyncio.create_task(ffmpeg_numbers(listens, 60, *options))
    thread = threading.Thread(target=relay.run)
    thread.start()
    numbers = await receiver
    relay.stop()
    await asyncio.to_thread(thread.join, 60)
    assert not thread.is_alive()  # the sender ended by itself, long before it would be killed
    assert len(numbers) == 60 and once_in_order(numbers)
    word = SENDING if target.startswith("udp") else "Connected."
    assert word in said and not any(target in line for line in said)


@needs_ffmpeg
@needs_openssl
def test_ffmpeg_receives_every_picture_through_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RTMPS: FFmpeg does not check the certificate, which nobody has signed."""
    monkeypatch.setattr("longtake.stream.live.relay.RETRY_S", 0.2)
    port, behind = free_port(), free_port()
    target, listens = f"rtmps://127.0.0.1:{port}/live/key", f"rtmp://127.0.0.1:{behind}/live/key"

    async def test(site: Site) -> None:
        async with tls_front(port, behind, tmp_path):
            await arrives(site, target, listens, ("-listen", "1", "-f", "flv"))

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
        with ffmpeg("-i", f"{site.address}.mp4", *copy, f"{address}?connect_timeout=60000"):
            numbers = await receiver
        assert len(numbers) == 60 and once_in_order(numbers)

    served(tmp_path, test)


LIVE = "http://127.0.0.1:1/live.ts"


@pytest.mark.parametrize(("source", "target", "reason"), [
    (LIVE, "file:///SECRET", "begins with file://; give one with rtmp, rtmps, srt, udp"),
    (LIVE, "SECRET", "begins with nothing://; give one with rtmp"),
    (LIVE, "srt://[::1/SECRET", "is no URL; give one with rtmp, rtmps, srt, udp"),
    (LIVE, "rtmp://127.0.0.1:99999/live/SECRET", "is no URL; give one with"),
    (LIVE, "rtmp:/127.0.0.1/live/SECRET", "names no host; give one such as rtmp://SERVER"),
    (LIVE, "udp://127.0.0.1?SECRET", "names no port; give one such as udp://SERVER:5000"),
    (LIVE, "rtmps://SECRET@127.0.0.1/", "names no stream .* such as rtmps://SERVER/APP/KEY"),
    ("rtmp://127.0.0.1/live/SECRET", LIVE, "The target comes second"),
    ("ftp://SECRET@127.0.0.1/live.ts", "udp://127.0.0.1:9", "no live address"),
    ("http://[::1/SECRET", "udp://127.0.0.1:9", "no live address"),
    ("http://SECRET@127.0.0.1:1/x", "udp://127.0.0.1:9", "ends with live.mp4 or live.ts"),
    ("http://127.0.0.1:1/live.mjpeg", "udp://127.0.0.1:9", "live.mjpeg cannot be passed on"),
])  # fmt: skip
def test_what_cannot_be_passed_on_is_named_without_a_key(
    source: str, target: str, reason: str
) -> None:
    with pytest.raises(BadInput, match=reason) as refusal:
        Relay(source, target, print)
    assert "SECRET" not in str(refusal.value)


def test_an_address_is_taken_as_people_copy_it() -> None:
    """FFmpeg knows protocols in small letters only, and no blanks before them."""
    assert Target.parse(" RTMP://127.0.0.1/Live/Key\n").url == "rtmp://127.0.0.1/Live/Key"
    assert "Key" not in repr(Target.parse("rtmp://127.0.0.1/Live/Key"))


def test_a_protocol_that_this_build_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV's wheels have no SRT; where a build has it, another protocol stands for it."""
    monkeypatch.setattr("longtake.stream.live.target.CONTAINERS", {"zzz": "mpegts"})

    async def test(site: Site) -> None:
        relay = Relay(f"{site.address}.ts", "zzz://127.0.0.1:9", lambda _: None)
        try:
            with pytest.raises(BadInput, match=f"PyAV {av.__version__} cannot send zzz"):
                await asyncio.to_thread(relay.run)
        finally:
            relay.stop()  # else a thread that tries again would hang the test's end

    served(tmp_path, test)


def test_a_side_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.stream.live.relay.RETRY_S", 0.0)
    monkeypatch.setattr("longtake.stream.live.outage.FIRST_PAUSE_S", 0.0)
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            relay.stop()

    relay = Relay(f"http://127.0.0.1:{free_port()}/live.ts", "udp://127.0.0.1:9", tell)
    relay.run()
    assert said == [
        "The source failed (Connection refused). Trying again.",
        "The source failed (Connection refused). 2 tries in 0 min. Trying again.",
    ]


def test_a_connection_that_has_lasted_makes_a_failure_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.stream.live.relay.RETRY_S", 0.0)
    monkeypatch.setattr("longtake.stream.live.outage.STEADY_S", 0.0)
    failed = (relaying.FAILED, "The target failed (x).")
    connected = (relaying.CONNECTED, "Connected.")
    senders = [[failed], [failed], [connected, (relaying.ALIVE, ""), failed]] * 2

    @contextmanager
    def sender(_: object) -> Iterator[Connection]:
        ours, theirs = multiprocessing.Pipe()
        for word in senders.pop(0):
            theirs.send(word)
        if not senders:
            relay.stop()
        yield ours

    said: list[str] = []
    monkeypatch.setattr(relaying, "_sender", sender)
    relay = Relay(LIVE, "rtmp://127.0.0.1/a/b", said.append)
    relay.run()
    failure = "The target failed (x). Trying again."
    assert said == [failure, "Connected.", failure]


def test_a_target_that_refuses_and_one_that_nobody_knows_are_told_apart(tmp_path: Path) -> None:
    """FFmpeg calls both an input/output error, or the end of a file."""

    async def test(site: Site) -> None:
        site.shot.add(100)
        with refusing_server() as address:
            refused = await asyncio.to_thread(first_word, f"{site.address}.ts", address)
        unknown = await asyncio.to_thread(first_word, f"{site.address}.ts", "rtmp://x.invalid/a/b")
        assert "refused the stream; check the application and the key" in refused
        assert "the host x.invalid is unknown" in unknown

    served(tmp_path, test)


def first_word(source: str, target: str) -> str:
    """What a relay tells first."""
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        relay.stop()

    relay = Relay(source, target, tell)
    relay.run()
    return said[0]


@contextmanager
def refusing_server() -> Iterator[str]:
    """A server that hangs up on everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(1537, socket.MSG_WAITALL)  # RTMP's first words
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield f"rtmp://127.0.0.1:{server.getsockname()[1]}/live/key"
        thread.join()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that can be blocked")
def test_an_interrupt_while_the_sender_starts_is_the_relays_alone() -> None:
    """A terminal's Ctrl-C reaches both, and the sender would print a traceback."""
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        relay.stop()

    relay = Relay(f"http://127.0.0.1:{free_port()}/live.ts", "udp://127.0.0.1:9", tell)
    thread = threading.Thread(target=relay.run)
    thread.start()
    wait_until(multiprocessing.active_children)
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)
    thread.join(60)
    assert said == ["The source failed (Connection refused). Trying again."]


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes a connection and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"rtmp://127.0.0.1:{server.getsockname()[1]}/live/key"


def test_a_target_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From when the source is there: until then, a process starts."""
    monkeypatch.setattr(relaying, "PATIENCE_S", 600.0)
    hear = relaying._word_of

    def hear_and_hurry(child: Connection) -> tuple[str, str]:
        word = hear(child)
        if word[0] == relaying.OPENED:
            monkeypatch.setattr(relaying, "PATIENCE_S", 1.0)
        return word

    monkeypatch.setattr(relaying, "_word_of", hear_and_hurry)

    async def test(site: Site) -> None:
        site.shot.add(100)
        said: list[str] = []

        def tell(text: str) -> None:
            said.append(text)
            relay.stop()

        with silent_server() as target:
            relay = Relay(f"{site.address}.ts", target, tell)
            await asyncio.to_thread(relay.run)
        assert said == ["The target failed (no answer for 1 s). Trying again."]

    served(tmp_path, test)


def test_while_a_target_says_nothing_the_relay_can_be_stopped(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.shot.add(100)
        with silent_server() as target:
            relay = Relay(f"{site.address}.ts", target, lambda _: None)
            thread = threading.Thread(target=relay.run)
            thread.start()
            await asyncio.sleep(3)
            relay.stop()
            await asyncio.to_thread(thread.join, 60)
            assert not thread.is_alive() and not multiprocessing.active_children()

    served(tmp_path, test)
