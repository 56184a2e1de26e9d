"""A small FlashVSR behind the bench's rollout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from longtake.errors import OutOfMemory
from longtake.tests.support.model.flashvsr import store_parts
from longtake.tests.support.node_bench import Bench, node_bench, tiny_demo

FILE = "FlashVSR/diffusion_pytorch_model_streaming_dmd.safetensors"


@contextmanager
def flashvsr_bench(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a small FlashVSR below `folder`."""
    demo = folder / "demo"
    demo.mkdir()
    store_parts(folder / "models" / "diffusion_models" / "FlashVSR")
    patch.chdir(folder)
    with node_bench(folder / "out", tiny_demo(demo), patch) as bench:
        yield bench


def flashvsr(bench: Bench, **inputs: Any) -> Any:
    """The small FlashVSR, loaded."""
    return bench.run("LongtakeLoadFlashVSR", model_name=FILE, **inputs)[0]


def sharpened(bench: Bench, frames: Any, model: Any = None, **inputs: Any) -> Any:
    """The frames after it."""
    model = model or flashvsr(bench)
    return bench.run("LongtakeSuperResolution", frames=frames, flashvsr=model, **inputs)[0]


class Counter:
    """Counts the passes of FlashVSR, and cancels the prompt after some of them."""

    def __init__(self, bench: Bench, patch: pytest.MonkeyPatch) -> None:
        self.passes, self.cancel_after = 0, 0
        self.runs = set[Any]()
        from longtake.nodes.stages.sharp_run import SharpRun

        make = SharpRun._make

        def counted(run: Any) -> Any:
            self.passes += 1
            self.runs.add(run)
            chunk = make(run)
            if self.passes == self.cancel_after:
                bench.state.interrupt()
            return chunk

        patch.setattr(SharpRun, "_make", counted)


def fail_second_pass(patch: pytest.MonkeyPatch) -> None:
    """Let FlashVSR's second pass run out of memory, at frame 21."""
    from longtake.nodes.stages.sharp_run import SharpRun

    make = SharpRun._make

    def fail(run: Any) -> Any:
        if run._upscaler.state.number == 1:
            raise OutOfMemory("The device is full; choose smaller tiles.")
        return make(run)

    patch.setattr(SharpRun, "_make", fail)
