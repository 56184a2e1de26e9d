"""Our shot and the core's AR sampler on the host's own MODEL; started by `in_core`.

It runs in ComfyUI's Python. The core re-noises by `torch.randn_like`, whose values depend on
strides, so here it gets our noise. The VAE has the official shape and random weights.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ...attention.cache.policy import FullHistory, WindowSink
from ...model.checkpoint import open_checkpoint
from ...model.families.presets import FEW_STEP
from ...samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from ...samplers.denoiser import Denoiser
from ...samplers.guidance.presets import cfg
from ...samplers.loop import Chunk, generate
from ...samplers.noise import frame_noise
from ...samplers.schedule.levels import few_step_ladder
from ...samplers.schedule.rows import causal_chunks
from ...samplers.settings import RolloutSettings
from ...samplers.solvers.single_step import ReNoise
from .._shared.core_process import keep_channel, serve
from .._shared.paired import MIN_ROUNDS
from .cases import CHUNK, WINDOW

LADDER = few_step_ladder((1000.0, 750.0, 500.0, 250.0), FEW_STEP.shift)
LENGTH = 8 * CHUNK  # latent frames of a whole shot: the last chunk sees a window of 21
WORDS = 20
VAE_WIDTH, SMALL_VAE_WIDTH = 96, 8


class Core:
    """The core's modules, and what a request asks of them."""

    def __init__(self, checkpoint: str) -> None:
        import comfy.model_management
        import comfy.sample
        import comfy.samplers
        import comfy.sd

        self.comfy: Any = comfy
        self.checkpoint = open_checkpoint(Path(checkpoint))
        seeded = torch.Generator().manual_seed(0)
        self.words = torch.zeros(FEW_STEP.text_len, self.checkpoint.recognition.config.text_dim)
        self.words[:WORDS].normal_(generator=seeded)

    @torch.inference_mode()
    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Both samplers in turn, then later chunks and their decoding."""
        from ...nodes.models.load_model import DTYPES, build_model
        from ...nodes.runtime.resolved_model import denoiser

        size = request["rows"], request["columns"]
        model = build_model(self.checkpoint, DTYPES[request["weight_dtype"]])
        engine, ours, cores = denoiser(model), list[float](), list[float]()
        theirs, failure = None, ""
        for _ in range(1 + MIN_ROUNDS):  # the first turn loads weights and is not counted
            seconds, chunks = self._timed(lambda: [*generate(self._whole(size), engine)])
            ours.append(seconds)
            if not failure:
                try:
                    seconds, theirs = self._timed(lambda: self._sample(model, size))
                    cores.append(seconds)
                except RuntimeError as error:  # with weights in fp8 its KV cache is in fp8 too
                    failure = str(error).splitlines()[0]
        if not request["cpu"]:
            torch.cuda.reset_peak_memory_stats()
        later = self._later(engine, size)
        peak = 0 if request["cpu"] else torch.cuda.max_memory_allocated()
        return {
            "ours": ours[1:], "core": cores[1:], "core_fails": failure, "peak": peak,
            "apart": _apart(chunks, theirs),
            "first_s": chunks[0].seconds, "later": [chunk.seconds for chunk in later],
            "decode_s": self._decoding_s(later, small=request["cpu"]),
        }  # fmt: skip

    def _timed(self, make: Any) -> tuple[float, Any]:
        began = self._now()
        result = make()
        return self._now() - began, result

    def _now(self) -> float:
        if self.comfy.model_management.get_torch_device().type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _settings(self, size: tuple[int, int], length: int, cache: Any) -> RolloutSettings:
        prompts = PromptTimeline((TimedPrompt(0, self.words, "a"),), torch.zeros_like(self.words))
        return RolloutSettings(
            prompts, *size, causal_chunks(LADDER, CHUNK), length=length, solver=ReNoise(),
            cache=cache, guidance=cfg(1.0),
        )  # fmt: skip

    def _whole(self, size: tuple[int, int]) -> RolloutSettings:
        return self._settings(size, LENGTH, FullHistory())

    def _later(self, engine: Denoiser, size: tuple[int, int]) -> list[Chunk]:
        """Chunks behind a full window, after one that is not counted."""
        gc.collect()
        past = torch.randn(CHUNK, 16, *size, generator=torch.Generator().manual_seed(1))
        finished = [Chunk(index, CHUNK * index, past) for index in range(WINDOW // CHUNK)]
        length = WINDOW + CHUNK * (1 + MIN_ROUNDS)
        settings = self._settings(size, length, WindowSink(WINDOW))
        return [*generate(settings, engine, finished)][1:]

    def _noise(self, size: tuple[int, int]) -> tuple[Tensor, Iterator[Tensor]]:
        """What a shot starts from, (1, c, f, h, w), and what each re-noising adds."""
        shape, seed = (16, *size), self._whole(size).seed
        fresh = (
            frame_noise(seed, range(first, first + CHUNK), step, "renoise", shape)
            for first in range(0, LENGTH, CHUNK)
            for step in range(1, len(LADDER) - 1)
        )
        start = frame_noise(seed, range(LENGTH), 0, "start", shape)
        return start.transpose(0, 1)[None], (x.transpose(0, 1)[None] for x in fresh)

    def _sample(self, model: Any, size: tuple[int, int]) -> Tensor:
        """The core's own shot: normalised latents (f, c, h, w)."""
        start, fresh = self._noise(size)
        sampler = self.comfy.samplers.ksampler("ar_video", {"num_frame_per_block": CHUNK})
        prompt = [[self.words[None], {}]]
        with mock.patch.object(torch, "randn_like", lambda like: next(fresh).to(like)):
            raw = self.comfy.sample.sample_custom(
                model, start, 1.0, sampler, torch.tensor(LADDER), prompt, prompt,
                torch.zeros_like(start), seed=0, disable_pbar=True,
            )  # fmt: skip
        latents: Tensor = model.model.process_latent_in(raw)
        return latents[0].transpose(0, 1)

    def _decoding_s(self, chunks: list[Chunk], *, small: bool) -> float:
        """Seconds of decoding a chunk in the middle of a stream."""
        from ...nodes.models.streaming_vae import streaming_vae

        weights = random_vae(self.comfy, SMALL_VAE_WIDTH if small else VAE_WIDTH)
        vae = streaming_vae(self.comfy.sd.VAE(sd=weights))
        self.comfy.model_management.load_models_gpu([vae.patcher])
        decoder, seconds = vae.open_decoder(), list[float]()
        for chunk in chunks:
            latents = chunk.latents.to(vae.device)
            took, _ = self._timed(lambda latents=latents: decoder.feed(latents))
            seconds.append(took)
        return sorted(seconds[1:])[0]


def _apart(ours: list[Chunk], theirs: Tensor | None) -> float | None:
    """How far our latents are from the core's, over the size of these."""
    if theirs is None:
        return None
    latents, other = torch.cat([chunk.latents for chunk in ours]), theirs.float().cpu()
    return float((latents - other).norm() / other.norm())


def random_vae(comfy: Any, width: int) -> dict[str, Tensor]:
    """Weights of a Wan 2.1 VAE of some width that keep values in range."""
    kind: Any = comfy.ldm.wan.vae.WanVAE
    tree = kind(dim=width, z_dim=16, temperal_downsample=[False, True, True])
    seeded = torch.Generator().manual_seed(2)
    for name, parameter in tree.named_parameters():
        noise = torch.randn(parameter.shape, generator=seeded)
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = 1 + 0.1 * noise if "gamma" in name else noise / fan**0.5
    return dict(tree.state_dict())


def main() -> None:
    """Serve requests for the checkpoint of the last argument; the core prints to stderr."""
    channel = keep_channel()
    checkpoint, sys.argv = sys.argv[-1], ["main.py"]
    if not torch.cuda.is_available():
        sys.argv.append("--cpu")
    import comfy.options

    comfy.options.enable_args_parsing()
    importlib.import_module("main")  # as the server starts: with its choice of memory management
    serve(Core(checkpoint).run, channel)
