"""The same model inside a real ComfyUI: our shot and the core's own AR sampler, in turn.

The core loads a file of random weights as it loads any. The official VAE's shape decodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from .._shared.core_process import open_core_process
from .._shared.measures import Measurement
from .._shared.paired import median_interval, ratio_interval
from .._shared.report import Results
from .shot import DECODE, FIRST, FRAMES, PEAK, GpuBench, frames_of_chunk

PROGRAM = "longtake.benchmarks.gpu.core_child"
FILE = "self_forcing_random.safetensors"  # the name tells the family
AUTO = "auto"
APART = "apart"
"""How far the two samplers' latents are from each other, over the size of the core's."""
OURS, CORES = 1, 2
"""Rows of a measurement behind the seconds of later chunks: whole shots, of ours and the core's."""
WHOLE = "whole shot, s"
CORE = "ComfyUI's sampler"
MIN_LEAD = 1.3
SAME = 0.02  # in half precision


@dataclass(frozen=True, slots=True)
class CoreShot:
    """Shots with weights in a format that Load Causal Video Model offers."""

    weight_dtype: str
    budget_gb: None = None


CORE_CASES: Mapping[str, CoreShot] = {
    "in ComfyUI": CoreShot(AUTO),
    "in ComfyUI, weights in fp8": CoreShot("fp8_e4m3fn"),
}


@dataclass(frozen=True, slots=True)
class CoreBench:
    """The weights of `ours` in the core of a checkout, if there is one."""

    ours: GpuBench
    comfy: Path | None

    def lacks(self) -> str | None:
        """Why no case can run here, or None."""
        return "COMFYUI_PATH names no ComfyUI checkout" if self.comfy is None else None

    def measure(self, case: CoreShot) -> Measurement:
        """Seconds of chunks and of whole shots, and the peak of memory."""
        assert self.comfy is not None
        rows, columns = self.ours.model.clip.shape[-2:]
        request = {
            "weight_dtype": case.weight_dtype, "rows": rows, "columns": columns,
            "cpu": self.ours.device.type == "cpu",
        }  # fmt: skip
        with open_core_process(self.comfy, PROGRAM, partial(write_weights, self.ours)) as core:
            answer = core.ask(request)
        figures = {FIRST: answer["first_s"], DECODE: answer["decode_s"]}
        figures |= {PEAK: float(answer["peak"]), FRAMES: frames_of_chunk()}
        turns = [answer["later"], answer["ours"]]
        if answer["core_fails"]:
            return Measurement(figures, np.array(turns))
        return Measurement({**figures, APART: answer["apart"]}, np.array([*turns, answer["core"]]))


def write_weights(ours: GpuBench, folder: Path) -> Path:
    """The transformer's weights in a file, beside its sizes: a bench of few layers is whole."""
    sizes = {"dim": ours.config.dim, "num_layers": ours.config.num_layers}
    (folder / "config.json").write_text(json.dumps(sizes))
    tree = ours.model.tree.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in tree.items()}, folder / FILE)
    return folder / FILE


def add_turns(results: Results, name: str, case: CoreShot, measured: Measurement) -> None:
    """Add both samplers' whole shots; claim that they agree, and our lead where all else is the
    core's own choice.
    """
    rows = [[*row] for row in measured.features]
    results.figures[f"{name}: {WHOLE}"] = median_interval(rows[OURS])
    results.samples[f"{name}: {WHOLE}"] = rows[OURS]
    if APART not in measured.figures:
        results.notes[f"{name}: {CORE}"] = "fails with these weights"
        return
    results.figures[f"{name}: {CORE}: {WHOLE}"] = median_interval(rows[CORES])
    results.samples[f"{name}: {CORE}: {WHOLE}"] = rows[CORES]
    lead = ratio_interval(rows[CORES], rows[OURS])
    results.figures[f"{name}: {CORE} / Longtake"] = lead
    results.at_most(f"{name}: apart from {CORE}", measured.figures[APART], SAME)
    if case.weight_dtype == AUTO:
        results.at_least(f"{name}: {CORE} / Longtake", lead.low, MIN_LEAD)
