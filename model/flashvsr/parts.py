"""Which files make a FlashVSR: recognised by their tensors, wherever they lie and whatever they are
called.

Four parts: the transformer, which has the tensors of a plain Wan 2.1 and can only be named; the
projector; the decoder; and the embedding of the fixed prompt. Versions 1 and 1.1 have the same
tensors.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput
from ..files.header import Header
from ..files.known_files import FLASHVSR
from ..files.weights import open_weights
from .decoder import GUIDE_CHANNELS
from .projector import PIXELS

SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".sft")
MAX_PART_BYTES = 2 * 2**30
"""Larger files beside the transformer are other models: the projector has 0.6 GB."""
PROJECTOR, DECODER, PROMPT = "projector", "decoder", "prompt"
USUAL_NAMES = {PROJECTOR: "LQ_proj_in.ckpt", DECODER: "TCDecoder.ckpt", PROMPT: "posi_prompt.pth"}
TITLES = {PROJECTOR: "low-quality projector", DECODER: "decoder", PROMPT: "prompt embedding"}


@dataclass(frozen=True, slots=True)
class Parts:
    """The files of the four parts."""

    transformer: Path
    projector: Path
    decoder: Path
    prompt: Path


def part_of(header: Header) -> str | None:
    """Which part a file holds by its tensors, or None; a transformer cannot be told."""
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    first = shapes.get("conv1.weight", ())
    if "linear_layers.0.weight" in shapes and first[1:2] == (3 * PIXELS**2,):
        return PROJECTOR
    inputs = shapes.get("decoder.1.weight", ())[1:2]
    if inputs and inputs[0] > GUIDE_CHANNELS:
        return DECODER
    if len(shapes) == 1 and 2 <= len(next(iter(shapes.values()))) <= 3:
        return PROMPT
    return None


def find_parts(transformer: Path, named: Mapping[str, Path]) -> Parts:
    """The parts that are `named`, and the others from the folder of the transformer.

    BadInput names the parts that are missing or broken, or that several files hold.
    """
    chosen = part_of(open_weights(transformer).header)
    if chosen is not None:
        raise BadInput(
            f"{transformer} is FlashVSR's {TITLES[chosen]}; choose its transformer, {FLASHVSR}."
        )
    nearby = _parts_beside(transformer, {*TITLES} - {*named})
    missing = [part for part in TITLES if part not in named and part not in nearby]
    if missing:
        raise _incomplete(transformer.parent, missing)
    checked = {part: _check(part, path) for part, path in named.items()}
    return Parts(transformer, **{**nearby, **checked})


def _incomplete(folder: Path, missing: list[str]) -> BadInput:
    """What to say of parts that `folder` lacks; a broken file of a usual name is reported first."""
    for part in missing:
        if (folder / USUAL_NAMES[part]).is_file():
            _check(part, folder / USUAL_NAMES[part])
    *others, last = [f"the {TITLES[part]} ({USUAL_NAMES[part]})" for part in missing]
    said = f"{', '.join(others)} and {last}" if others else last
    return BadInput(
        f"FlashVSR is incomplete: {folder} lacks {said}; put all its files into one folder, or "
        "choose each file."
    )


def files_beside(transformer: Path, parts: Container[str]) -> list[tuple[str, Path]]:
    """The files in the folder of the transformer that hold any of `parts`, each with its part."""
    candidates = ((_read(path), path) for path in sorted(transformer.parent.iterdir()))
    return [
        (part, path) for part, path in candidates
        if part is not None and part in parts and path != transformer
    ]  # fmt: skip


def _parts_beside(transformer: Path, parts: set[str]) -> dict[str, Path]:
    """The file of each part in the folder of the transformer; BadInput where several hold one."""
    by_part: dict[str, Path] = {}
    for part, path in files_beside(transformer, parts):
        if part in by_part:
            raise BadInput(
                f"{by_part[part]} and {path.name} both hold a {TITLES[part]} of FlashVSR; choose "
                "one of them, or give each version a folder of its own."
            )
        by_part[part] = path
    return by_part


def _read(path: Path) -> str | None:
    """The part in a file that lies beside the transformer; None for all other files."""
    if path.suffix not in SUFFIXES or not path.is_file():
        return None
    if path.stat().st_size > MAX_PART_BYTES:
        return None
    try:
        return part_of(open_weights(path).header)
    except BadInput:  # nobody asked for it; _incomplete tells of one that has a part's name
        return None


def _check(part: str, path: Path) -> Path:
    if part_of(open_weights(path).header) != part:
        raise BadInput(
            f"{path} is no {TITLES[part]} of FlashVSR; choose {USUAL_NAMES[part]} as its authors "
            "publish it."
        )
    return path
