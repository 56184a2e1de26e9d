"""What a file is whose content is not what its name says."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path

from ...errors import BadInput

REFUSALS = (b"entry not found", b"repository not found", b"access to model", b"access denied",
            b"invalid username", b"unauthorized", b'{"error', b"<?xml")  # fmt: skip
STARTS = (  # of a file in lower case, what it is, what to do
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself",
     "run `git lfs pull` there, or download the file"),
    (b"<!doctype", "a web page", "download the file itself, logged in where that is asked for"),
    (b"<html", "a web page", "download the file itself, logged in where that is asked for"),
    *((start, "an answer of a server", "download the file itself, logged in where it asks for that")
      for start in REFUSALS),
    (b"pk\x03\x04", "a zip file, as PyTorch's are", "rename it to .pt if it is one"),
    (b"\x80\x02", "a pickle that is not in PyTorch's zip format",
     "Longtake opens no other pickles: re-save it as safetensors"),
    (b"gguf", "a GGUF file", "rename it to .gguf"),
)  # fmt: skip
START_BYTES = 512


def mistaken(path: Path, expected: str, remedy: str) -> BadInput:
    """Make the refusal of a file that is not `expected`: what it is instead, if that shows."""
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if not start:
        return BadInput(f"{path} is empty; download it again.")
    plain = start.removeprefix(BOM_UTF8).lower().lstrip()
    for known, what, cure in STARTS:
        if plain.startswith(known):
            return BadInput(f"{path} is {what}; {cure}.")
    if start[8:9] == b"{" and start[6:8] == b"\0\0":
        return BadInput(f"{path} is a safetensors file; rename it to .safetensors.")
    return BadInput(f"{path} is not {expected}; {remedy}.")
