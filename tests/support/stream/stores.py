"""Stores for tests: each kind there is, a local S3 server, and faults on the way to any of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from longtake.stream.journal.journal import Journal
from longtake.stream.journal.shared_files import open_journal
from longtake.stream.store.address import Address
from longtake.stream.store.opening import open_store
from longtake.stream.store.remote import RemoteStore
from longtake.stream.store.sharing import Sharing
from longtake.stream.store.store import Store, StoreLost

KINDS = ("folder", "memory", "fsspec's folder", "S3")


@contextmanager
def store_of_kind(kind: str, folder: Path) -> Iterator[Store]:
    """Open a new, empty store."""
    if kind == "folder":
        yield open_store(str(folder / "store"))
    elif kind == "memory":
        pytest.importorskip("fsspec")
        yield open_store(f"memory://{uuid.uuid4().hex}")
    elif kind == "fsspec's folder":
        local = pytest.importorskip("fsspec.implementations.local")
        root = folder / "store"
        yield RemoteStore(local.LocalFileSystem(), root.as_posix(), Address(f"local://{root}"))
    else:
        with s3_server() as url:
            yield open_store(url)


@contextmanager
def s3_server() -> Iterator[str]:
    """Run a local S3 server; yield the URL of a folder in a bucket there."""
    how = "S3 needs s3fs and moto: pip install s3fs 'moto[s3]' flask flask-cors"
    pytest.importorskip("s3fs", reason=how)
    server = pytest.importorskip("moto.server", reason=how)
    boto3 = pytest.importorskip("boto3")
    with pytest.MonkeyPatch.context() as patch:
        # moto turns every request away from the real service
        for name, value in (("ACCESS_KEY_ID", "test-id"), ("SECRET_ACCESS_KEY", "test-secret"),
                            ("DEFAULT_REGION", "us-east-1")):  # fmt: skip
            patch.setenv(f"AWS_{name}", value)
        running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        running.start()
        try:
            host, port = running.get_host_and_port()
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            bucket = f"bucket-{uuid.uuid4().hex[:8]}"
            boto3.client("s3").create_bucket(Bucket=bucket)
            yield f"s3://{bucket}/shots"
        finally:
            running.stop()


class FaultyStore:
    """A store with a fault on the way: silent, with names `hidden` from readers or `unlisted`, or
    with contents that arrive torn or flipped.
    """

    def __init__(self, inner: Store) -> None:
        self.inner, self.title = inner, inner.title
        self.is_lost = False
        self.hidden: Callable[[str], bool] = lambda _: False
        self.unlisted: Callable[[str], bool] = lambda _: False
        self.spoil: Callable[[str, bytes], bytes] = lambda _, content: content
        self.written: list[str] = []

    def _answer(self) -> Store:
        if self.is_lost:
            raise StoreLost(f"The store {self.title} does not answer (a test).")
        return self.inner

    def has(self, name: str) -> bool:
        return not self.hidden(name) and self._answer().has(name)

    def read(self, name: str) -> bytes | None:
        return None if self.hidden(name) else self._answer().read(name)

    def create(self, name: str, content: bytes) -> bool:
        self.written.append(name)
        return self._answer().create(name, self.spoil(name, content))

    def write(self, name: str, content: bytes) -> None:
        self.written.append(name)
        self._answer().write(name, self.spoil(name, content))

    def times(self, folder: str) -> Mapping[str, float]:
        times = self._answer().times(folder)
        return {name: at for name, at in times.items() if not self.unlisted(name)}


def machine(folder: Path, store: Store) -> tuple[Journal, Sharing]:
    """The journal of a machine with a folder of its own, and its use of the store."""
    sharing = Sharing(store, pause_s=0.0)
    return open_journal(folder, sharing), sharing
