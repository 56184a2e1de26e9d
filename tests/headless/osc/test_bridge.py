"""OSC messages from python-osc's own client become requests of the player's control route."""

from __future__ import annotations

import asyncio
import importlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from longtake.errors import BadInput, LongtakeError
from longtake.headless.osc.addresses import ADDRESSES, HELP, Unreadable, read_request
from longtake.headless.osc.bridge import Bridge, Mailbox
from longtake.headless.osc.command import osc
from longtake.headless.osc.remote import NO_RUN, RemoteRun
from longtake.stream.drive.drive import Steer
from longtake.tests.support.server_process import free_port
from longtake.tests.support.stream.live_servers import wait_until
from longtake.tests.support.stream.take_site import Site, served

udp_client = pytest.importorskip("pythonosc.udp_client", reason="needs python-osc")


class Log:
    """A target that records requests, and what a bridge said."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.said: list[str] = []

    def send(self, request: dict[str, Any]) -> None:
        self.requests.append(request)

    def repeat(self) -> None:
        """Hold nothing."""


@contextmanager
def listening(target: Any, said: list[str]) -> Iterator[Bridge]:
    """A bridge that runs until the block ends, and then has passed everything on."""
    bridge = Bridge(("127.0.0.1", 0), target, said.append)
    thread = threading.Thread(target=bridge.run)
    thread.start()
    try:
        yield bridge
    finally:
        bridge.close()
        thread.join()


def say(bridge: Bridge, name: str, value: Any) -> None:
    """Send a message as python-osc's users do."""
    with udp_client.SimpleUDPClient("127.0.0.1", bridge.port) as client:
        client.send_message(f"/longtake/{name}", value)


def test_every_address_becomes_the_request_that_it_documents() -> None:
    log = Log()
    with listening(log, log.said) as bridge:
        for count, (name, value) in enumerate([
            ("prompt", "a blue ball"), ("prompt", ["a ball", 2]), ("guidance", 4.5),
            ("lora", -1), ("pause", 1), ("pause", 0), ("pause", []), ("resume", True), ("stop", []),
            ("camera", [0, 0, 0.5, -1.0, 0.0]), ("fork/seed", 2**53 - 1), ("fork/seed", 7.0),
            ("strength", 0.25), ("level", 1),
        ]):  # fmt: skip
            say(bridge, name, value)
            wait_until(lambda count=count: len(log.requests) > count)
    assert log.requests == [
        {"op": "prompt", "text": "a blue ball"}, {"op": "prompt", "text": "a ball", "over": 2.0},
        {"op": "guidance", "guidance": 4.5},
        {"op": "lora", "lora": -1.0}, {"op": "pause"}, {"op": "resume"}, {"op": "pause"},
        {"op": "resume"}, {"op": "stop"}, {"op": "camera", "sticks": [0.0, 0.0, 0.5, -1.0, 0.0]},
        {"op": "fork_seed", "fork_seed": 2**53 - 1}, {"op": "fork_seed", "fork_seed": 7},
        {"op": "strength", "strength": 0.25}, {"op": "level", "level": 1.0},
    ]  # fmt: skip
    assert {address.removeprefix("/longtake/") for address in ADDRESSES} == {
        "prompt", "guidance", "strength", "level", "lora", "fork/seed", "camera", "pause", "resume",
        "stop",
    }  # fmt: skip


def test_bytes_written_by_hand_as_the_standard_says_are_read() -> None:
    """Open Sound Control 1.0: padded strings, type tags, big-endian numbers; a bundle of two."""

    def message(address: bytes, tags: bytes, content: bytes) -> bytes:
        return _padded(address) + _padded(tags) + content

    guidance = message(b"/longtake/guidance", b",f", struct.pack(">f", 2.5))
    prompt = message(b"/longtake/prompt", b",s", _padded("ein Bär".encode()))
    parts = b"".join(struct.pack(">i", len(part)) + part for part in (guidance, prompt))
    bundle = _padded(b"#bundle") + struct.pack(">Q", 1) + parts
    log = Log()
    with listening(log, log.said) as bridge, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(bundle, ("127.0.0.1", bridge.port))
        wait_until(lambda: len(log.requests) == 2)
    assert log.requests == [
        {"op": "guidance", "guidance": 2.5}, {"op": "prompt", "text": "ein Bär"},
    ]  # fmt: skip


def _padded(text: bytes) -> bytes:
    return text + b"\0" * (4 - len(text) % 4)


def test_help_lists_every_address_to_the_sender() -> None:
    with listening(Log(), []) as bridge, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.settimeout(120)
        sender.sendto(_padded(HELP.encode()) + _padded(b","), ("127.0.0.1", bridge.port))
        packets = importlib.import_module("pythonosc.osc_packet")
        answers = [packets.OscPacket(sender.recv(4096)).messages[0].message for _ in ADDRESSES]
    assert [answer.params[0] for answer in answers] == list(ADDRESSES)
    assert all(answer.address == HELP for answer in answers)


def test_the_commands_help_has_every_address_of_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/osc.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `/longtake/")]
    shown = CliRunner().invoke(osc, ["--help"]).output
    assert HELP in rows and len(rows) == len(ADDRESSES) + 1
    assert [row for row in rows if f"{row} (" not in shown] == []


@pytest.mark.parametrize(("host", "said"), [
    ("", "at an empty address; give one such as 127.0.0.1"),
    ("ä..", "choose another address, such as"), ("no host", "choose another address, such as"),
])  # fmt: skip
def test_an_address_where_nothing_can_listen_has_a_sentence(host: str, said: str) -> None:
    """An empty one opened the port to the whole network."""
    with pytest.raises(BadInput, match=said):
        Bridge((host, 0), Log(), print)


class SocketOfNobody:
    """A socket whose answers reach nobody, which Windows tells at the next read."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner, self._told = inner, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sendto(self, *_: Any) -> None:
        raise OSError(101, "Network is unreachable")

    def recvfrom(self, count: int) -> Any:
        if not self._told:
            self._told = True
            raise ConnectionResetError(10054, "An existing connection was forcibly closed")
        return self._inner.recvfrom(count)


def test_help_that_reaches_nobody_does_not_end_the_bridge() -> None:
    log = Log()
    bridge = Bridge(("127.0.0.1", 0), log, log.said.append)
    bridge._socket = SocketOfNobody(bridge._socket)  # type: ignore[assignment]
    thread = threading.Thread(target=bridge.run)
    thread.start()
    say(bridge, "help", [])
    say(bridge, "pause", 1)
    wait_until(lambda: bool(log.requests) or not thread.is_alive())
    bridge.close()
    thread.join()
    assert log.requests
    assert log.said[0] == "Help cannot be sent to 127.0.0.1 (Network is unreachable)."


def bundles_within_bundles(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = _padded(b"#bundle") + struct.pack(">Qi", 1, len(content)) + content
    return content


@pytest.mark.parametrize(
    "datagram",
    [
        b"", b"\0", b"noise", b"/longtake/prompt", b"\xff" * 64, b"#bundle\0" + b"\xff" * 12,
        b"/a\0\0,s\0\0\xc3\x28\0\0", bundles_within_bundles(2000),
    ],
)  # fmt: skip
def test_what_is_not_osc_is_said_and_does_not_end_the_bridge(datagram: bytes) -> None:
    log = Log()
    with listening(log, log.said) as bridge, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram, ("127.0.0.1", bridge.port))
        wait_until(lambda: bool(log.said))
        say(bridge, "stop", [])
        wait_until(lambda: bool(log.requests))
    assert log.requests == [{"op": "stop"}]


@pytest.mark.parametrize("answer", [
    b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{",
    b"HTTP/1.1 500 No\r\nContent-Length: 90\r\n\r\n{",
])  # fmt: skip
def test_a_server_that_breaks_off_its_answer_does_not_end_the_bridge(answer: bytes) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = RemoteRun(f"http://127.0.0.1:{server.getsockname()[1]}/#key")
        with listening(target, said) as bridge:
            for count in (1, 2):
                say(bridge, "pause", 1)
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                wait_until(lambda count=count: len(said) >= count)
    assert len(said) == 2
    assert all("does not answer (" in line or "status 500" in line for line in said), said
    assert "\n" not in "".join(said)


class Broken(Log):
    """A target with a fault of its own."""

    def send(self, request: dict[str, Any]) -> None:
        raise KeyError("takes")


def test_a_bridge_that_can_send_nothing_more_ends_and_says_why() -> None:
    bridge = Bridge(("127.0.0.1", 0), Broken(), [].append)
    say(bridge, "pause", 1)
    try:
        with pytest.raises(KeyError, match="takes"):
            bridge.run()
    finally:
        bridge.close()


@pytest.mark.parametrize(
    ("address", "arguments", "words"),
    [
        ("/longtake/prompt", [3], "takes one text"),
        ("/longtake/prompt", ["a ball", "2"], "takes one text, and seconds"),
        ("/longtake/prompt", ["a ball", 2, 3], "takes one text, and seconds"),
        ("/longtake/prompt", [], "takes one text"),
        ("/longtake/guidance", ["much"], "takes one number"),
        ("/longtake/guidance", [float("nan")], "takes one number"),
        ("/longtake/lora", [True], "takes one number"),
        ("/longtake/strength", [], "takes one number"),
        ("/longtake/level", [0.5, 0.6], "takes one number"),
        ("/longtake/fork/seed", [-1], "takes one whole number from 0"),
        ("/longtake/fork/seed", [0.5], "takes one whole number"),
        ("/longtake/fork/seed", [2**53], "takes one whole number"),
        ("/longtake/fork/seed", [], "takes one whole number"),
        ("/longtake/camera", [1, 0, 0, 0], "takes 5 numbers"),
        ("/longtake/camera", [0, 0, 0, 0, 1.5], "takes 5 numbers"),
        ("/longtake/sampler", [1], "/longtake/help"),
    ],
)
def test_a_wrong_message_is_refused_in_one_sentence(
    address: str, arguments: list[object], words: str
) -> None:
    with pytest.raises(Unreadable, match=words):
        read_request(address, arguments)
    assert read_request("/longtake/stop", [0]) == {}, "the release of a button"


def test_while_a_request_is_under_way_the_newest_of_each_kind_waits() -> None:
    mailbox = Mailbox()
    for request in (
        {"op": "guidance", "guidance": 1.0}, {"op": "pause"}, {"op": "guidance", "guidance": 2.0},
        {"op": "prompt", "text": "a"}, {"op": "resume"},
    ):  # fmt: skip
        mailbox.put(request)
    mailbox.close()
    assert mailbox.replaced == 2
    assert list(iter(mailbox.take, None)) == [
        {"op": "guidance", "guidance": 2.0}, {"op": "prompt", "text": "a"}, {"op": "resume"},
    ]  # fmt: skip


def test_messages_reach_the_run_and_its_edits(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        address = f"{str(site.page.make_url('/')).rstrip('/')}/#page"
        said: list[str] = []

        def perform() -> None:
            with listening(RemoteRun(address), said) as bridge:
                for number, (name, value) in enumerate(
                    [("fork/seed", 2**40), ("prompt", "a blue ball"), ("guidance", 3.0),
                     ("strength", 0.5), ("level", 0.25), ("lora", 2.0), ("pause", 1),
                     ("guidance", 99.0)]
                ):  # fmt: skip
                    say(bridge, name, value)
                    wait_until(lambda number=number: len(said) > number)

        await asyncio.to_thread(perform)
        [edit] = site.controls.edits
        assert (edit.text, edit.guidance, site.controls.state) == ("a blue ball", 3.0, "paused")
        assert (edit.strength, edit.level, edit.lora) == (0.5, 0.25, 2.0)
        assert "from 0 to 30" in said[-1]
        [take] = site.takes.of_client("page")
        assert take.summary()["fork_seed"] == 2**40

    served(tmp_path, test)


def test_a_camera_that_is_pushed_stays_pushed_until_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.headless.osc.bridge.REPEAT_S", 0.05)

    async def test(site: Site) -> None:
        drive = site.controls.drive
        steers: list[Steer] = []
        monkeypatch.setattr(drive, "steer", lambda steer: steers.append(steer) or "drives")
        said: list[str] = []

        def perform() -> None:
            with listening(
                RemoteRun(f"{str(site.page.make_url('/')).rstrip('/')}/#page"), said
            ) as bridge:
                say(bridge, "camera", [0.0, 0.0, 1.0, 0.0, 0.0])
                wait_until(lambda: len(steers) > 3)
                say(bridge, "camera", [0.0] * 5)
                wait_until(lambda: not any(steers[-1].state.sticks.values))
                time.sleep(0.3)

        await asyncio.to_thread(perform)
        pushes = [steer.state.sticks.values for steer in steers]
        assert set(pushes[:-1]) == {(0.0, 0.0, 1.0, 0.0, 0.0)} and pushes[-1] == (0.0,) * 5
        assert [steer.number for steer in steers] == [*range(1, len(steers) + 1)]
        assert {steer.driver for steer in steers} == {steers[0].driver}

    served(tmp_path, test)


def test_a_run_without_a_camera_says_so(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        run = RemoteRun(f"{str(site.page.make_url('/')).rstrip('/')}/#page")
        with pytest.raises(LongtakeError, match="connect a camera path"):
            await asyncio.to_thread(run.send, {"op": "camera", "sticks": [1.0, 0, 0, 0, 0]})
        await asyncio.to_thread(run.repeat)

    served(tmp_path, test)


def test_without_a_run_or_a_server_one_sentence_says_so(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        page = str(site.page.make_url("/")).rstrip("/")
        with pytest.raises(LongtakeError, match="No run with a preview"):
            await asyncio.to_thread(RemoteRun(f"{page}/#somebody").send, {"op": "stop"})
        run = RemoteRun(f"{page}/#page")
        assert await asyncio.to_thread(run.lack) == ""
        await asyncio.to_thread(run.send, {"op": "stop"})
        site.controls.end(stopped=True)
        site.takes.reset()
        with pytest.raises(LongtakeError) as failure:
            await asyncio.to_thread(run.send, {"op": "pause"})
        assert str(failure.value) == NO_RUN
        nobody = "No run with a preview goes on there yet."
        assert await asyncio.to_thread(run.lack) == nobody
        elsewhere = RemoteRun(f"{page}/elsewhere#page")  # the command goes on with a sentence
        assert await asyncio.to_thread(elsewhere.lack) == "The server refuses: status 404."

    served(tmp_path, test)
    with pytest.raises(LongtakeError, match="does not answer"):
        RemoteRun(f"http://127.0.0.1:{free_port()}/#page").send({"op": "stop"})
    with pytest.raises(BadInput, match="is no address"):
        RemoteRun("here")


def test_a_port_in_use_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(Log(), []) as bridge, pytest.raises(BadInput, match="choose another port"):
        Bridge(("127.0.0.1", bridge.port), Log(), print)
    monkeypatch.setitem(sys.modules, "pythonosc.osc_packet", None)
    with pytest.raises(BadInput, match="-m pip install python-osc"):
        Bridge(("127.0.0.1", 0), Log(), print)


@pytest.mark.parametrize(
    "address", ["http://[::1", "http://127.0.0.1:99999", "http://:8188", "127.0.0.1:8188"]
)
def test_what_is_no_address_is_said_at_once(address: str) -> None:
    with pytest.raises(BadInput, match="is no address; give one such as"):
        RemoteRun(address)
