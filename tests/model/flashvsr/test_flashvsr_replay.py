"""A FlashVSR stream that goes on after a break: from a snapshot, or after passes run again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.attention.snapshot import Snapshot
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.passes import PassState, frames_made, frames_read
from longtake.model.flashvsr.replay import (
    begin_before,
    from_snapshot,
    next_frame,
    passes_before,
    to_snapshot,
)
from longtake.model.flashvsr.upscaler import Upscaler, UpscaleSettings
from longtake.tests.support.model.flashvsr import SMALL, noise_of, small_decoder, small_networks
from longtake.tests.support.tiny_model import randn

CPU = torch.device("cpu")
SIDE = 128  # of the large frames: one block
SETTINGS = UpscaleSettings(Canvas(SIDE, SIDE), lambda latents: noise_of(latents, 16, 16))
NEEDED = passes_before(SMALL.layers, small_decoder().decoder_reach)


def video(frames: int) -> Tensor:
    return randn(frames, 3, 32, 32, seed=4).mul(0.2).add(0.5).clamp(0, 1)


def sharp_from(state: PassState, frames: Tensor, *, causal: bool = True) -> list[Tensor]:
    """What the passes after `state` make of a video."""
    upscaler = Upscaler(small_networks(causal=causal), SETTINGS, [state])
    return [*upscaler.feed(frames[next_frame(state) :]), *upscaler.drain()]


def test_passes_run_again_for_the_whole_reach_give_the_same_bits() -> None:
    number = NEEDED + 1
    frames = video(frames_read(number + 1))
    whole = sharp_from(PassState(), frames)
    state = begin_before(number, NEEDED)
    assert (state.number, next_frame(state)) == (1, 8)
    again = sharp_from(state, frames)
    assert torch.equal(again[NEEDED], whole[number])
    assert torch.equal(again[-1], whole[-1]) and len(whole[-1]) == 4
    assert not torch.equal(again[1], whole[2])  # with a past that is cut off too early


def test_a_short_video_runs_again_from_its_start() -> None:
    assert begin_before(NEEDED - 1, NEEDED) == PassState()


def test_frames_of_a_pass_are_counted_alike_everywhere() -> None:
    frames, state, made = video(49), PassState(), 0
    upscaler = Upscaler(small_networks(causal=True), SETTINGS)
    upscaler.put(frames)
    while upscaler.is_ready:
        state = upscaler.state
        assert (next_frame(state), made) == (frames_read(state.number), frames_made(state.number))
        made += len(upscaler.step())
    assert state.number == 3


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("total", [25, 38])
def test_a_snapshot_goes_on_with_the_same_bits(causal: bool, total: int) -> None:
    """Also where nothing is left to read, and only the last frames are still owed."""
    frames = video(total)
    upscaler = Upscaler(small_networks(causal=causal), SETTINGS)
    next(upscaler.feed(frames[:25]))
    snapshot = to_snapshot(upscaler.states)
    [state] = from_snapshot(snapshot, CPU, [upscaler.state.bytes])
    assert (state.number, next_frame(state)) == (1, 25)
    again = sharp_from(state, frames, causal=causal)
    whole = sharp_from(PassState(), frames, causal=causal)
    assert torch.equal(torch.cat(again), torch.cat(whole[1:]))
    assert sum(map(len, again)) == total - 21


def test_a_snapshot_of_another_size_is_refused() -> None:
    upscaler = Upscaler(small_networks(causal=True), SETTINGS)
    next(upscaler.feed(video(25)))
    snapshot = to_snapshot(upscaler.states)
    with pytest.raises(ValueError, match=f"has {upscaler.state.bytes} bytes, and a state has 7"):
        from_snapshot(snapshot, CPU, [7])
    with pytest.raises(KeyError):
        from_snapshot(Snapshot({}, snapshot.facts), CPU, [upscaler.state.bytes])
