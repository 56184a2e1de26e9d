"""Whether a model file fits this machine, told from its header before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ...errors import BadInput
from ...model.families.memory import COMPUTE, memory_plan
from ...model.families.recognise import AUTO, Recognition, recognise
from ...model.files.header import main_dtype
from ...model.files.weights import open_weights
from ...samplers.planning.cache_forms import (
    AS_COMPUTED,
    IN_INT4,
    IN_INT8,
    RESERVED_BYTES,
    ROTATED,
    CacheForm,
    CacheForms,
)
from ...units import byte_size

CPU = torch.device("cpu")
HOW = {
    AS_COMPUTED: "",
    ROTATED: " Keys are then rotated in every pass: the same video, a little slower.",
    IN_INT8: " Set `storage` to int8 in KV Cache Settings.",
    IN_INT4: " Set `storage` to int4 in KV Cache Settings.",
}


@dataclass(frozen=True, slots=True)
class Fit:
    """The answer, as a sentence or two, and whether the model runs here in some form."""

    text: str
    fits: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """Where models run, and the bytes of memory there."""

    device: torch.device
    memory_bytes: int

    @property
    def room_bytes(self) -> int:
        """The memory without the reserve of a card."""
        return self.memory_bytes - RESERVED_BYTES * (self.device != CPU)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the host computes there."""
        return torch.float32 if self.device == CPU else COMPUTE

    @property
    def name(self) -> str:
        """The memory as users call it."""
        return "free main memory" if self.device == CPU else "graphics memory"


def without_folders(error: BadInput, *files: Path) -> str:
    """The sentence of an error about files and what lies beside them, without where that is.

    The folder itself keeps its name. Others than the user of this machine may read the sentence.
    """
    text = str(error)
    for folder in {file.parent for file in files}:
        text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name)
    return text


def fit(
    path: Path,
    machine: Machine,
    family: str = AUTO,
    copy: str = AUTO,
    weight_dtype: torch.dtype | None = None,
) -> Fit:
    """Plan the family's own settings for a file; a refused file gives its sentence."""
    try:
        model = recognise(open_weights(path).header, family, copy)
    except BadInput as error:
        return Fit(without_folders(error, path), False)
    if weight_dtype is None and machine.device == CPU:
        weight_dtype = torch.float32  # the host keeps no other weights there
    preset = model.family.preset
    plan = memory_plan(model, preset.width, preset.height, machine.dtype, weight_dtype)
    forms = CacheForms(model, plan, machine.dtype, machine.device)
    stored = str(weight_dtype).removeprefix("torch.") if weight_dtype else _stored(model)
    text = f"{model.family.title}, {stored}: {byte_size(plan.weight_bytes)} weights"
    answer = _answer(forms, machine)
    return Fit(f"{text} + {answer.text}", answer.fits)


def _answer(forms: CacheForms, machine: Machine) -> Fit:
    """Take the first form that fits whole, else the first that fits with weights offloaded."""
    have = f"{byte_size(machine.memory_bytes)} of {machine.name}"
    fitting = _first_fitting(forms, machine)
    form, whole = fitting or (forms.of(IN_INT4), False)
    beside = byte_size(form.total_bytes - forms.plan.weight_bytes)
    memory = f"{beside} memory at {forms.plan.width}x{forms.plan.height}."
    if fitting is None:
        needed = form.total_bytes if machine.device == CPU else form.least_bytes
        text = f"Does not fit {have}: even with `storage` int4 it needs {byte_size(needed)}."
        return Fit(f"{memory} {text} Choose a smaller model or picture.", False)
    offloaded = "" if whole else " with part of the weights in main memory, which is slower"
    return Fit(f"{memory} Fits {have}{offloaded}.{HOW[form.name]}", True)


def _first_fitting(forms: CacheForms, machine: Machine) -> tuple[CacheForm, bool] | None:
    """Return a form, and whether all weights fit beside it; None if no form fits.

    A rehearsal takes time, so a cache that is too large by itself gets none.
    """
    rehearsed, room, plan = cache(forms.of), machine.room_bytes, forms.plan
    for whole in (True,) if machine.device == CPU else (True, False):
        weights = plan.weight_bytes if whole else plan.largest_weight_bytes
        for name in forms.shots():
            if forms.kv_bytes(name) + weights + plan.vae_bytes > room:
                continue
            form = rehearsed(name)
            if (form.total_bytes if whole else form.least_bytes) <= room:
                return form, whole
    return None


def _stored(model: Recognition) -> str:
    return main_dtype(model.tensors).lower()
