"""PyTorch's `.pt`, `.pth` and `.ckpt`: only the zip form, only plain tensors, mapped from disk.

Nothing in such a file is ever executed: `torch.load` runs with `weights_only`, and there is no
other way in. Before it runs, the zip's own directory is checked, since a compressed entry can
unpack to any size; PyTorch writes none.
"""

from __future__ import annotations

import codecs
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import BadInput
from .content import mistaken
from .header import Header, TensorInfo, check_names, damage_error

MAX_PICKLE_BYTES = 50_000_000  # names and shapes only; a 14B model's is 0.3 MB
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
MAX_DEPTH = 100  # of dictionaries within one another; a training state has a few

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
if hasattr(torch, "float8_e8m0fnu"):  # MXFP8's scales; torch 2.5 and 2.6 have no such numbers
    DTYPES[torch.float8_e8m0fnu] = "F8_E8M0"


def open_pickled(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors of a file; nested dictionaries become dotted names."""
    _check_zip(path)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # an unpickler meets anything at all in a file made to harm
        raise BadInput(_refusal(path, str(error))) from error
    tensors = dict(_flat(content, "", set()))
    if not tensors:
        raise BadInput(f"{path} holds no tensors; give a file of model weights.")
    check_names(path, tensors)
    for name, tensor in tensors.items():
        _check_stored(path, name, tensor)
    infos = {name: _info(name, tensor) for name, tensor in tensors.items()}
    return Header(path, "pickle", infos), tensors


def _numpy_scalars() -> list[Any]:
    """What a number of numpy is made of in a pickle, by the names of numpy 1 and 2: no code.

    Trainers leave such numbers (a loss, a step) beside the weights.
    """
    kinds = [type(np.dtype(kind)) for kind in NUMBERS]
    scalar = np.float64(0).__reduce__()[0]
    if torch.__version__.startswith("2.5."):  # which knows no second names
        return [np.dtype, codecs.encode, scalar, *kinds]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, codecs.encode, *kinds, *((scalar, name) for name in names)]


def _check_zip(path: Path) -> None:
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise mistaken(
                    path,
                    "in PyTorch's zip format",
                    "Longtake opens no other pickles: re-save it as safetensors",
                )
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BadInput(
            f"{path} cannot be read as a PyTorch file ({error}); it may be cut short: download it "
            "again."
        ) from error
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > path.stat().st_size:
            raise BadInput(
                f"{path} has a compressed entry, which PyTorch never writes; get the file from "
                "its author."
            )
        if entry.filename.endswith(".pkl") and entry.file_size > MAX_PICKLE_BYTES:
            raise damage_error(path, "its list of tensors is far too long for a model")


def _refusal(path: Path, reason: str) -> str:
    code = re.search(r"GLOBAL ([\w.]+)", reason)
    if code:
        return (
            f"{path} holds {code[1]}, which is code and not weights; nothing of it was run: use a "
            ".safetensors file."
        )
    short = " ".join(reason.split())[:120]
    return f"{path} cannot be read as plain weights ({short}); download it again."


def _flat(
    content: object, prefix: str, seen: set[int], depth: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor below `content` with its dotted name; what is there twice, once."""
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content.detach()
        return
    inside = _numbered(content)
    if not isinstance(inside, dict) or id(content) in seen or depth == MAX_DEPTH:
        return
    seen.add(id(content))  # of what the file holds: Python gives a dropped copy's id away again
    for key, value in inside.items():
        if isinstance(key, str):
            yield from _flat(value, f"{prefix}{key}.", seen, depth + 1)


def _numbered(value: object) -> object:
    """Tensors in a list, or under whole numbers, as a dictionary of names; all else as it is."""
    numbered = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(numbered, dict) or not all(
        isinstance(number, int) and isinstance(tensor, Tensor)
        for number, tensor in numbered.items()
    ):
        return value
    return {str(number): tensor for number, tensor in numbered.items()}


def _check_stored(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that says it is larger than what the file stores of it."""
    stored = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not stored or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise damage_error(path, f"{name} has the shape {list(tensor.shape)} and fewer numbers")


def _info(name: str, tensor: Tensor) -> TensorInfo:
    dtype = DTYPES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
    return TensorInfo(name, dtype, tuple(tensor.shape), tensor.numel() * tensor.element_size())
