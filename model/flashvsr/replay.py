"""The state between two passes, brought back: from a snapshot, or by running earlier passes again.

What a pass makes depends on a bounded past. Each layer reads the three groups before its own, and
so on through all layers; the decoder remembers a few latent frames. A video that begins that many
passes earlier has the same state, to the bit on one device. Passes there begin at the frame
`8 * skipped`, as at the start of a video.
"""

from __future__ import annotations

import torch

from ...attention.snapshot import Snapshot
from .passes import LATENTS, PASS_FRAMES, PAST_GROUPS, PassState
from .projector import ProjectorPast


def passes_before(layers: int, decoder_reach: int) -> int:
    """How many passes must run before one whose frames are to be exact.

    `decoder_reach` is in latent frames. The first pass has no true past and wrong tokens.
    """
    return 1 + PAST_GROUPS * layers + -(-decoder_reach // LATENTS)


def begin_before(number: int, needed: int) -> PassState:
    """The state from which `needed` passes run before pass `number`, or the start of the video."""
    return PassState(skipped=max(0, number - needed))


def next_frame(state: PassState) -> int:
    """The number in the video of the first frame that the next pass reads anew."""
    read = 0 if state.passes == 0 else PassState().frames_needed + (state.passes - 1) * PASS_FRAMES
    return state.skipped * PASS_FRAMES + read


def to_snapshot(state: PassState) -> Snapshot:
    """Copy a state after at least one pass to the CPU."""
    assert state.projector is not None and state.guide is not None
    tensors = {"guide": state.guide}
    tensors |= {f"projector.{i}": x for i, x in enumerate(state.projector.convolutions)}
    for i, (keys, values) in enumerate(state.groups):
        tensors |= {f"keys.{i}": keys, f"values.{i}": values}
    tensors |= {f"memory.{i}": x for i, x in enumerate(state.memory) if x is not None}
    facts = {
        "passes": state.passes,
        "skipped": state.skipped,
        "projector": len(state.projector.convolutions),
        "layers": len(state.groups),
        "memory": len(state.memory),
    }
    return Snapshot({name: x.detach().to("cpu", copy=True) for name, x in tensors.items()}, facts)


def from_snapshot(snapshot: Snapshot, device: torch.device | str, state_bytes: int) -> PassState:
    """The state of `to_snapshot` on `device`; ValueError if it has not the planned bytes."""
    facts, tensors = snapshot.facts, {n: x.to(device) for n, x in snapshot.tensors.items()}
    state = PassState(
        facts["passes"],
        ProjectorPast(tuple(tensors[f"projector.{i}"] for i in range(facts["projector"]))),
        tuple((tensors[f"keys.{i}"], tensors[f"values.{i}"]) for i in range(facts["layers"])),
        [tensors.get(f"memory.{i}") for i in range(facts["memory"])],
        tensors["guide"],
        facts["skipped"],
    )
    if state.bytes != state_bytes:
        raise ValueError(f"it has {state.bytes} bytes, and a state has {state_bytes}")
    return state
