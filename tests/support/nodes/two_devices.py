"""A shot on two devices that do not exist: what they hold, which threads use them, what comes out.

`python -m longtake.tests.support.nodes.two_devices` writes JSON, a record for each case.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.headless.events import ChunkDone, Event
from longtake.headless.hosts.stand_in import models, modules
from longtake.model.preset import RANGES_NAME
from longtake.model.vae.int8.ranges import save_ranges
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.node_bench import Bench, node_bench, tiny_demo
from longtake.tests.support.nodes.numbered_devices import KIND, USAGES, install
from longtake.tests.support.nodes.steps import forget_chunks
from longtake.tests.support.tiny_model import randn, randomise
from longtake.training.vae.ranges import measure_ranges

LONGEST_WAIT_S = 120


def frames_on(bench: Bench, decode_on: str) -> Any:
    """The frames of a new shot of three chunks."""
    rollout, vae = bench.rollout()
    return bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae, decode_on=decode_on)[0]


def shot(bench: Bench, decode_on: str) -> dict[str, Any]:
    """Make and decode all chunks, and tell what the devices saw."""
    return record(bench, frames_on(bench, decode_on))


def moved(bench: Bench) -> dict[str, Any]:
    """The same with a VAE that another node has put on the second device."""
    rollout, vae = bench.rollout()
    there = vae.copy_on(torch.device(KIND, 1))
    return record(bench, bench.run("LongtakeVAEDecode", rollout=rollout, vae=there)[0])


def record(bench: Bench, frames: Any) -> dict[str, Any]:
    """The pictures, the devices' peaks and threads, the plan and the report."""
    for usage in USAGES.values():
        usage.peak_bytes, usage.threads = usage.bytes, set()
    frames.vae_check = None  # which encodes the first picture again
    before = [USAGES[number].bytes for number in (0, 1)]
    pictures = bench.collect(frames)
    return {
        "pictures": digest_of(pictures),
        "peaks": [USAGES[number].peak_bytes - before[number] for number in (0, 1)],
        "threads": [sorted(USAGES[number].threads) for number in (0, 1)],
        "plan": frames.plan.text,
        "decode_device": frames.plan.decode_device,
        "decode_bytes": frames.plan.decode_bytes,
        "weight_bytes": sum(weight.nbytes for weight in frames.vae.tree.parameters()),
        "report": frames.report([]).versions,
    }


def latents_only(bench: Bench) -> dict[str, Any]:
    """Make the same chunks without a decoder."""
    rollout, _ = bench.rollout()
    usage = USAGES[0]
    usage.peak_bytes = before = usage.bytes
    bench.collect(rollout, "latent")
    return {"peaks": [usage.peak_bytes - before]}


def blocked(bench: Bench, decode_on: str) -> dict[str, Any]:
    """Hold the decoding of the second chunk until the third one is made."""
    from longtake.nodes.frames.decoder import HostDecoder
    from longtake.stream.rollout.frame_stream import FrameStream

    made, waited = threading.Event(), list[bool]()
    chunks_from, feed = FrameStream._chunks_from, HostDecoder.feed

    def watch(self: FrameStream, *of: Any) -> Iterator[Any]:
        for chunk in chunks_from(self, *of):
            if chunk.index == 2:
                made.set()
            yield chunk

    def wait(self: HostDecoder, latents: torch.Tensor) -> torch.Tensor:
        waited.append(len(waited) != 1 or made.wait(LONGEST_WAIT_S))
        return feed(self, latents)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameStream, "_chunks_from", watch)
        patch.setattr(HostDecoder, "feed", wait)
        bench.collect(frames_on(bench, decode_on))
    return {"made_meanwhile": waited}


def cancelled(bench: Bench, decode_on: str) -> dict[str, Any]:
    """Cancel after the first chunk, and run again."""
    tell = bench.state.listener

    def listen(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == 0:
            bench.state.interrupt()

    bench.state.listener = listen
    with pytest.raises(modules.InterruptProcessingException):
        bench.run("LongtakePreview", frames=frames_on(bench, decode_on))
    bench.state.listener = tell
    bench.state.start_prompt()
    again = frames_on(bench, decode_on)
    return {"pictures": digest_of(bench.collect(again)), "resumed_from": again.rollout.resumed_from}


def latent(bench: Bench, decode_on: str) -> dict[str, Any]:
    """Decode a LATENT, which is there before the run."""
    rollout, vae = bench.rollout()
    samples = bench.collect(rollout, "latent")
    [frames] = bench.run("LongtakeVAEDecode", rollout=samples, vae=vae, decode_on=decode_on)
    for usage in USAGES.values():
        usage.threads = set()
    digest = digest_of(bench.collect(frames))
    return {"pictures": digest, "used": [bool(USAGES[number].threads) for number in (0, 1)]}


def forked(bench: Bench, decode_on: str) -> dict[str, Any]:
    """Make a shot, then one that leaves it after a second with another seed."""
    rollout, vae = bench.rollout()
    bench.collect(rollout, "latent")
    inputs = {"action": "fork", "at": 1.0, "new_seed": 9}
    [fork] = bench.run("LongtakeEditRollout", rollout=rollout, **inputs)
    [frames] = bench.run("LongtakeVAEDecode", rollout=fork, vae=vae, decode_on=decode_on)
    return {"pictures": digest_of(bench.collect(frames))}


def edited(bench: Bench) -> dict[str, Any]:
    """Edit a shot after its first chunk, while both devices decode it."""
    rollout, vae = bench.rollout(length=57.0)
    streams = [
        bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae, decode_on=place)[0]
        for place in ("default", "gpu:1")
    ]
    tell = bench.state.listener

    def listen(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == 0 and not rollout.run.controls.edits:
            rollout.run.controls.set_prompt("a blue ball")

    bench.state.listener = listen
    calls = [("LongtakeCollect", {"stream": each, "collect": "images"}) for each in streams]
    (here, *_), (there, *_) = asyncio.run(bench.side_by_side(*calls))
    bench.state.listener = tell
    return {
        "pictures": [digest_of(here), digest_of(there)],
        "edits": [edit.applied for edit in rollout.run.controls.edits],
    }


def digest_of(pictures: torch.Tensor) -> str:
    return hashlib.sha256(pictures.numpy().tobytes()).hexdigest()


CASES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "default": lambda bench: shot(bench, "default"),
    "gpu:0": lambda bench: shot(bench, "gpu:0"),
    "gpu:1": lambda bench: shot(bench, "gpu:1"),
    "cpu": lambda bench: shot(bench, "cpu"),
    "latents": latents_only,
    "blocked": lambda bench: blocked(bench, "gpu:1"),
    "moved": moved,
    "latent": lambda bench: latent(bench, "default"),
    "latent, gpu:1": lambda bench: latent(bench, "gpu:1"),
    "cancelled": lambda bench: cancelled(bench, "gpu:1"),
    "forked": lambda bench: forked(bench, "default"),
    "forked, gpu:1": lambda bench: forked(bench, "gpu:1"),
    "edited": edited,
}


def full_vae() -> TinyVAE:
    """A VAE as wide as the demo's, whose memory is that of its layers, as planned."""
    vae = TinyVAE(TinyVAEConfig())
    randomise(vae, 1)
    return vae


def _decode_in_float32() -> None:
    from comfy.cli_args import args

    args.fp32_vae = True


def main(names: Sequence[str]) -> None:
    first, second = install()
    models.compute_device = modules.compute_device = lambda: first  # type: ignore[assignment]
    modules.all_devices = lambda: [first, second]
    table = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        demo = Path(folder, "demo")
        demo.mkdir()
        with node_bench(Path(folder, "out"), tiny_demo(demo), patch) as bench:
            _decode_in_float32()  # on the CPU too, to compare pictures bit for bit
            vae = full_vae()
            save_file(vae.state_dict(), demo / "vae.safetensors")
            save_ranges(measure_ranges(vae, randn(1, 2, 16, 2, 3)), vae, demo / RANGES_NAME)
            for name in names:
                forget_chunks(bench)
                table[name] = CASES[name](bench)
    sys.stdout.write(json.dumps(table))


if __name__ == "__main__":
    main(sys.argv[1:])
