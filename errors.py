"""The errors a user can meet. Each message is one sentence: what, where, what to do.

LongtakeError
  BadInput        something the user gave cannot be used
    Unsupported   settings that cannot be combined
  StorageError    a disk or folder refused
  NotFinite       the model produced NaN or infinity
  OutOfMemory     memory ran out, also with a smaller plan if there is one
"""

from __future__ import annotations

from typing import Any

PACKAGE = "longtake"


class LongtakeError(Exception):
    """Base of every error that is not our own bug.

    A host shows the module of an error's type. ComfyUI imports this package under the path of its
    folder, so that the types would begin with that path; they always begin with `longtake.`.
    """

    def __init_subclass__(cls) -> None:
        cls.__module__ = _public_module(cls.__module__)


def is_own_type(type_name: str) -> bool:
    """Whether a type's full name, as a host gives it, is one of our errors'."""
    return type_name.startswith(f"{PACKAGE}.")


def _public_module(module: str) -> str:
    """The name under which a module of this package is known, wherever it was imported from."""
    return PACKAGE + module.removeprefix(__name__.removesuffix(".errors"))


LongtakeError.__module__ = _public_module(__name__)


class BadInput(LongtakeError):
    """A value the user gave cannot be used."""


class Unsupported(BadInput):
    """Settings that cannot be combined.

    The engine states the `problem`. `code` names the broken rule and `values` what broke it, from
    which a user interface can tell which of its own inputs to change.
    """

    def __init__(self, problem: str, code: str, **values: Any) -> None:
        super().__init__(f"{problem}.")
        self.problem, self.code, self.values = problem, code, values


class StorageError(LongtakeError):
    """A file could not be read or written."""


class NotFinite(LongtakeError):
    """The model produced values that are not finite; nothing of that chunk is kept."""


class OutOfMemory(LongtakeError):
    """Memory ran out; what was finished before is kept."""
