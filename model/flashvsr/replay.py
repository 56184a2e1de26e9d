"""The state between two passes, brought back: from a snapshot, or by running earlier passes again.

What a pass makes depends on a bounded past. Each layer reads the three groups before its own, and
so on through all layers; the decoder remembers a few latent frames. A video that begins that many
passes earlier has the same state, to the bit on one device. Passes there begin at the frame
`8 * skipped`, as at the start of a video.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...attention.snapshot import Snapshot, join
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


def to_snapshot(states: Sequence[PassState]) -> Snapshot:
    """Copy the states of all tiles, after at least one pass, to the CPU."""
    return join({}, {str(number): _tensors_of(state) for number, state in enumerate(states)})


def from_snapshot(
    snapshot: Snapshot, device: torch.device, tile_bytes: Sequence[int]
) -> list[PassState]:
    """The states of `to_snapshot` on `device`; ValueError if they have not the planned bytes."""
    return [
        _state_of(snapshot.part(str(number)), count).to(device)
        for number, count in enumerate(tile_bytes)
    ]


def _tensors_of(state: PassState) -> Snapshot:
    assert state.projector is not None and state.guide is not None
    tensors = {"guide": state.guide}
    tensors |= {f"projector.{i}": x for i, x in enumerate(state.projector.convolutions)}
    for layer, groups in enumerate(state.groups):
        for i, (keys, values) in enumerate(groups):
            tensors |= {f"keys.{layer}.{i}": keys, f"values.{layer}.{i}": values}
    tensors |= {f"memory.{i}": x for i, x in enumerate(state.memory) if x is not None}
    facts = {
        "passes": state.passes,
        "skipped": state.skipped,
        "projector": len(state.projector.convolutions),
        "groups": [len(groups) for groups in state.groups],
        "memory": len(state.memory),
    }
    return Snapshot({name: x.detach().to("cpu", copy=True) for name, x in tensors.items()}, facts)


def _state_of(snapshot: Snapshot, state_bytes: int) -> PassState:
    facts, tensors = snapshot.facts, snapshot.tensors
    state = PassState(
        facts["passes"],
        ProjectorPast(tuple(tensors[f"projector.{i}"] for i in range(facts["projector"]))),
        tuple(
            tuple((tensors[f"keys.{n}.{i}"], tensors[f"values.{n}.{i}"]) for i in range(count))
            for n, count in enumerate(facts["groups"])
        ),
        [tensors.get(f"memory.{i}") for i in range(facts["memory"])],
        tensors["guide"],
        facts["skipped"],
    )
    if state.bytes != state_bytes:
        raise ValueError(f"it has {state.bytes} bytes, and a state has {state_bytes}")
    return state
