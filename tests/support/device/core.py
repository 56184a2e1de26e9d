"""Shots in a real ComfyUI core that believes it has CUDA, one for each way to keep memory.

From ComfyUI's folder, in its Python: `python -m longtake.tests.support.device.core NAME ...` writes
for each case its latents' digests, the faults that the stand-in saw and what failed, as JSON.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from longtake.headless.hosts.core_child.prompt_runner import Channel, Core
from longtake.tests.support.device.cuda import begin
from longtake.tests.support.device.queues import DEVICE, Device, place, raise_out_of_memory

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"
SAMPLER, SAVE = "5", "8"
MB = 1 << 20
SHORT = 30 * MB
"""Bytes of a card that holds a part of the demo's weights, beside caches, passes and decoding."""


class Messages(Channel):
    """Keeps what the core tells."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.after_chunk: Callable[[], object] | None = None  # called once, after the first

    def send(self, **message: Any) -> None:
        self.sent.append(message)
        act = self.after_chunk
        if act is not None and message["event"] == "bar" and message["data"][:2] == [SAMPLER, 1]:
            self.after_chunk = None
            act()

    def of(self, *events: str) -> list[Any]:
        """The contents of some events."""
        return [message["data"] for message in self.sent if message["event"] in events]


class Site:
    """A core with this pack, and a folder for what it makes."""

    def __init__(self, folder: Path) -> None:
        self.messages, self.out = Messages(), folder / "out"
        self.core = Core(Path.cwd(), ROOT, self.messages)
        self.management: Any = self.core.management
        self.core.specs(["LongtakeSampler"])

    def reset(self) -> None:
        """Forget all models and chunks, and the host's room for weights on their way."""
        self.core._executor.reset()
        self.management.unload_all_models()
        self.management.reset_cast_buffers()
        gc.collect()
        shutil.rmtree(self.out, ignore_errors=True)

    def run(self) -> dict[str, Any]:
        """Make a shot of two seconds: its latents, the faults, errors, and what the card holds."""
        self.messages.sent.clear()
        self.core.run(shot(), str(self.out))
        gc.collect()
        DEVICE.wait_for_all()
        faults, DEVICE.faults = sorted(set(DEVICE.faults)), []
        failures = [failure["exception_message"] for failure in self.messages.of("failed")]
        return {
            "latents": self._digests(), "faults": faults, "failures": failures,
            "held": DEVICE.held.total(), "interrupted": bool(self.messages.of("interrupted")),
        }  # fmt: skip

    def _digests(self) -> list[str]:
        files = (self.out / "longtake" / ".rollouts").rglob("*.safetensors")
        chunks = (load_file(path)["latents"].numpy().tobytes() for path in files)
        return sorted(hashlib.sha256(chunk).hexdigest() for chunk in chunks)


def shot() -> dict[str, Any]:
    """The first example, short and small, without a file."""
    workflow: dict[str, Any] = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    workflow[SAMPLER]["inputs"].update(length=2, width=64, height=48)
    del workflow[SAVE]
    return workflow


@contextmanager
def changed(place: Any, **values: Any) -> Iterator[None]:
    """Set values of the host for a while, as its arguments would."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(place, name, value)
        yield


def as_is(site: Site) -> dict[str, Any]:
    """A card with room for everything."""
    return site.run()


def no_vram(site: Site) -> dict[str, Any]:
    """--novram: all weights wait in main memory."""
    with changed(site.management, vram_state=site.management.VRAMState.NO_VRAM):
        return site.run()


def short(site: Site) -> dict[str, Any]:
    """A card that is too small for all weights at once."""
    room: dict[str, Any] = {"minimum_inference_memory": lambda: MB, "EXTRA_RESERVED_VRAM": 0}
    with changed(site.management, **room), changed(DEVICE, capacity_bytes=SHORT):
        return site.run()


def without_smart_memory(site: Site) -> dict[str, Any]:
    """--disable-smart-memory: every claim unloads all else."""
    with changed(site.management, DISABLE_SMART_MEMORY=True):
        return site.run()


def cpu_vae(site: Site) -> dict[str, Any]:
    """--cpu-vae."""
    with changed(site.management, vae_device=lambda: torch.device("cpu")):
        return site.run()


def second_card(site: Site) -> dict[str, Any]:
    """The user has chosen the second card."""
    with changed(site.management, get_torch_device=lambda: torch.device("cuda", 1)):
        return site.run()


def interrupted(site: Site) -> dict[str, Any]:
    """The user cancels after the first chunk, and runs the same again."""
    site.messages.after_chunk = site.core.interrupt
    first = site.run()
    assert first["interrupted"] and len(first["latents"]) == 1
    return site.run() | {"held before": first["held"]}


def out_of_memory(site: Site) -> dict[str, Any]:
    """The card gives a pass nothing from the second chunk on, until the next run."""
    with pytest.MonkeyPatch.context() as patch:
        site.messages.after_chunk = lambda: patch.setattr(DEVICE, "hold", _refuse_passes)
        first = site.run()
    assert len(first["latents"]) == 1
    return site.run() | {"held before": first["held"], "sentence": first["failures"][0]}


def crowded(site: Site) -> dict[str, Any]:
    """Another model wants the whole card after a run, then the user frees all models."""
    done = site.run()
    site.messages.sent.clear()
    card = torch.device("cuda", 0)
    site.management.free_memory(DEVICE.capacity_bytes, card)
    dropped = [_drops(site), DEVICE.held.total()]
    site.management.unload_all_models()
    return done | {"after a request": dropped, "after free": _drops(site)}


def evicted(site: Site) -> dict[str, Any]:
    """Another model takes the whole card between a chunk and its decoding."""
    card = torch.device("cuda", 0)
    site.messages.after_chunk = lambda: site.management.free_memory(DEVICE.capacity_bytes, card)
    return site.run()


def _drops(site: Site) -> int:
    """How many states were dropped by now."""
    return sum("is dropped" in notice for notice in site.messages.of("notice"))


def _refuse_passes(index: int, count: int) -> None:
    """Give memory to everything but the model's blocks."""
    if place().startswith("model/arithmetic"):
        raise_out_of_memory(count)
    Device.hold(DEVICE, index, count)


CASES: Mapping[str, Callable[[Site], dict[str, Any]]] = {
    "as is": as_is,
    "no vram": no_vram,
    "short": short,
    "without smart memory": without_smart_memory,
    "cpu vae": cpu_vae,
    "second card": second_card,
    "interrupted": interrupted,
    "out of memory": out_of_memory,
    "crowded": crowded,
    "evicted": evicted,
}


def main(names: Sequence[str]) -> None:
    begin()
    torch.version.cuda = "12.8"  # type: ignore[assignment]  # so that the core streams weights
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["main.py", "--disable-pinned-memory", "--base-directory", folder]
        site, table = Site(Path(folder)), {}
        for name in names:
            site.reset()
            table[name] = CASES[name](site)
        sys.__stdout__.write(json.dumps(table))  # type: ignore[union-attr]
