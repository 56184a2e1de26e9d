"""FlashVSR in the GPU bench: passes with random weights of the official sizes, by each kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...attention.kernels.choice import FLEX, GATHERED, kernel_unavailable_reason
from ...attention.lcsa import gathered
from ...attention.lcsa.kernel import flex_declines
from ...attention.lcsa.window import AttendPairs
from ...model.config import DiTConfig
from ...model.dit import TextKV
from ...model.flashvsr.canvas import Canvas
from ...model.flashvsr.memory import pass_memory
from ...model.flashvsr.passes import FIRST_FRAMES, PASS_FRAMES, Networks, PassRule, PassState
from ...model.flashvsr.projector import ProjectorConfig
from ...model.flashvsr.sizes import Sizes
from ...model.flashvsr.upscaler import Upscaler, UpscaleSettings
from ...model.vae.latent_format import LATENT_CHANNELS, WAN21
from .._attention.speed_model import PADDED
from .._attention.wan_shaped import WAN_1_3B, randomise
from .._shared.device import clock, peak_in_work
from .._shared.measures import Measurement
from .shot import FIRST, FRAMES, OUT_OF_MEMORY, PEAK, PLANNED, TIMED

USUAL, SMALL = Canvas(1408, 768), Canvas(384, 256)
"""The size on a GPU: 352x192 four times as large; and on a processor, to try the bench itself."""
TILE, SMALL_TILE = 512, 256
CPU_MEMORY = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class SharpCase:
    """Passes whose blocks are read by `kernel`; `tiled` ones work over tiles."""

    kernel: str
    tiled: bool = False
    budget_gb: None = None


SHARP_CASES: Mapping[str, SharpCase] = {
    "FlashVSR, gathered": SharpCase(GATHERED),
    "FlashVSR, FlexAttention": SharpCase(FLEX),
    "FlashVSR in tiles, gathered": SharpCase(GATHERED, tiled=True),
    "FlashVSR in tiles, FlexAttention": SharpCase(FLEX, tiled=True),
}


@dataclass(frozen=True, slots=True)
class SharpBench:
    """FlashVSR's sizes on one device. Its weights are there during a case only."""

    sizes: Sizes
    device: torch.device

    @property
    def canvas(self) -> Canvas:
        """The size of the enlarged picture."""
        return USUAL if self.device.type == "cuda" else SMALL

    def lacks(self, case: SharpCase) -> str | None:
        """Why a case cannot run on this device, or None."""
        if case.kernel == GATHERED:
            return None
        head_dim = self.sizes.dit.dim // self.sizes.dit.num_heads
        return kernel_unavailable_reason(case.kernel, self.device) or flex_declines(
            self.device, self.sizes.dtype, head_dim
        )

    def settings(self, case: SharpCase) -> UpscaleSettings:
        """How the passes of a case work."""
        side = (TILE if self.device.type == "cuda" else SMALL_TILE) if case.tiled else 0
        rests = case.tiled and self.device.type != "cpu"
        return UpscaleSettings(
            self.canvas, self._noise, PassRule(attend=_kernel(case.kernel)), tile_side=side,
            put_away=_to_main_memory if rests else None,
        )  # fmt: skip

    @torch.inference_mode()
    def measure(self, case: SharpCase) -> Measurement:
        """Seconds of a case's passes, its peak of memory, and the plan's."""
        settings = self.settings(case)
        plan = pass_memory(self.sizes, settings.tiling, self.device)  # by gathering
        planned = {PLANNED: float(plan.state_bytes + plan.working_bytes)}
        try:
            figures, seconds = self._run(settings)
        except torch.OutOfMemoryError:
            figures, seconds = {OUT_OF_MEMORY: 1.0}, []
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # the weights are gone, also after a failure
        return Measurement({**figures, **planned}, np.array([seconds]))

    def _run(self, settings: UpscaleSettings) -> tuple[dict[str, float], list[float]]:
        networks, now = random_networks(self.sizes, self.device), clock(self.device)
        peak = peak_in_work(lambda: self._passes(networks, settings, 1), self.device)
        seconds = self._passes(networks, settings, TIMED + 1, now)
        figures = {FIRST: seconds[0], PEAK: float(peak), FRAMES: float(PASS_FRAMES)}
        return figures, seconds[2:]

    def _passes(
        self,
        networks: Networks,
        settings: UpscaleSettings,
        later: int,
        now: Callable[[], float] = lambda: 0.0,
    ) -> list[float]:
        """The seconds of the first pass and of `later` ones, random frames to sharp ones."""
        upscaler, seconds = Upscaler(networks, settings), list[float]()
        for count in (FIRST_FRAMES, *[PASS_FRAMES] * later):
            height, width = self.canvas.height // 4, self.canvas.width // 4
            frames = torch.rand(count, 3, height, width, device=self.device)
            began = now()
            upscaler.put(frames)
            upscaler.step()
            seconds.append(now() - began)
        return seconds

    def _noise(self, latents: range) -> Tensor:
        sides = (self.canvas.full_height, self.canvas.full_width)
        rows, columns = (side // WAN21.spatial_factor for side in sides)
        return torch.randn(len(latents), LATENT_CHANNELS, rows, columns, device=self.device)


def official_sizes(layers: int, dtype: torch.dtype) -> Sizes:
    """FlashVSR 1.1, with some of its layers."""
    config: DiTConfig = replace(WAN_1_3B, num_layers=layers)
    projector = ProjectorConfig(2048, 3072, config.dim, 1, causal=True)
    return Sizes(config, projector, (512, 256, 128, 128), dtype, PADDED)


def random_networks(sizes: Sizes, device: torch.device) -> Networks:
    """The networks with random weights, directly on the device."""
    shapes = sizes.networks()
    layers = tuple(
        (torch.randn_like(k, device=device), torch.randn_like(v, device=device))
        for k, v in shapes.text.layers
    )
    return replace(
        shapes,
        dit=randomise(shapes.dit, device),
        projector=randomise(shapes.projector, device),
        decoder=randomise(shapes.decoder, device),
        text=TextKV(layers),
    )


def _kernel(name: str) -> AttendPairs:
    if name == GATHERED:
        return gathered.attend_pairs
    from ...attention.lcsa import flex  # imports torch's compiler

    return flex.attend_pairs


def _to_main_memory(state: PassState) -> PassState:
    return state.to(CPU_MEMORY)
