"""`longtake convert`: write any file that Longtake reads as one clean safetensors file.

The output has one copy of the weights, official names and a header. From the header ComfyUI's own
loader builds the right model, and Longtake recognises the family. Memory use is constant.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.checkpoint import Checkpoint
from ...model.families.few_steps import few_step_warning
from ...model.families.names import copies
from ...model.families.recognise import ASSUMED, AUTO, EMA, NOTED_FPS, Recognition
from ...model.families.stated import METADATA_KEY
from ...model.families.table import BY_KEY
from ...model.files.header import TensorInfo
from ...model.files.number_checks import check_tensor
from ...model.files.safetensors_writer import TORCH_DTYPES, write
from ..usage import WrongUsage

KEEP = "keep"
UNQUANTISED = ("F32", "F16", "BF16", "F64")  # --dtype converts these types only
DTYPES = {KEEP: None, "bf16": "BF16", "fp16": "F16", "fp32": "F32"}
FOLDED = {"skyreels-df-fps": "skyreels-df"}  # conversion folds the fps embedding into a bias

Advance = Callable[[int, int], None]
"""Called with the number of tensors written and the total."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """Options of a conversion."""

    dtype: str = KEEP
    fps: float | None = None


def check_arguments(out: Path, family: str) -> None:
    """Refuse before the file is opened what is wrong in any case (WrongUsage)."""
    if out.suffix != ".safetensors":
        raise WrongUsage(f"{out} must end in .safetensors.")
    if family not in (AUTO, *BY_KEY):
        keys = ", ".join(BY_KEY)
        raise WrongUsage(f"--family {family!r} is no family; choose auto or one of {keys}.")


def convert(checkpoint: Checkpoint, out: Path, how: Conversion, advance: Advance) -> int:
    """Write `out` and return its size in bytes."""
    source = checkpoint.recognition.header
    if os.path.lexists(out):
        raise BadInput(f"{out} exists already; remove it or give another name.")
    if source.container == "GGUF":
        raise BadInput(
            f"{source.path} is GGUF and cannot be converted; load it with a GGUF loader."
        )
    if checkpoint.twin is not None:
        raise BadInput(
            f"{source.path} holds two sets of weights, and a converted file has one; use it as it "
            "is."
        )
    if how.fps is not None and checkpoint.at_rate(how.fps) is checkpoint:
        raise BadInput(
            f"{source.path} is {checkpoint.recognition.family.title}, which has one frame rate; "
            "leave --fps away."
        )
    if not os.path.isdir(out.parent):  # unlike pathlib's, never an error
        raise BadInput(f"The folder {out.parent} does not exist; create it first.")
    infos = [_output_info(name, info, how.dtype) for name, info in checkpoint.infos().items()]
    at_rate = checkpoint.at_rate(how.fps)
    return write(out, infos, _checked_tensors(at_rate, infos, advance), _metadata(at_rate))


def remarks(checkpoint: Checkpoint, weights: str = AUTO) -> list[str]:
    """What is doubtful, and what the output lacks: an assumed family, and unused tensors.

    Also the copy of the weights that was taken, where the file or the user has a choice: `weights`.
    """
    recognition = checkpoint.recognition
    lines = [*filter(None, [_describe_copy(recognition, weights), few_step_warning(recognition)])]
    if _is_doubtful(recognition):
        lines.append(
            "The family is not in its header, since it was only assumed: the name of the file or "
            "--family can say it."
        )
    if recognition.unused:
        count, first = len(recognition.unused), recognition.unused[0]
        lines.append(f"Left out: {count} tensors that no such model has, for example {first}.")
    return lines


def _describe_copy(recognition: Recognition, weights: str) -> str:
    """Which copy the output has; empty where the file's only copy may be the one meant."""
    written = recognition.copy
    others = [copy.prefix for copy in copies(recognition.header.tensors) if copy != written]
    if others:
        name = "averaged (ema)" if written.is_ema else "last (raw)"
        left = ", ".join(map(repr, others))
        return f"It has the {name} weights, at {written.prefix!r}; left out: {left}."
    if weights == AUTO or (weights == EMA and written.is_ema):
        return ""
    kind = ", the averaged one (ema)" if written.is_ema else ""
    return f"--weights {weights} had no effect: the file has one copy of the weights{kind}."


def _is_doubtful(recognition: Recognition) -> bool:
    """Whether the family must not become a stated one."""
    assumed = any(reason.startswith(ASSUMED) for reason in recognition.reasons)
    return assumed or bool(few_step_warning(recognition))


def _output_info(name: str, info: TensorInfo, dtype: str) -> TensorInfo:
    """Return a tensor's official name and its dtype in the output."""
    target = DTYPES[dtype] if info.dtype in UNQUANTISED and not _is_scale(name) else None
    return replace(info, name=name, dtype=target or info.dtype)


def _is_scale(name: str) -> bool:
    return not name.endswith((".weight", ".bias", "modulation", "emb_pos"))


def _checked_tensors(
    checkpoint: Checkpoint, infos: Sequence[TensorInfo], advance: Advance
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors; BadInput for one that loading refuses, or that the output cannot hold."""
    path = checkpoint.recognition.header.path
    for number, (name, tensor) in enumerate(checkpoint.tensors(), 1):
        check_tensor(name, tensor, path)
        if tensor.is_floating_point():
            _check_room(path, name, tensor, infos[number - 1].dtype)
        yield name, tensor
        advance(number, len(infos))


def _check_room(path: Path, name: str, tensor: Tensor, dtype: str) -> None:
    """Refuse finite numbers that `dtype` would make infinite."""
    if not _is_finite(tensor.to(TORCH_DTYPES[dtype])):
        raise BadInput(
            f"{path} holds a number in {name} that is too large for {dtype}; choose another "
            "--dtype, such as bf16."
        )


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; torch cannot ask that of fp8 itself."""
    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    return bool(wide.isfinite().all())


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    recognition = checkpoint.recognition
    family = FOLDED.get(recognition.family.key, recognition.family.key)
    record = {
        "family": "" if _is_doubtful(recognition) else family,
        "copy": recognition.copy.prefix,
        "from": recognition.header.path.name,
        "licence": "" if _is_doubtful(recognition) else recognition.family.licence,
    }
    if recognition.family.key in FOLDED:
        record[NOTED_FPS] = f"{recognition.family.preset.fps:g}"
    return {"format": "pt", **checkpoint.metadata(), METADATA_KEY: json.dumps(record)}
