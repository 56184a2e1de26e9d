"""One case of the GPU bench: its first chunk, chunks in the middle of a shot, and its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...attention.kernels.choice import kernel_unavailable_reason
from ...model.arithmetic.compiled import CannotCompile, CompiledArithmetic, compile_arithmetic
from ...model.config import FRAMES_PER_LATENT, DiTConfig
from ...model.families.presets import FEW_STEP
from ...model.vae.streaming import StreamingDecoder
from ...samplers.compilation import place_of, with_arithmetic
from ...samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from ...samplers.denoiser import Denoiser, LocalHost
from ...samplers.loop import Chunk, generate
from ...samplers.planning.memory import rollout_memory
from ...samplers.schedule.options import preset_schedule, preset_solver
from ...samplers.settings import RolloutSettings
from .._attention.speed_model import SpeedModel
from .._shared.device import clock, peak_in_work
from .._shared.measures import Measurement
from .cases import CHUNK, GB, KEPT_FREE_GB, GpuCase

TIMED = 5  # chunks of each case, after one that is not timed
FIRST, PLANNED, PEAK, DECODE = "first chunk, s", "planned", "peak", "decode, s"
COMPILING, FRAMES = "compiling, s", "frames"
OUT_OF_MEMORY = "out of memory"
"""The figure of a case that found no room."""


@dataclass(frozen=True, slots=True)
class GpuBench:
    """A model of Wan's shape on one device, and the sizes by which its memory is planned."""

    model: SpeedModel
    config: DiTConfig

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def weight_bytes(self) -> int:
        """The bytes of the transformer and of the decoder."""
        trees = self.model.tree, self.model.decoder
        return sum(p.numel() * p.element_size() for tree in trees for p in tree.parameters())

    def settings(self, case: GpuCase, history: int, chunks: int) -> RolloutSettings:
        """The shot of a case that makes some chunks after `history` latent frames."""
        rows, columns = self.model.clip.shape[-2:]
        usual = {"schedule": preset_schedule(FEW_STEP), "solver": preset_solver(FEW_STEP)}
        length = history + CHUNK * chunks
        return RolloutSettings(
            self._prompts(), rows, columns, length=length, **{**usual, **case.changes}
        )

    def needed_bytes(self, case: GpuCase) -> int:
        """What a case takes on the device: weights, its plan, and decoding as measured here."""
        decoder, latents = StreamingDecoder(self.model.decoder), self.model.clip[:CHUNK]

        def decode() -> None:
            for _ in range(2):  # the second chunk has a past
                decoder.feed(latents.to(self.model.dtype))

        with torch.inference_mode():
            decoding = peak_in_work(decode, self.device)
        return self.weight_bytes + self.planned_bytes(case) + decoding

    def planned_bytes(self, case: GpuCase) -> int:
        """What the plan says that the shot's caches and passes take."""
        settings = self.settings(case, case.history, TIMED + 1)
        return rollout_memory(settings, self.config, self.model.dtype, self.device).total_bytes

    def lacks(self, case: GpuCase) -> str | None:
        """Why a case cannot run on this device, or None."""
        if case.budget_gb is not None and self.device.type != "cuda":
            return "memory is limited on CUDA alone"
        if case.compiled:
            return self._why_not_compiled
        return case.kernel and kernel_unavailable_reason(case.kernel, self.device)

    @torch.inference_mode()
    def measure(self, case: GpuCase) -> Measurement:
        """Seconds of a case's chunks, its peak of memory, and the plan's."""
        planned = self.planned_bytes(case)
        try:
            with limited(self.device, case.budget_gb):
                figures, chunks = self._run(case)
        except torch.OutOfMemoryError:
            figures, chunks = {OUT_OF_MEMORY: 1.0}, []
            torch.cuda.empty_cache()
        return Measurement({**figures, PLANNED: float(planned)}, np.array([chunks]))

    def _run(self, case: GpuCase) -> tuple[dict[str, float], list[float]]:
        peak = peak_in_work(self._shot(case, case.history, 1), self.device)
        first = self._shot(case, 0, 1)()[0].seconds
        chunks = self._shot(case, case.history, TIMED + 1)()[1:]
        decoding = self.decoding_s([chunk.latents for chunk in chunks])
        figures = {FIRST: first, PEAK: float(peak), DECODE: decoding, FRAMES: frames_of_chunk()}
        if case.compiled:
            figures[COMPILING] = self._compile().seconds
        return figures, [chunk.seconds for chunk in chunks]

    def _shot(self, case: GpuCase, history: int, count: int) -> Callable[[], list[Chunk]]:
        """What makes the chunks that follow a history of the clip's frames, again and again."""
        settings, clip = self.settings(case, history, count), self.model.clip.cpu()
        firsts = [CHUNK * index % len(clip) for index in range(history // CHUNK)]
        finished = [
            Chunk(index, CHUNK * index, clip[first : first + CHUNK])
            for index, first in enumerate(firsts)
        ]
        model = self._denoiser
        if case.compiled:
            model = with_arithmetic(model, self._compile().arithmetic)
        return lambda: [*generate(settings, model, finished)]

    def decoding_s(self, chunks: Sequence[Tensor]) -> float:
        """The median seconds of decoding a chunk (f, c, h, w) in the middle of a stream."""
        decoder, now, seconds = StreamingDecoder(self.model.decoder), clock(self.device), []
        for chunk in chunks:
            latents = chunk.to(self.device, self.model.dtype)
            began = now()
            decoder.feed(latents)
            seconds.append(now() - began)
        return float(np.median(seconds[1:]))

    @property
    def _denoiser(self) -> Denoiser:
        return Denoiser(LocalHost(self.model.tree), self.config, self.device, self.model.dtype)

    def _compile(self) -> CompiledArithmetic:
        """The model's arithmetic, compiled at the first call."""
        return compile_arithmetic(place_of(self._denoiser))

    @property
    def _why_not_compiled(self) -> str | None:
        try:
            self._compile()
        except CannotCompile as error:
            return str(error)
        return None

    @property
    def words(self) -> Tensor:
        """A prompt of random tokens (l, text_dim)."""
        seeded = torch.Generator().manual_seed(0)
        return torch.randn(FEW_STEP.text_len, self.config.text_dim, generator=seeded)

    def _prompts(self) -> PromptTimeline:
        words = self.words
        return PromptTimeline((TimedPrompt(0, words, "noise"),), torch.zeros_like(words))


def frames_of_chunk() -> float:
    """The pictures of a chunk, in the middle of a shot."""
    return float(FRAMES_PER_LATENT * CHUNK)


@contextmanager
def limited(device: torch.device, budget_gb: int | None) -> Iterator[None]:
    """Let the process take no more memory of the device than a card of `budget_gb` leaves."""
    if budget_gb is None:
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(
        min(1.0, (budget_gb - KEPT_FREE_GB) * GB / total), device
    )
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()
