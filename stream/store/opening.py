"""Opens a store by its address, and checks that it can be used before any work starts."""

from __future__ import annotations

import json

from ...errors import BadInput
from .address import Address
from .folder import FolderStore
from .remote import open_remote
from .store import Store, StoreLost

VARIABLE = "LONGTAKE_STORE"
MARK, FORMAT, VERSION = "longtake.json", "longtake_store", 1


def open_store(url: str) -> Store:
    """The store at a folder or URL; StoreLost or BadInput if it cannot be read and written."""
    if not url.strip():
        raise BadInput(
            f"The address of the store is blank; name a folder or URL, or unset {VARIABLE}."
        )
    address = Address(url)
    try:
        folder = address.folder
    except RuntimeError as error:  # of pathlib: no such user
        raise BadInput(
            f"--store {address.title}: there is no home folder of that name; write the whole path."
        ) from error
    store = open_remote(address) if folder is None else _open_folder(address)
    store.create(MARK, json.dumps({FORMAT: VERSION}).encode())
    content = store.read(MARK)
    if content is None:
        raise StoreLost(
            f"The store {store.title} does not let {MARK} be read; check the rights of its "
            "credentials."
        )
    version = _version(content)
    if version != VERSION:
        raise BadInput(
            f"The store {store.title} has format {version} and this Longtake has format {VERSION}; "
            "use the Longtake that made it, or choose another --store."
        )
    return store


def _open_folder(address: Address) -> FolderStore:
    folder = address.folder
    assert folder is not None
    try:
        folder.mkdir(exist_ok=True)  # not its parents, which an unmounted disk lacks
    except OSError as error:
        raise BadInput(
            f"--store {address.title} cannot be made a folder ({error.strerror}); does the folder "
            "above it exist, and is it writable?"
        ) from error
    return FolderStore(folder.resolve())


def _version(content: bytes) -> object:
    try:
        return json.loads(content)[FORMAT]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "unknown"
