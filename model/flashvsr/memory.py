"""Bytes of FlashVSR beside its weights: what stays between passes, and what a pass takes.

What stays is counted by a formula. What is taken is measured by running two passes without numbers:
the first one, and one with a past.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import PATCH
from ..memory import META, peak_bytes
from ..vae.latent_format import LATENT_CHANNELS, WAN21
from ..vae.rehearsal import beside_on_cpu
from .passes import (
    BEHIND,
    FIRST_FRAMES,
    LATENTS,
    PASS_FRAMES,
    PAST_GROUPS,
    Networks,
    PassRule,
    PassState,
    RunPass,
)
from .projector import PAST_FRAMES, PIXELS
from .sizes import Sizes
from .tiles import Tiling
from .trace import REMEMBERED, trace_passes
from .upscaler import Upscaler, UpscaleSettings

BLOCKS_OF_A_WIDTH = 3
USUAL_RULE = PassRule()
FRAMES_DTYPE = torch.float32


@dataclass(frozen=True, slots=True)
class PassMemory:
    """`state_bytes` stay between passes; `working_bytes` are the most that a pass takes beside.

    `tile_bytes` are the states of all tiles. On a card those of several tiles wait in main memory,
    so that only the largest one is among the others there.
    """

    state_bytes: int
    working_bytes: int
    tile_bytes: tuple[int, ...]


def pass_memory(
    sizes: Sizes,
    tiling: Tiling,
    device: torch.device | str = "cpu",
    rule: PassRule = USUAL_RULE,
) -> PassMemory:
    """The memory for pictures of this size on that kind of device.

    Frames that wait beyond those of a pass, and small frames, are not counted.
    """
    on_cpu = torch.device(device).type == "cpu"
    states = _tile_bytes(sizes, tiling)
    staying = state_bytes(sizes, tiling, device)
    most = _most_bytes(sizes, tiling, rule, on_cpu=on_cpu)
    counted = staying if len(states) == 1 or on_cpu else 0
    return PassMemory(staying, most - counted, states)


def state_bytes(sizes: Sizes, tiling: Tiling, device: torch.device | str) -> int:
    """What stays between passes: the states of all tiles, or on a card the largest one."""
    states = _tile_bytes(sizes, tiling)
    return sum(states) if torch.device(device).type == "cpu" else max(states)


def _tile_bytes(sizes: Sizes, tiling: Tiling) -> tuple[int, ...]:
    return tuple(_state_bytes(sizes, tile.width * tile.height) for tile in tiling.tiles)


def _state_bytes(sizes: Sizes, pixels: int) -> int:
    item = sizes.dtype.itemsize
    tokens = pixels // (WAN21.spatial_factor * PATCH) ** 2  # of a latent frame
    layer = 2 * tokens * LATENTS * sizes.dit.dim * item  # keys and values of a group
    groups = PAST_GROUPS * layer * sizes.dit.num_layers
    past = sizes.projector.middle + 3 * PIXELS**2 if sizes.projector.causal else 0
    convolutions = PAST_FRAMES * tokens * past * item
    a, b, c, _ = sizes.widths
    maps = BLOCKS_OF_A_WIDTH * (a + 4 * b + 16 * c) * pixels // WAN21.spatial_factor**2 * item
    return groups + convolutions + maps + BEHIND * 3 * pixels * FRAMES_DTYPE.itemsize


@functools.lru_cache(REMEMBERED)
def _most_bytes(sizes: Sizes, tiling: Tiling, rule: PassRule, *, on_cpu: bool) -> int:
    """The most bytes at once in two passes, the prompt's keys and values included.

    The states are included too, but not those of several tiles on a card.
    """
    tile = tiling.tiles[0]  # all have the same size
    traces = trace_passes(sizes, tile.height, tile.width, rule, on_cpu=on_cpu)

    def take(
        _networks: Networks, _rule: PassRule, state: PassState, _frames: Tensor, _noise: Tensor
    ) -> tuple[Tensor, PassState]:
        """Take and leave what a pass does: the most of it at once, then the results."""
        trace = traces[min(state.passes, 1)]
        torch.empty(trace.most_bytes, dtype=torch.uint8, device=META)  # freed at once
        return trace.leave(state, sizes.dit.num_layers)

    unused = sizes.with_layers(1).networks()
    return rehearse_steps(sizes, tiling, Steps(unused, rule, take), on_cpu=on_cpu)


@dataclass(frozen=True, slots=True)
class Steps:
    """Networks without weights, and how passes run on them."""

    networks: Networks
    rule: PassRule
    run: RunPass


def rehearse_steps(sizes: Sizes, tiling: Tiling, steps: Steps, *, on_cpu: bool) -> int:
    """The most bytes of two steps of an upscaler that runs passes so."""
    canvas, item = tiling.canvas, sizes.dtype.itemsize
    blanks = {kind: torch.empty(1, dtype=kind, device=META) for kind in (sizes.dtype, FRAMES_DTYPE)}
    rests = len(tiling.tiles) > 1 and not on_cpu
    sides = (side // WAN21.spatial_factor for side in (canvas.full_height, canvas.full_width))
    shape = LATENT_CHANNELS, *sides

    def noise(latents: range) -> Tensor:
        return torch.empty(len(latents), *shape, device=META)

    def put_away(state: PassState) -> PassState:
        """The same shapes, which take nothing here."""
        return state.each(lambda x: blanks[x.dtype].expand(x.shape))

    settings = UpscaleSettings(
        canvas, noise, steps.rule, tile_side=tiling.side, put_away=put_away if rests else None
    )
    text_bytes = 2 * sizes.dit.num_layers * sizes.prompt_tokens * sizes.dit.dim * item

    def run() -> None:
        text = torch.empty(text_bytes, dtype=torch.uint8, device=META)
        upscaler = Upscaler(steps.networks, settings, run=steps.run)
        for count in (FIRST_FRAMES, PASS_FRAMES):
            upscaler.put(torch.empty(count, 3, canvas.height // 4, canvas.width // 4, device=META))
            upscaler.step()
        del text

    with torch.inference_mode(False):
        return peak_bytes(run, beside_on_cpu if on_cpu else None)
