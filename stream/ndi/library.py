"""NDI, by which video programs of one network send each other pictures and sound.

The package cyndilib brings NDI's own library. Only those who use NDI need it, so it is loaded late.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote

from ...errors import BadInput
from ...pip_command import pip_install
from ...versions import version_numbers, version_of

SCHEME = "ndi"
PACKAGE = "cyndilib"
OLDEST = "0.1.2"  # older ones keep each picture that is not read in memory for ever
EXAMPLE = "ndi://NAME, as in ndi://Longtake"
MAX_CHARACTERS = 200


def is_ndi(text: str) -> bool:
    """Whether an address is meant for NDI."""
    return text.strip().lower().startswith(f"{SCHEME}:")


def name_of(text: str) -> str:
    """The name in an address of NDI, written as it is or with %XX; BadInput if there is none.

    Names are not URLs: they have blanks, brackets and capital letters.
    """
    name = unquote(text.strip()[len(SCHEME) + 1 :]).strip("/ ")
    if not name or len(name) > MAX_CHARACTERS or not name.isprintable():
        raise BadInput(
            f"An NDI source has a name of 1 to {MAX_CHARACTERS} printable characters; "
            f"give {EXAMPLE}."
        )
    return name


def check_installed() -> None:
    """BadInput, with what to do, if NDI's library is not installed, or is too old."""
    if find_spec(PACKAGE) is None:
        raise BadInput(
            f"NDI needs the package {PACKAGE}, which is not installed; install it: "
            f"{pip_install(PACKAGE)}"
        )
    version = version_of(PACKAGE)
    if version is not None and version_numbers(version) < version_numbers(OLDEST):
        raise BadInput(
            f"NDI needs {PACKAGE} {OLDEST} or newer, and {version} is installed; install a newer "
            f"one: {pip_install(f'--upgrade {PACKAGE}')}"
        )


def load(module: str) -> Any:
    """A module of cyndilib; BadInput, with what to do, if it cannot be loaded."""
    check_installed()
    try:
        return importlib.import_module(f"{PACKAGE}.{module}")
    except ImportError as error:  # of a processor or system that NDI does not know
        raise BadInput(
            f"NDI's library cannot be loaded ({error}); install it anew: "
            f"{pip_install(f'--force-reinstall --no-deps {PACKAGE}')}"
        ) from error
