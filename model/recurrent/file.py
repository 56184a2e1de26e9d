"""Files of recurrent models: safetensors with a header that says what they are.

    {"format": "pt", "longtake": "{\"architecture\": \"recurrent\", \"version\": 1}"}

The sizes come from the tensors. No other loader knows these files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ...errors import BadInput
from ..checkpoint import load_exactly, read
from ..files.number_checks import check_numbers
from ..files.safetensors_file import read_header
from .config import RecurrentConfig, recurrent_config
from .network import RecurrentNetwork

HEADER, ARCHITECTURE, VERSION = "longtake", "recurrent", 1


def recurrent_header() -> dict[str, str]:
    """The header of a file, for safetensors."""
    content = {"architecture": ARCHITECTURE, "version": VERSION}
    return {"format": "pt", HEADER: json.dumps(content)}


def is_recurrent(path: Path) -> bool:
    """Whether the header of a file says that it is a recurrent model, of any version."""
    if path.suffix != ".safetensors":
        return False
    try:
        return ARCHITECTURE in read_header(path).metadata.get(HEADER, "")
    except BadInput:
        return False  # the loader of other models says what is wrong with it


def load_recurrent(path: Path) -> tuple[RecurrentNetwork, RecurrentConfig]:
    """A recurrent model in float32, ready to evaluate, and its sizes."""
    state, metadata = read(path)
    _check_header(path, metadata)
    check_numbers(state, path)
    config = _sizes(path, state)
    network = RecurrentNetwork(config)
    load_exactly(network, state, path)
    return network, config


def _check_header(path: Path, metadata: Mapping[str, str]) -> None:
    try:
        header = json.loads(metadata.get(HEADER, "{}"))
        known = header.get("architecture") == ARCHITECTURE and header.get("version") == VERSION
    except (ValueError, AttributeError, RecursionError):
        known = False
    if not known:
        raise BadInput(
            f"{path} is not a recurrent model of version {VERSION}; choose a file that "
            "training/train_recurrent.py made."
        )


def _sizes(path: Path, state: Mapping[str, Tensor]) -> RecurrentConfig:
    try:
        return recurrent_config(state)
    except (KeyError, ValueError, IndexError) as error:
        raise BadInput(
            f"{path} does not describe a recurrent model ({error}); use the unmodified file."
        ) from error
