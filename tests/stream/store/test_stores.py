"""Laws of every kind of store: a folder, memory, fsspec's own folder, and a local S3 server."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.stream.store.folder import FolderStore
from longtake.stream.store.opening import MARK, open_store
from longtake.stream.store.store import Store, StoreLost
from longtake.tests.support.stream.stores import KINDS, store_of_kind

NAME, OTHER = "chunks/a.safetensors", "chunks/b.safetensors"


@pytest.fixture(scope="module", params=KINDS)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """One for all tests, which may come in any order: each has a folder of its own there."""
    with store_of_kind(request.param, tmp_path_factory.mktemp("stores")) as opened:
        yield opened


def test_the_first_content_under_a_name_stays_until_it_is_replaced(store: Store) -> None:
    name = "replaced/a.safetensors"
    assert not store.has(name) and store.read(name) is None
    assert store.create(name, b"first") and store.has(name)
    assert not store.create(name, b"second") and store.read(name) == b"first"
    store.write(name, b"third")
    assert store.read(name) == b"third"


def test_a_listing_names_the_files_of_one_folder_and_their_times(store: Store) -> None:
    for name in (NAME, OTHER, "records/c.rollout"):
        store.write(name, b"content")
    times = store.times("chunks")
    assert set(times) == {NAME, OTHER}
    assert all(abs(at - time.time()) < 3600 for at in times.values())
    assert store.times("nowhere") == {}


def test_of_many_writers_at_once_one_content_stays_whole(store: Store) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda content: store.create("raced/a", content), contents))
    assert store.read("raced/a") in contents


def test_only_one_of_many_creators_is_told_that_it_was_the_first(tmp_path: Path) -> None:
    """So it is in a folder. The S3 server of these tests refuses, but looks before it writes."""
    with store_of_kind("folder", tmp_path) as store, ThreadPoolExecutor(8) as writers:
        for name in ("one", "two", "three"):
            assert sum(writers.map(store.create, [name] * 8, [b"a", b"b"] * 4)) == 1


def test_a_store_opens_again_and_one_of_another_format_does_not(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert open_store((tmp_path).as_uri()).read(MARK) == store.read(MARK)
    for mark in (b'{"longtake_store": 2}', b"[]", b"torn"):
        store.write(MARK, mark)
        with pytest.raises(BadInput, match="has format"):
            open_store(str(tmp_path))


def test_a_folder_whose_disk_has_gone_is_refused_and_never_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be made"):
        open_store(str(tmp_path / "unmounted" / "store"))
    store = FolderStore(tmp_path / "gone")
    for ask in (lambda: store.has(NAME), lambda: store.read(NAME), lambda: store.times("chunks"),
                lambda: store.create(NAME, b""), lambda: store.write(NAME, b"")):  # fmt: skip
        with pytest.raises(StoreLost, match="is its disk"):
            ask()
    assert not (tmp_path / "gone").exists()


def test_another_folder_in_the_place_of_an_unmounted_disk_gets_nothing(tmp_path: Path) -> None:
    """Another process may make a store below the mount point, which hides it later."""
    mount, disk, other = (tmp_path / name for name in ("mount", "disk", "other"))
    store = open_store(str(mount))
    store.write(NAME, b"kept")
    mount.rename(disk)
    open_store(str(mount))
    for ask in (lambda: store.has(NAME), lambda: store.write("chunks/later", b"")):
        with pytest.raises(StoreLost, match="is its disk"):
            ask()
    assert not (mount / "chunks").exists()
    mount.rename(other)
    shutil.copytree(disk, mount)  # mounted again, as another device
    store.write("chunks/later", b"")
    assert store.read(NAME) == b"kept" and (mount / "chunks" / "later").exists()


def test_a_server_that_is_not_there_is_one_sentence_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "very-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreLost, match="does not answer") as refusal:
        open_store("s3://bucket/shots")
    assert "very-secret" not in str(refusal.value) and refusal.value.__cause__ is None


def test_without_fsspec_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(BadInput, match="-m pip install fsspec s3fs"):
        open_store("s3://bucket/shots")


@pytest.mark.parametrize(
    ("url", "module", "run"),
    [
        ("s3://bucket/shots", "s3fs", r"s3fs.*; run: .*-m pip install s3fs$"),
        ("sftp://host/shots", "paramiko", r"paramiko.*; run: .*-m pip install NAME, with that"),
    ],
)
def test_without_a_file_systems_own_package_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, run: str
) -> None:
    pytest.importorskip("fsspec")
    registry = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(registry, url.partition(":")[0], raising=False)  # an earlier test's
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    with pytest.raises(BadInput, match=run):
        open_store(url)


def test_the_home_folder_of_nobody_is_refused() -> None:
    with pytest.raises(BadInput, match="there is no home folder of that name"):
        open_store("~no-such-user/shots")


def test_an_unknown_kind_of_address_is_refused() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(BadInput, match=r"no address of a store \(fsspec knows no nonsense://\)"):
        open_store("nonsense://host/shots")


def test_an_address_without_a_folder_is_refused_in_its_own_words() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(BadInput, match="memory:// names no folder; write memory://NAME/FOLDER"):
        open_store("memory://")


@pytest.mark.parametrize("url", ["s3://", "s3:///folder"])
def test_an_address_without_a_bucket_is_refused(url: str) -> None:
    pytest.importorskip("s3fs")
    with pytest.raises(BadInput, match=f"--store {url} names no bucket; write s3://BUCKET/FOLDER"):
        open_store(url)


def test_a_blank_address_is_refused_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="address of the store is blank"):
        open_store(" ")
    assert not [*tmp_path.iterdir()]
