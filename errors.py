"""The errors a user can meet. Each message is one sentence: what, where, what to do.

LongtakeError
  BadInput        something the user gave cannot be used
  StorageError    a disk or folder refused
  NotFinite       the model produced NaN or infinity
  OutOfMemory     memory ran out, also with a smaller plan
"""

from __future__ import annotations


class LongtakeError(Exception):
    """Base of every error that is not our own bug."""


class BadInput(LongtakeError):
    """A value the user gave cannot be used."""


class StorageError(LongtakeError):
    """A file could not be read or written."""


class NotFinite(LongtakeError):
    """The model produced values that are not finite; nothing of that chunk is kept."""


class OutOfMemory(LongtakeError):
    """Memory ran out; what was finished before is kept."""
