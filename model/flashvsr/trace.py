"""What a pass of FlashVSR takes and leaves, from passes without numbers over few layers.

What each part of a pass takes grows evenly with the number of layers, so two small numbers tell the
others.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..memory import META, Peaks, Scratch, peaks_by_place
from ..shape_memo import ShapeMemo
from ..vae.latent_format import LATENT_CHANNELS, WAN21
from ..vae.rehearsal import beside_on_cpu
from .passes import FIRST_LATENTS, LATENTS, PAST_GROUPS, Networks, PassRule, PassState, run_pass
from .sizes import Sizes

FEW_LAYERS, ONE_MORE = 3, 4
"""Layers of the passes that are run: a first one, a last one, and some between."""
REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class PassTrace:
    """The most bytes that a pass takes beside what it is given.

    `sharp` and `after` are its results, `after` of few layers. All tensors are shapes alone.
    """

    most_bytes: int
    sharp: Tensor
    after: PassState

    def leave(self, before: PassState, layers: int) -> tuple[Tensor, PassState]:
        """Results of the pass in memory of their own, but for the groups that stay.

        One pair of tensors stands for all `layers` of a group.
        """
        after = replace(self.after, groups=()).each(torch.empty_like)
        count = FIRST_LATENTS // LATENTS if before.passes == 0 else 1
        keys, values = self.after.groups[0][-1]
        new = [(_times(keys, layers), _times(values, layers)) for _ in range(count)]
        past = before.groups[0] if before.groups else ()
        groups = (*past, *new)[-PAST_GROUPS:]
        return torch.empty_like(self.sharp), replace(after, groups=(groups,))


@functools.lru_cache(REMEMBERED)
def trace_passes(
    sizes: Sizes, height: int, width: int, rule: PassRule, *, on_cpu: bool
) -> tuple[PassTrace, PassTrace]:
    """The first pass of a video and one with a past, on pictures of that size."""
    _load_kernels()
    scratch, shapes = beside_on_cpu if on_cpu else None, ShapeMemo()
    layers = sizes.dit.num_layers
    runs = [
        _Passes(sizes.with_layers(count).networks(), rule, height, width)
        for count in ([layers] if layers <= FEW_LAYERS else [FEW_LAYERS, ONE_MORE])
    ]
    with torch.inference_mode(False):
        first, later = ([run.trace(scratch, shapes) for run in runs] for _ in range(2))
    return _whole(first, layers), _whole(later, layers)


def _load_kernels() -> None:
    """Load what torch loads in the first call of a kernel for shapes.

    It would keep that call's tensors until garbage is collected, so that they counted too long.
    """
    importlib.import_module("torch._dynamo")


def _times(x: Tensor, count: int) -> Tensor:
    return x.new_empty(count, *x.shape)


class _Passes:
    """Passes over shapes, one after the other."""

    def __init__(self, networks: Networks, rule: PassRule, height: int, width: int) -> None:
        self._networks, self._rule, self._pixels = networks, rule, (height, width)
        self._state = PassState()

    def trace(self, scratch: Scratch | None, shapes: ShapeMemo) -> tuple[Peaks, Tensor, PassState]:
        """The next pass: its peaks by place, and its results."""
        state, latents = self._state, len(self._state.latents)
        rows, columns = (side // WAN21.spatial_factor for side in self._pixels)
        frames = torch.empty(state.frames_needed, 3, *self._pixels, device=META)
        noise = torch.empty(latents, LATENT_CHANNELS, rows, columns, device=META)
        results: list[tuple[Tensor, PassState]] = []

        def run() -> None:
            results.append(run_pass(self._networks, self._rule, state, frames, noise))

        peaks = peaks_by_place(run, self._networks.dit, scratch, shapes)
        [(sharp, self._state)] = results
        return peaks, sharp, self._state


def _whole(traces: Iterable[tuple[Peaks, Tensor, PassState]], layers: int) -> PassTrace:
    """The pass with all layers, from one with as many, or from two with few."""
    (peaks, sharp, after), *more = traces
    most = max(peaks.values())
    if more:
        grown, further = more[0][0], layers - FEW_LAYERS
        most = max(peaks[place] + further * (grown[place] - peaks[place]) for place in peaks)
    return PassTrace(most, sharp, after)
