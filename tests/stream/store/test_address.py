"""No password of a store's address gets into a text that people, logs or records see."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.stream.store.address import Address
from longtake.stream.store.opening import open_store
from longtake.stream.store.remote import RemoteStore
from longtake.stream.store.store import StoreLost

SECRETS = ("user", "pa%40ss", "pa@ss", "sig-1234")
URL = "sftp://user:pa%40ss@host/shots?token=sig-1234"


class Leaky:
    """A file system whose errors repeat all that it knows."""

    protocol, async_impl = "sftp", False

    def info(self, path: str) -> dict[str, str]:
        raise OSError(f"cannot open {URL} as user with pa@ss and pa%40ss (sig-1234)")


def assert_clean(text: str) -> None:
    assert not any(secret in text for secret in SECRETS), text


@pytest.mark.parametrize("address", [URL, f"simplecache::{URL}"])
def test_an_address_shows_no_password(address: str) -> None:
    assert Address(address).title.endswith("sftp://***@host/shots")
    assert_clean(repr(Address(address)))


def test_an_address_without_a_password_is_shown_whole() -> None:
    assert Address("s3://bucket/a/b@c").title == "s3://bucket/a/b@c"
    assert Address("/shots/a@b").title == "/shots/a@b"


@pytest.mark.parametrize("url", ["s3://bucket/a", "memory://a", "file:///a", "~/shots"])
def test_an_address_that_means_the_same_in_every_folder_stays(url: str) -> None:
    assert Address(url).whole == url


def test_a_relative_folder_gets_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Address("shots").whole == str(tmp_path / "shots")


def test_errors_of_a_file_system_show_no_password() -> None:
    with pytest.raises(StoreLost, match="does not answer") as lost:
        RemoteStore(Leaky(), "/shots", Address(URL)).has("chunks/a")
    assert_clean(str(lost.value))
    assert lost.value.__cause__ is None and lost.value.__suppress_context__


def test_a_refused_address_shows_no_password() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(BadInput) as refusal:
        open_store("nonsense://user:pa%40ss@host/shots?token=sig-1234")
    assert_clean(str(refusal.value))
