"""Runs rollouts on a device that does not exist, and lists where the processor waits for it.

Torch's fake tensors have a device and no content. So no accelerator is needed, and whatever asks
for a number is seen. `python -m longtake.tests.support.samplers.fake_device CASE ...` writes JSON:
for each case, places in our code and how often the fourth and later chunks wait there. `--plain`
lets copies wait as torch does by default.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from longtake.attention.cache.policy import AveragingSink, FullHistory, RebuiltWindow, WindowSink
from longtake.attention.coarse.window import CoarseWindow
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.machine import uploads
from longtake.model.config import Camera
from longtake.model.dit import WanDiT
from longtake.model.shape_memo import DispatchMode
from longtake.samplers.denoiser import Denoiser, LocalHost
from longtake.samplers.guidance.presets import cfg, vanilla
from longtake.samplers.loop import Chunk, Loop
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import rolling
from longtake.tests.support.stream.driven import BASE, CAMERAS, path
from longtake.tests.support.tiny_model import settings, with_camera

ROOT = Path(uploads.__file__).resolve().parents[1]
COPY, NUMBER = torch.ops.aten._to_copy.default, torch.ops.aten._local_scalar_dense.default
OTHERS = {"tests", "site-packages"}  # an environment may lie in the checkout
DEVICE = torch.ops.prim.device.default
PIN = torch.ops.aten._pin_memory.default
WARM_UP_CHUNKS = 3
CASES: dict[str, dict[str, Any]] = {
    "window": {"cache": WindowSink(6)},
    "sink, cfg": {"cache": WindowSink(6, 1), "guidance": cfg(2.5)},
    "history guidance": {"cache": WindowSink(6), "guidance": vanilla(1.5)},
    "full": {"cache": FullHistory()},
    "averaging": {"cache": AveragingSink(6, 3)},
    "rebuilt": {"cache": RebuiltWindow(6, 3)},
    "coarse": {"cache": CoarseWindow(9, 1, 3), "guidance": cfg(2.5)},
    "int8": {"cache": WindowSink(6), "storage": Packed(INT8, 3)},
    "rolling": {"cache": WindowSink(6), "schedule": rolling(flow_ladder(3, 3.0), 1)},
    **{
        f"camera: {camera}": {"cache": WindowSink(6), "camera": path(BASE), "takes": camera}
        for camera in CAMERAS
        if camera != "columns"  # its layer of one number cannot be made on such a device
    },
}


class Waits(DispatchMode):
    """Counts copies that wait, and numbers that leave the device, by the line that asks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no annotations
        self.active, self.places = False, Counter[str]()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is NUMBER:
            if args[0].device.type != "cpu":
                self._note("number")
            return True if args[0].dtype == torch.bool else 1
        if func is DEVICE:  # half of all calls; torch would go through both modes
            return args[0].fake_device
        if func is PIN:
            return args[0]
        target = named.get("device")
        if func is COPY and target is not None and _kind(target) != args[0].device.type:
            if not named.get("non_blocking"):
                self._note(f"{args[0].device.type} to {_kind(target)}")
            return torch.empty(
                args[0].shape, dtype=named.get("dtype") or args[0].dtype, device=target
            )
        return func(*args, **named)

    def _note(self, what: str) -> None:
        if self.active:
            own = [call for call in traceback.extract_stack() if _is_ours(call.filename)][-1]
            file = Path(own.filename).resolve().relative_to(ROOT).as_posix()
            self.places[f"{what}: {file} {own.name}"] += 1


def _kind(device: torch.device | str) -> str:
    return torch.device(device).type


def _is_ours(file: str) -> bool:
    path = Path(file).resolve()
    return ROOT in path.parents and not OTHERS & {*path.relative_to(ROOT).parts}


def waits_of(
    device: torch.device, length: int = 12, takes: Camera = "none", **changes: Any
) -> dict[str, int]:
    """Where chunks after the warm-up wait, then a shot that resumes, and how often in all."""
    layers = 2 if takes == "keys" else 1  # what waits in one layer waits in all
    waits, config = Waits(), replace(with_camera(takes), num_layers=layers)
    if isinstance(changes.get("cache"), CoarseWindow):
        config = replace(config, flow_map=True, coarse_past=True)
    made = settings(length=length, **changes)
    assert all(prompt.digest for prompt in made.prompts.entries)  # fake tensors have no values
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with device:
            tree = WanDiT(config).eval()
        model = Denoiser(LocalHost(tree), config, device, torch.float32)
        chunks = list[Chunk]()
        with waits:
            for chunk in Loop(made, model).chunks():
                waits.active = chunk.index + 1 >= WARM_UP_CHUNKS
                chunks.append(chunk)
            next(Loop(made, model).chunks(chunks[:-1]))
    return dict(waits.places)


def main(arguments: Sequence[str]) -> None:
    if "--plain" not in arguments:
        uploads.QUEUED = frozenset({"phantom"})
    backend_registration._setup_privateuseone_for_python_backend("phantom")
    names = [name for name in arguments if name in CASES]
    device = torch.device("phantom", 0)
    table = {name: waits_of(device, **CASES[name]) for name in names}
    sys.stdout.write(json.dumps(table))


if __name__ == "__main__":
    main(sys.argv[1:])
