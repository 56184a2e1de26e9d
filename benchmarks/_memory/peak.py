"""The allocator's peak against the plan: demo rollouts on each storage, and decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...attention.cache.policy import WindowSink
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT4, INT8
from ...model.preset import DEMO
from ...model.vae.decoder_memory import tiny_decoder_memory
from ...model.vae.streaming import StreamingDecoder
from ...samplers.denoiser import local_denoiser
from ...samplers.guidance import cfg
from ...samplers.loop import Chunk, generate
from ...samplers.planning.memory import rollout_memory
from ...samplers.schedule.levels import flow_ladder
from ...samplers.schedule.rows import causal_chunks
from ...samplers.settings import RolloutSettings
from .._shared.allocator import allocator_peak
from .._shared.demo import COLUMNS, ROWS, demo_dit, demo_vae, random_prompt

NEWEST = DEMO.chunk_frames
STORAGES: dict[str, Storage] = {
    "as computed": DENSE, "int8": Packed(INT8, NEWEST), "int4": Packed(INT4, NEWEST),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peak:
    """Planned bytes, and the largest number of bytes that the allocator handed out."""

    name: str
    planned: int
    measured: int


def peaks() -> list[Peak]:
    """Measure on one thread, because kernels take scratch memory per thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*(_rollout(name) for name in STORAGES), _decoding()]
    finally:
        torch.set_num_threads(threads)


def _rollout(name: str) -> Peak:
    """Measure a replay until the window is full, one chunk and its commit."""
    tree, sizes = demo_dit()
    chunk = DEMO.chunk_frames
    done = DEMO.window_frames // chunk + 1
    settings = RolloutSettings(
        random_prompt(sizes.text_dim), ROWS, COLUMNS,
        causal_chunks(flow_ladder(1, DEMO.shift), chunk), length=(done + 2) * chunk,
        cache=WindowSink(DEMO.window_frames, 3), storage=STORAGES[name],
        guidance=cfg(DEMO.guidance_scale),
    )  # fmt: skip
    planned = rollout_memory(settings, sizes, torch.float32).total_bytes
    latents = torch.zeros(chunk, sizes.in_channels, ROWS, COLUMNS)
    finished = [Chunk(i, chunk * i, latents) for i in range(done)]

    def run() -> None:
        for _ in generate(settings, local_denoiser(tree, sizes), finished):
            pass  # a list of the chunks would add memory to the rollout's

    return Peak(f"rollout, {name}", planned, allocator_peak(run))


def _decoding() -> Peak:
    """Measure decoding a chunk in mid-stream."""
    vae = demo_vae()
    decoder, latents = StreamingDecoder(vae), torch.zeros(DEMO.chunk_frames, 16, ROWS, COLUMNS)
    decoder.feed(latents)
    planned = tiny_decoder_memory(vae, len(latents), ROWS, COLUMNS)
    measured = allocator_peak(lambda: decoder.feed(latents))
    return Peak("decoding", planned.working_bytes, measured)
