"""ComfyUI's own AR sampler on the bench's shots; started by `core_case` with ComfyUI's Python.

It reads shots as JSON lines and answers with seconds. The core re-noises by `torch.randn_like`,
whose values depend on strides, so here it gets the noise of all other cases. The core knows no
camera; the checkpoint that the parent names holds the demo without one. The latents are decoded by
our streaming decoder, which is faster than decoding all of them together.
"""

from __future__ import annotations

import sys
import time
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...model.vae.streaming import StreamingDecoder
from .._shared.core_process import keep_channel, serve
from .._shared.demo import demo_vae
from .._shared.demo_shot import CHUNK, LADDER, DemoShot
from .._shared.process_memory import process_peak


class Core:
    """The core's modules, with the demo's transformer in the core's own model."""

    def __init__(self, checkpoint: str) -> None:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.sample
        import comfy.samplers
        import comfy.sd

        self.comfy, self.start_bytes = comfy, process_peak()
        self.model = comfy.sd.load_diffusion_model(checkpoint)
        self.vae = demo_vae()

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make and decode a shot; the latents go to a file if the request names one."""
        torch.set_num_threads(request["threads"])
        shot = DemoShot(request["width"], request["height"], request["latents"])
        assert len(shot.noise) and shot.prompts  # drawn and encoded before the clock starts
        began, worked = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            latents = self._sample(shot)
            sampled_s = time.perf_counter() - began
            frames = self._decode(latents)
        answer = {
            "whole_s": time.perf_counter() - began, "sampled_s": sampled_s, "frames": frames,
            "processor_s": time.process_time() - worked, "peak": self._peak(),
        }  # fmt: skip
        if request["latents_file"]:
            save_file({"latents": latents.contiguous()}, request["latents_file"])
        return answer

    def _sample(self, shot: DemoShot) -> Tensor:
        """Return normalised latents (f, c, h, w)."""
        noise = shot.noise
        start = noise[0].transpose(0, 1)[None]  # (1, c, f, h, w)
        fresh = (
            noise[step, first : first + CHUNK].transpose(0, 1)[None]
            for first in shot.chunk_starts
            for step in range(1, len(noise))
        )
        sampler = self.comfy.samplers.ksampler("ar_video", {"num_frame_per_block": CHUNK})
        prompt = [[shot.prompts.at(0).values[None], {}]]
        with mock.patch.object(torch, "randn_like", lambda like: next(fresh).to(like)):
            raw = self.comfy.sample.sample_custom(
                self.model, start, 1.0, sampler, torch.tensor(LADDER), prompt, prompt,
                torch.zeros_like(start), seed=0, disable_pbar=True,
            )  # fmt: skip
        latents: Tensor = self.model.model.process_latent_in(raw)
        return latents[0].transpose(0, 1).float()

    def _decode(self, latents: Tensor) -> int:
        """Decode in chunks, and keep all frames until the last one, as the core does."""
        decoder = StreamingDecoder(self.vae)
        return sum(len(part) for part in [*map(decoder.feed, latents.split(CHUNK))])

    def _peak(self) -> int | None:
        now = process_peak()
        return None if now is None or self.start_bytes is None else now - self.start_bytes


def main() -> None:
    """Serve shots by the checkpoint of the last argument; the core prints to stderr."""
    channel = keep_channel()
    checkpoint, sys.argv = sys.argv[-1], ["main.py", "--cpu"]
    serve(Core(checkpoint).run, channel)


if __name__ == "__main__":
    main()
