"""What file systems of fsspec differ in: their options, threads, and when they connect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from longtake.stream.store.address import Address
from longtake.stream.store.connection import Connection
from longtake.stream.store.opening import open_store
from longtake.stream.store.remote import RemoteStore
from longtake.stream.store.sharing import Outgoing, RowLease, Sharing
from longtake.stream.store.store import StoreLost

memory = pytest.importorskip("fsspec.implementations.memory")


class OneAtATime(memory.MemoryFileSystem):  # type: ignore[misc, name-defined]
    """Like fsspec's for SSH: takes only options of its server, and one request at a time."""

    protocol = "longtake-single"
    requests = threading.Semaphore(1)

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.partition("://")[2].strip("/") if "://" in path else path

    def cat_file(self, path: str, *options: Any, **named: Any) -> bytes:
        assert self.requests.acquire(blocking=False), "two requests at once"
        try:
            time.sleep(0.01)
            return bytes(super().cat_file(path, *options, **named))
        finally:
            self.requests.release()


class Refusing(OneAtATime):
    """Connects as soon as it is made, and is turned away."""

    protocol = "longtake-refusing"

    def __init__(self) -> None:
        raise PermissionError("Permission denied for user me")


class WithoutListing(OneAtATime):
    """Like S3 without the right to list: what is not there is refused."""

    protocol = "longtake-unlisted"

    def info(self, path: str, **named: Any) -> dict[str, Any]:
        try:
            return dict(super().info(path, **named))
        except FileNotFoundError:
            raise PermissionError("Access Denied") from None

    def cat_file(self, path: str, *options: Any, **named: Any) -> bytes:
        self.info(path)
        return super().cat_file(path, *options, **named)

    def ls(self, path: str, *options: Any, **named: Any) -> list[Any]:
        raise PermissionError("Access Denied")


class WriteOnly(WithoutListing):
    """Takes all, and lets nothing be read."""

    protocol = "longtake-write-only"

    def cat_file(self, path: str, *options: Any, **named: Any) -> bytes:
        raise PermissionError("Access Denied")


class LoginPage(OneAtATime):
    """What a network's login page makes of a store: success for everything, and always the page."""

    protocol = "longtake-login"

    def pipe_file(self, path: str, value: bytes, *options: Any, **named: Any) -> None:
        super().pipe_file(path, b"<html>Please log in.</html>", *options, **named)


@pytest.fixture
def address() -> Callable[[type], str]:
    """Return a function that registers a file system and gives an address there."""
    fsspec = pytest.importorskip("fsspec")

    def register(files: Any) -> str:
        fsspec.register_implementation(files.protocol, files, clobber=True)
        return f"{files.protocol}://{files.protocol}"

    return register


def test_a_file_system_that_takes_no_option_of_ours_opens(
    address: Callable[[type], str],
) -> None:
    store = open_store(address(OneAtATime))
    store.write("records/a", b"content")
    assert list(store.times("records")) == ["records/a"]


def test_a_file_system_without_a_loop_gets_one_request_at_a_time(
    address: Callable[[type], str],
) -> None:
    store = open_store(address(OneAtATime))
    store.write("chunks/a", b"content")
    with ThreadPoolExecutor(4) as readers:
        assert set(readers.map(store.read, ["chunks/a"] * 8)) == {b"content"}


def test_a_server_that_refuses_the_connection_is_no_wrong_address(
    address: Callable[[type], str],
) -> None:
    with pytest.raises(StoreLost, match="Permission denied .* check the network and the cred"):
        open_store(address(Refusing))


def test_a_login_page_that_answers_for_a_store_keeps_nothing(
    address: Callable[[type], str],
) -> None:
    with pytest.raises(StoreLost, match="does a login page of this network answer for it"):
        open_store(address(LoginPage))
    store = RemoteStore(LoginPage(), "/shots", Address("longtake-login://shots"))
    for send in (store.create, store.write):
        with pytest.raises(StoreLost, match="took chunks/a and does not have it"):
            send("chunks/a", b"content")
        store.files.rm("/shots/chunks/a")


def test_a_name_that_a_store_without_listing_refuses_is_not_there(
    address: Callable[[type], str], tmp_path: Path
) -> None:
    sharing = Sharing(open_store(address(WithoutListing)))
    sharing.hold(RowLease("row", 1))
    (tmp_path / "a").write_bytes(b"content")
    sharing.send(Outgoing("records/a", tmp_path / "a"))
    sharing.close()
    assert sharing.connection.store.read("records/a") == b"content"


def test_a_store_that_refuses_to_be_listed_is_not_silent(
    address: Callable[[type], str], caplog: pytest.LogCaptureFixture
) -> None:
    connection = Connection(open_store(address(WithoutListing)))
    connection.store.write("chunks/listed", b"content")
    for _ in range(2):
        assert connection.read_folder("records", lambda _: True) == {}
    assert connection.read("chunks/missing") is None and connection.has("chunks/listed")
    [told] = caplog.messages
    assert "refuses to be listed: lists miss the shots of other machines" in told


def test_a_store_that_cannot_be_read_is_refused_at_the_start(
    address: Callable[[type], str],
) -> None:
    with pytest.raises(StoreLost, match="does not let longtake.json be read; check the rights"):
        open_store(address(WriteOnly))
