"""Why a request got no answer, in the system's plain words."""

from __future__ import annotations

import os
import re
import socket

import aiohttp

ASYNCIO_TEXT = "Connect call failed"  # what asyncio puts in place of the system's words
NUMBER = re.compile(r"\[Errno (\d+)\]")


def reason_of(error: Exception) -> str:
    """Return why a request got no answer: `Connection refused`, `Name or service not known`."""
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its answer breaks off"
    if isinstance(error, aiohttp.ConnectionTimeoutError):  # its text has the address, with a token
        return "no connection in time"
    if isinstance(error, aiohttp.ClientResponseError):  # so has this one's
        return f"{error.message.partition(':')[0] or type(error).__name__} ({error.status})"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror):
        return _words(cause)
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _words(error: OSError) -> str:
    """The system's words for an error; those of the first where several addresses were tried."""
    text = error.strerror or str(error) or type(error).__name__
    if ASYNCIO_TEXT not in text:
        return text
    number = error.errno or next(map(int, NUMBER.findall(text)), None)
    return text if number is None else os.strerror(number)
