"""The log of a web server of ours, without requests that break off or are not HTTP."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


def request_logger(name: str) -> logging.Logger:
    """A logger without requests that are not HTTP, whose senders are told so by a status.

    A request whose sender has gone in the middle, as a killed worker does, is no error of ours.
    """
    logger = logging.getLogger(f"longtake.{name}")
    logger.addFilter(_is_our_error)
    return logger


def _is_our_error(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionError)
