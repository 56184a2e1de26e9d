"""FlashVSR, pass by pass: low-quality frames in, sharp frames out, and a state of fixed size.

The first pass reads 25 frames and makes 21; each later one reads 8 and makes 8. So sharp frames are
4 behind. A pass is one evaluation of the transformer at t = 1000, whose keys are those that later
passes read. Source: OpenImagingLab/FlashVSR ccac0ac `diffsynth/pipelines/flashvsr_tiny.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...attention.lcsa.grid import FRAMES, BlockGrid
from ...attention.lcsa.kernel import attend_pairs
from ...attention.lcsa.window import AttendPairs, GroupPass, Groups, LocalRule
from ...attention.rope import rotation
from ..config import FRAMES_PER_LATENT, PATCH
from ..dit import Cast, PassOptions, TextKV, predict
from ..hooks import Hooks
from ..vae.latent_format import WAN21
from ..vae.tiny import Memory
from .decoder import GuidedDecoder
from .projector import CLIP_FRAMES, Projector, ProjectorPast

FIRST_LATENTS, LATENTS = 6, FRAMES
FIRST_FRAMES = 1 + FIRST_LATENTS * FRAMES_PER_LATENT
"""Frames that the first pass reads; each later one reads `PASS_FRAMES`."""
PASS_FRAMES = LATENTS * FRAMES_PER_LATENT
BEHIND = FRAMES_PER_LATENT
"""Frames that have been read and not made yet."""
PAST_GROUPS = 3
TIMESTEP = 1000.0
TRAINED_PIXELS = 768 * 1280  # for which the share of pairs is given


@dataclass(frozen=True, slots=True)
class Networks:
    """The three networks and the prompt's keys and values, all on one device.

    `dit` is a tree with official Wan names; `cast` fetches its bare parameters. The transformer and
    the projector compute in `dtype`.
    """

    dit: Any
    projector: Projector
    decoder: GuidedDecoder
    text: TextKV
    dtype: torch.dtype = torch.float32
    cast: Cast | None = None


@dataclass(frozen=True, slots=True)
class PassRule:
    """How densely blocks are read, and how.

    `density` is 1.5 (faster) to 2 (steadier): pairs of blocks, where 1 is the square of a group's
    blocks at 768 x 1280 pixels. `reach` is 9 (sharper) or 11 (steadier): see `BlockGrid.near`.
    """

    density: float = 2.0
    reach: int = 11
    attend: AttendPairs = attend_pairs

    def local(self, grid: BlockGrid) -> LocalRule:
        """The rule for pictures of this size."""
        pixels = (grid.rows * grid.columns) * WAN21.spatial_factor**2 * PATCH**2
        ratio = self.density * TRAINED_PIXELS / pixels
        return LocalRule(PAST_GROUPS, self.reach, int(grid.group_blocks**2 * ratio) - 1)


@dataclass(frozen=True, slots=True)
class PassState:
    """All that a pass leaves for the next; this one is of the start of a video.

    `guide` (4, 3, H, W) are the frames that were read and are not made yet. `skipped` is how many
    passes of the video came before the first of these `passes`: see `replay.passes_before`.
    """

    passes: int = 0
    projector: ProjectorPast | None = None
    groups: Groups = ()
    memory: Memory = field(default_factory=list)
    guide: Tensor | None = None
    skipped: int = 0

    @property
    def number(self) -> int:
        """The number of the next pass in the video, from 0."""
        return self.skipped + self.passes

    @property
    def frames_needed(self) -> int:
        """How many frames the next pass reads."""
        return PASS_FRAMES if self.passes else FIRST_FRAMES

    @property
    def latents(self) -> range:
        """The numbers of the latent frames that the next pass makes."""
        first = self.skipped * LATENTS
        if not self.passes:
            return range(first, first + FIRST_LATENTS)
        first += FIRST_LATENTS + (self.passes - 1) * LATENTS
        return range(first, first + LATENTS)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        past = () if self.projector is None else self.projector.convolutions
        guide = () if self.guide is None else (self.guide,)
        keys_values = (x for layer in self.groups for group in layer for x in group)
        return sum(x.nbytes for x in (*past, *guide, *keys_values, *self.memory) if x is not None)

    def to(self, device: torch.device) -> PassState:
        """The same state on a device."""
        return self.each(lambda x: x.to(device))

    def each(self, change: Callable[[Tensor], Tensor]) -> PassState:
        """The same state with every tensor changed."""
        past, guide = self.projector, self.guide
        return replace(
            self,
            projector=past and ProjectorPast(tuple(map(change, past.convolutions))),
            groups=tuple(
                tuple((change(k), change(v)) for k, v in groups) for groups in self.groups
            ),
            memory=[None if x is None else change(x) for x in self.memory],
            guide=None if guide is None else change(guide),
        )


def passes_left(state: PassState, frames: int) -> int:
    """How many passes after `state` make at least so many frames."""
    if frames <= 0:
        return 0
    at_first = state.frames_needed - (0 if state.passes else BEHIND)
    return 1 + max(0, -(-(frames - at_first) // PASS_FRAMES))


def passes_for(frames: int) -> int:
    """How many passes make a video of so many frames."""
    return passes_left(PassState(), frames)


def frames_read(passes: int) -> int:
    """How many frames the first `passes` passes of a video read."""
    return FIRST_FRAMES + (passes - 1) * PASS_FRAMES if passes else 0


def frames_made(passes: int) -> int:
    """How many frames the first `passes` passes of a video make."""
    return max(0, frames_read(passes) - BEHIND)


def run_pass(
    networks: Networks, rule: PassRule, state: PassState, frames: Tensor, noise: Tensor
) -> tuple[Tensor, PassState]:
    """Sharp frames and the next state.

    `frames` (n, 3, H, W) in [-1, 1] are the next `frames_needed`, `noise` (f, 16, h, w) is that of
    `latents`. The result is (n, 3, H, W) around [-1, 1]: of the frames that waited, `guide`, and of
    those of `frames` but the last 4.
    """
    tokens, projector = _project(networks, state.projector, frames)
    latents, groups = _denoise(networks, rule, state, tokens, noise)
    read = frames if state.guide is None else torch.cat([state.guide, frames])
    guide, waiting = read[:-BEHIND], read[-BEHIND:].clone()
    sharp, memory = _decode(networks.decoder, latents, guide, state.memory)
    after = PassState(state.passes + 1, projector, groups, memory, waiting, state.skipped)
    return sharp * 2 - 1, after


def _project(
    networks: Networks, past: ProjectorPast | None, frames: Tensor
) -> tuple[list[Tensor], ProjectorPast]:
    """Tokens (1, f, s, c) for the first blocks, and what the projector remembers."""
    video = frames.to(networks.dtype).transpose(0, 1)
    if past is None:
        past, video = networks.projector.begin(video[:, :1]), video[:, 1:]
    clips = list[Sequence[Tensor]]()
    for clip in video.split(CLIP_FRAMES, 1):
        tokens, past = networks.projector.project(clip, past)
        clips.append(tokens)
    return [torch.cat(block, 1) for block in zip(*clips, strict=True)], past


def _denoise(
    networks: Networks, rule: PassRule, state: PassState, tokens: list[Tensor], noise: Tensor
) -> tuple[Tensor, Groups]:
    """Clean latents (f, 16, h, w), and the keys and values of the newest groups."""
    x = noise.to(networks.dtype)[None]
    grid = BlockGrid(x.shape[-2] // PATCH, x.shape[-1] // PATCH)
    head_dim = networks.text.layers[0][0].shape[-1]
    turns = rotation(state.latents, grid.rows, grid.columns, head_dim, x.device)
    attention = GroupPass(grid, rule.local(grid), state.groups, turns, rule.attend)
    options = PassOptions(cast=networks.cast, hooks=_additions(tokens))
    times = torch.full((1, x.shape[1]), TIMESTEP)
    velocity = predict(networks.dit, x, times, networks.text, attention, options).velocity
    return (x - velocity)[0], attention.groups


def _additions(tokens: list[Tensor]) -> Hooks:
    """Hooks that add the projector's tokens to those that enter each of the first blocks."""

    def add(layer: int, x: Tensor) -> Tensor:
        return x + tokens[layer + 1] if layer + 1 < len(tokens) else x

    return Hooks(patches=(partial(torch.add, tokens[0]),), after_block=(add,))


def _decode(
    decoder: GuidedDecoder, latents: Tensor, guide: Tensor, memory: Memory
) -> tuple[Tensor, Memory]:
    """Frames (n, 3, H, W) around [0, 1], a latent at a time, for the memory of one."""
    dtype = next(decoder.parameters()).dtype
    parts, first = [], 0
    for latent in latents.to(dtype).split(1):
        count = FRAMES_PER_LATENT if memory else 1
        frames, memory = decoder.decode(latent, guide[first : first + count].to(dtype), memory)
        parts.append(frames)
        first += count
    return torch.cat(parts), memory


RunPass = Callable[[Networks, PassRule, PassState, Tensor, Tensor], tuple[Tensor, PassState]]
"""The signature of `run_pass`."""

Noise = Callable[[range], Tensor]
"""Noise (f, 16, h, w) of latent frames, on the networks' device."""
