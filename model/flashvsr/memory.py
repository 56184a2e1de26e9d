"""Bytes of FlashVSR beside its weights: what stays between passes, and what a pass takes.

What stays is counted by a formula. What a pass takes is measured by running two passes without
numbers: the first one, and one with a past.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..config import PATCH, DiTConfig
from ..dit import WanDiT, project_text
from ..memory import META, peak_bytes, shape_only
from ..vae.latent_format import LATENT_CHANNELS, WAN21
from ..vae.rehearsal import beside_on_cpu
from .decoder import GuidedDecoder
from .passes import BEHIND, FIRST_FRAMES, LATENTS, PASS_FRAMES, PAST_GROUPS, Networks, PassState
from .projector import PAST_FRAMES, PIXELS, Projector, ProjectorConfig
from .tiles import Tiling
from .upscaler import Upscaler, UpscaleSettings

BLOCKS_OF_A_WIDTH = 3


@dataclass(frozen=True, slots=True)
class PassMemory:
    """`state_bytes` stay between passes; `working_bytes` are the most that a pass takes beside.

    `tile_bytes` are the states of all tiles. On a card those of several tiles wait in main memory,
    so that only the largest one is among the others there.
    """

    state_bytes: int
    working_bytes: int
    tile_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the three networks and of the prompt, and the dtype of their computations."""

    dit: DiTConfig
    projector: ProjectorConfig
    widths: tuple[int, int, int, int]
    dtype: torch.dtype
    prompt_tokens: int


def pass_memory(sizes: Sizes, tiling: Tiling, device: torch.device | str = "cpu") -> PassMemory:
    """The memory for pictures of this size on that kind of device.

    Frames that wait beyond those of a pass, and small frames, are not counted.
    """
    states = tuple(_state_bytes(sizes, tile.width * tile.height) for tile in tiling.tiles)
    most = _most_bytes(sizes, tiling, torch.device(device))
    if len(states) == 1 or torch.device(device).type == "cpu":
        return PassMemory(sum(states), most - sum(states), states)
    return PassMemory(max(states), most, states)


def _state_bytes(sizes: Sizes, pixels: int) -> int:
    item = sizes.dtype.itemsize
    tokens = pixels // (WAN21.spatial_factor * PATCH) ** 2  # of a latent frame
    layer = 2 * tokens * LATENTS * sizes.dit.dim * item  # keys and values of a group
    groups = PAST_GROUPS * layer * sizes.dit.num_layers
    past = sizes.projector.middle + 3 * PIXELS**2 if sizes.projector.causal else 0
    convolutions = PAST_FRAMES * tokens * past * item
    a, b, c, _ = sizes.widths
    maps = BLOCKS_OF_A_WIDTH * (a + 4 * b + 16 * c) * pixels // WAN21.spatial_factor**2 * item
    return groups + convolutions + maps + BEHIND * 3 * pixels * torch.float32.itemsize


def _most_bytes(sizes: Sizes, tiling: Tiling, device: torch.device) -> int:
    """The most bytes at once in two passes, the prompt's keys and values included.

    The states are included too, but not those of several tiles on a card.
    """
    tree, projector, decoder = _shapes(sizes)
    canvas = tiling.canvas
    waits = _without_memory if len(tiling.tiles) > 1 and device.type != "cpu" else None
    sides = canvas.full_height, canvas.full_width
    rows, columns = (side // WAN21.spatial_factor for side in sides)

    def noise(latents: range) -> torch.Tensor:
        return torch.empty(len(latents), LATENT_CHANNELS, rows, columns, device=META)

    def run() -> None:
        prompt = torch.empty(1, 1, sizes.prompt_tokens, sizes.dit.text_dim, device=META)
        text = project_text(tree, prompt.to(sizes.dtype))
        networks = Networks(tree, projector, decoder, text, sizes.dtype)
        settings = UpscaleSettings(canvas, noise, tile_side=tiling.side, put_away=waits)
        upscaler = Upscaler(networks, settings)
        for count in (FIRST_FRAMES, PASS_FRAMES):
            upscaler.put(torch.empty(count, 3, canvas.height // 4, canvas.width // 4, device=META))
            upscaler.step()

    with torch.inference_mode(False):
        return peak_bytes(run, beside_on_cpu if device.type == "cpu" else None)


def _without_memory(state: PassState) -> PassState:
    """The same shapes, each of one number."""
    return state.each(lambda x: x.new_empty(1).expand(x.shape))


def _shapes(sizes: Sizes) -> tuple[WanDiT, Projector, GuidedDecoder]:
    """The networks without weights."""
    with META:
        projector, decoder = Projector(sizes.projector), GuidedDecoder(sizes.widths)
    return shape_only(sizes.dit, sizes.dtype), projector.to(sizes.dtype), decoder.to(sizes.dtype)
