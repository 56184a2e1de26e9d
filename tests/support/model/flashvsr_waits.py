"""Runs FlashVSR's passes on a device of fake tensors, and lists where the processor waits for it.

`python -m longtake.tests.support.model.flashvsr_waits CASE ...` writes JSON: for each case, places
in our code and how often two passes wait there. `--plain` lets copies wait as torch does by
default.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from longtake.attention.lcsa import gathered
from longtake.attention.lcsa.choice import BlockPairs
from longtake.machine import uploads
from longtake.model.dit import TextKV, WanDiT
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.decoder import GuidedDecoder
from longtake.model.flashvsr.passes import FIRST_FRAMES, PASS_FRAMES, Networks, PassRule
from longtake.model.flashvsr.projector import Projector, ProjectorConfig
from longtake.model.flashvsr.upscaler import Upscaler, UpscaleSettings
from longtake.tests.support.model.flashvsr import SMALL, SMALL_DIT, noise_of
from longtake.tests.support.samplers.fake_device import Waits


def counting(q: Tensor, k: Tensor, v: Tensor, pairs: BlockPairs) -> Tensor:
    """Reads a number back in every layer."""
    assert pairs.table.sum().item() >= 0
    return gathered.attend_pairs(q, k, v, pairs)


CASES: Mapping[str, Any] = {
    "whole": {},
    "v1": {"causal": False},
    "tiles": {"tile_side": 256},
    "counting": {"rule": PassRule(attend=counting)},
}


def fake_networks(*, causal: bool) -> Networks:
    """The small networks, without weights, on the default device."""
    s = SMALL
    projector = Projector(ProjectorConfig(s.middle, s.wide, s.dim, 1, causal))
    text = torch.empty(1, 1, 6, s.heads, s.dim // s.heads)
    layers = TextKV(tuple((text, text) for _ in range(s.layers)))
    return Networks(WanDiT(SMALL_DIT).eval(), projector, GuidedDecoder(s.widths), layers)


def waits_of(device: torch.device, *, causal: bool = True, **settings: Any) -> dict[str, int]:
    """Where two passes wait, and how often."""
    canvas, waits = Canvas(500, 250), Waits()
    rows, columns = canvas.full_height // 8, canvas.full_width // 8

    def noise(latents: range) -> Tensor:
        return uploads.upload(noise_of(latents, rows, columns), device)

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with device:
            networks = fake_networks(causal=causal)
        upscaler = Upscaler(networks, UpscaleSettings(canvas, noise, **settings))
        waits.active = True
        with waits:
            for count in (FIRST_FRAMES, PASS_FRAMES):
                upscaler.put(torch.empty(count, 3, 62, 125, device=device))
                assert upscaler.step().shape[1:] == (3, 250, 500)
    return dict(waits.places)


def main(arguments: list[str]) -> None:
    if "--plain" not in arguments:
        uploads.QUEUED = frozenset({"phantom"})
    backend_registration._setup_privateuseone_for_python_backend("phantom")
    device = torch.device("phantom", 0)
    table = {name: waits_of(device, **CASES[name]) for name in arguments if name in CASES}
    sys.stdout.write(json.dumps(table))


if __name__ == "__main__":
    main(sys.argv[1:])
