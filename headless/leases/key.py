"""The secret that driver and workers share. It is never an argument, and never in a message."""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from ...errors import BadInput
from ..usage import WrongUsage

VARIABLE = "LONGTAKE_KEY"
MIN_LENGTH, MAX_BYTES = 16, 4096
HOW = 'make a key with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
SCHEME = "Bearer "


def read_key(file: Path | None) -> str:
    """Return the key in `file`, or in the environment if there is no file; raise BadInput.

    Without a file, a variable that is missing or holds no key is wrong usage.
    """
    if file is None and VARIABLE not in os.environ:
        raise WrongUsage(f"Give --key-file FILE or set {VARIABLE}; {HOW}.")
    where = VARIABLE if file is None else f"--key-file {file}"
    key = (os.environ[VARIABLE] if file is None else _beginning(file)).strip()
    if len(key) < MIN_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        fault = WrongUsage if file is None else BadInput
        raise fault(f"{where} holds no key of {MIN_LENGTH} or more letters; {HOW}.")
    return key


def _beginning(file: Path) -> str:
    """Return the file's text; raise BadInput, also for a device that never ends."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise BadInput(f"--key-file {file} cannot be read ({error.strerror}); {HOW}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"--key-file {file} is no text; {HOW}.") from error
    if len(content) > MAX_BYTES:
        raise BadInput(f"--key-file {file} is larger than a key ({MAX_BYTES} bytes); {HOW}.")
    return text


def header(key: str) -> dict[str, str]:
    """Return the header with which a worker shows the key."""
    return {"Authorization": f"{SCHEME}{key}"}


def is_right(shown: str, key: str) -> bool:
    """Return whether a request's Authorization header holds the key, in constant time.

    aiohttp gives bytes that are no text as lone surrogates.
    """
    return hmac.compare_digest(shown.encode(errors="surrogateescape"), f"{SCHEME}{key}".encode())
