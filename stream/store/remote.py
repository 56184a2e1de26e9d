"""What fsspec opens as a store: S3 and its kin, Google and Azure storage, SSH, SMB, memory."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from threading import Lock
from typing import Any

from ...errors import BadInput
from ...pip_command import pip_install
from .address import Address
from .store import StoreLost

logger = logging.getLogger("longtake")

TIMES = ("LastModified", "mtime", "last_modified", "updated", "created")
S3 = ("s3", "s3a")
PATIENCE = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}
"""For botocore, whose own limits let a run wait for minutes where there is no network."""


class RemoteStore:
    """A folder `root` of an fsspec file system.

    A file system without an event loop of its own, such as fsspec's for SSH, takes one request at a
    time: two threads would wait for ever for each other's answers.
    """

    def __init__(self, files: Any, root: str, address: Address) -> None:
        self.files, self.root, self._address = files, root.rstrip("/"), address
        is_async = files.async_impl
        self._turn: AbstractContextManager[object] = nullcontext() if is_async else Lock()
        self.title = address.title
        self._is_told = False

    def has(self, name: str) -> bool:
        """Whether there is a content; `exists` of fsspec would take any error for a no."""
        with self._translate_errors():
            try:
                return bool(self.files.info(self._path(name))["type"] == "file")
            except (FileNotFoundError, PermissionError):
                return False  # S3 without the right to list refuses to say what it lacks

    def read(self, name: str) -> bytes | None:
        """The content, or None if there is none."""
        with self._translate_errors():
            try:
                return bytes(self.files.cat_file(self._path(name)))
            except (FileNotFoundError, PermissionError):
                return None  # as in `has`

    def create(self, name: str, content: bytes) -> bool:
        """Store a content under a free name; one request where the file system has such."""
        with self._translate_errors():
            self._make_folder(name)
            try:
                self.files.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
        self._check_arrival(name, content)
        return True

    def write(self, name: str, content: bytes) -> None:
        """Store a content in place of any other."""
        with self._translate_errors():
            self._make_folder(name)
            self.files.pipe_file(self._path(name), content)
        self._check_arrival(name, content)

    def times(self, folder: str) -> Mapping[str, float]:
        """The names in a folder, and when each was written."""
        with self._translate_errors():
            self.files.invalidate_cache()
            try:
                infos = self.files.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
            except PermissionError:
                self._tell_refusal()
                return {}
        files = (info for info in infos if info["type"] == "file")
        return {f"{folder}/{info['name'].rpartition('/')[2]}": _time(info) for info in files}

    def _tell_refusal(self) -> None:
        """Say once that listing is refused; contents are asked for by name all the same."""
        if not self._is_told:
            self._is_told = True
            logger.warning(
                "The store %s refuses to be listed: lists miss the shots of other machines until "
                "its credentials may list it.", self.title,
            )  # fmt: skip

    def _check_arrival(self, name: str, content: bytes) -> None:
        """StoreLost if a content is not there, as behind a login page that says yes to everything.

        The file systems ask for the status of an answer alone.
        """
        with self._translate_errors():
            size = self.files.info(self._path(name))["size"]
        if size != len(content):
            raise StoreLost(
                f"The store {self.title} took {name} and does not have it ({len(content)} bytes "
                f"were sent, {size} are there); does a login page of this network answer for it?"
            )

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _make_folder(self, name: str) -> None:
        """Make the parent where there are folders; object stores have none to make."""
        if self.files.protocol not in (S3, "s3"):
            self.files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            with self._turn:
                yield
        except Exception as error:  # each file system has exceptions of its own
            raise _lost(self._address, error) from None  # the cause may name the password


def open_remote(address: Address) -> RemoteStore:
    """Connect to what a URL names; BadInput if a package for it is missing or it cannot be read."""
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        needs = f"needs fsspec, and s3fs for S3; run: {pip_install('fsspec s3fs')}"
        raise BadInput(f"--store {address.title} {needs}") from error
    protocol = address.url.partition("://")[0]
    is_s3 = protocol in S3
    try:
        files, root = fsspec.url_to_fs(
            address.url, skip_instance_cache=True, **_patience(fsspec, address)
        )
    except ImportError as error:
        reason = address.clean(error).rstrip(".")
        run = pip_install("s3fs") if is_s3 else f"{pip_install('NAME')}, with that package's name"
        raise BadInput(f"--store {address.title}: {reason}; run: {run}") from None
    except (TypeError, ValueError) as error:  # a URL that the file system does not understand
        is_unknown = protocol not in fsspec.available_protocols()
        reason = f"fsspec knows no {protocol}://" if is_unknown else _reason(address, error)
        raise BadInput(
            f"--store {address.title} is no address of a store ({reason}); give a folder, or an "
            "address such as s3://BUCKET/FOLDER."
        ) from None
    except Exception as error:  # some connect at once, and are refused
        raise _lost(address, error) from None
    # Not as an option of the file system: those of SSH and SMB give each option to their server.
    files.dircache.use_listings_cache = False
    if not root or (is_s3 and root.startswith("/")):
        place = "bucket; write s3://BUCKET" if is_s3 else f"folder; write {protocol}://NAME"
        raise BadInput(f"--store {address.title} names no {place}/FOLDER.")
    return RemoteStore(files, root, address)


def _lost(address: Address, error: Exception) -> StoreLost:
    return StoreLost(
        f"The store {address.title} does not answer as it should ({_reason(address, error)}); "
        "check the network and the credentials."
    )


def _reason(address: Address, error: Exception) -> str:
    return address.clean(f"{type(error).__name__}: {error}"[:300])


def _patience(fsspec: Any, address: Address) -> dict[str, Any]:
    """Limits for S3's requests, unless the user's fsspec configuration has some."""
    protocol = address.url.partition("://")[0]
    own = fsspec.config.conf.get(protocol, {})
    return {"config_kwargs": PATIENCE} if protocol in S3 and "config_kwargs" not in own else {}


def _time(info: Mapping[str, Any]) -> float:
    """When a file was written, by whatever name its file system gives."""
    for name in TIMES:
        match info.get(name):
            case datetime() as moment:
                return moment.timestamp()
            case int() | float() as seconds:
                return float(seconds)
    return 0.0
