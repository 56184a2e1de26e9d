"""FlashVSR as a stream: any chunking gives the same frames, as many as were fed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from longtake.attention.lcsa import masked
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.memory import pass_memory
from longtake.model.flashvsr.passes import Networks, PassRule, passes_for
from longtake.model.flashvsr.sizes import Sizes
from longtake.model.flashvsr.tiles import Tiling
from longtake.model.flashvsr.upscaler import Upscaler, UpscaleSettings
from longtake.tests.support.model.flashvsr import (
    SMALL,
    SMALL_DIT,
    noise_of,
    small_decoder,
    small_networks,
)
from longtake.tests.support.tiny_model import randn

SIDE = 32  # of the small frames; four times that is one block
RULE = PassRule(0.05, 3)  # 2 pairs of the 4 that a picture of one block has


def settings(
    width: int = 4 * SIDE, height: int = 4 * SIDE, rule: PassRule = RULE
) -> UpscaleSettings:
    canvas = Canvas(width, height)
    rows, columns = canvas.full_height // 8, canvas.full_width // 8
    return UpscaleSettings(canvas, lambda latents: noise_of(latents, rows, columns), rule)


def video(frames: int, width: int = SIDE, height: int = SIDE) -> Tensor:
    coarse = randn(1, 3, 4, 3, 5, seed=frames).mul(0.3).add(0.5).clamp(0, 1)
    size = frames, height, width
    return torch.nn.functional.interpolate(coarse, size, mode="trilinear")[0].transpose(0, 1)


def upscale(networks: Networks, frames: Tensor, parts: list[int], **how: int) -> Tensor:
    upscaler = Upscaler(networks, settings(**how))
    ready = [sharp for part in frames.split(parts) for sharp in upscaler.feed(part)]
    return torch.cat([*ready, *upscaler.drain()])


@pytest.fixture(scope="module")
def networks() -> Networks:
    return small_networks(causal=True)


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("causal", [False, True])
def test_frames_fed_in_any_parts_are_upscaled_alike(causal: bool) -> None:
    networks, frames = small_networks(causal=causal), video(38)
    whole = upscale(networks, frames, [38])
    for parts in ([1] * 38, [9, 12, 12, 5], [24, 1, 8, 5]):
        assert torch.equal(upscale(networks, frames, parts), whole)


def test_enlarging_stays_within_the_colours_of_the_frames() -> None:
    """Bicubic overshoots at an edge; the authors' frames have 8 bits, which end at 0 and 255."""
    edge = torch.zeros(1, 3, SIDE, SIDE)
    edge[..., SIDE // 2 :] = 1
    raw = torch.nn.functional.interpolate(edge, scale_factor=4, mode="bicubic", antialias=True)
    entered = Canvas(4 * SIDE, 4 * SIDE).enter(edge)
    assert raw.max() > 1.01 and raw.min() < -0.01
    assert torch.equal(entered, raw.clamp(0, 1) * 2 - 1)


@pytest.mark.parametrize("count", [1, 4, 5, 20, 21, 22, 29, 30, 37])
def test_as_many_frames_come_out_as_went_in(networks: Networks, count: int) -> None:
    upscaler = Upscaler(networks, settings())
    ready = sum(map(len, upscaler.feed(video(count))))
    assert ready == (0 if count < 25 else 21 + (count - 25) // 8 * 8)
    assert ready + sum(map(len, upscaler.drain())) == count
    assert upscaler.state.passes == passes_for(count)
    assert not [*upscaler.drain()]


def test_frames_do_not_depend_on_those_more_than_a_pass_later(networks: Networks) -> None:
    frames = video(40)
    changed = torch.cat([frames[:25], 1 - frames[25:]])
    first, second = (upscale(networks, x, [40])[:21] for x in (frames, changed))
    assert torch.equal(first, second)


def test_a_stream_takes_constant_memory(networks: Networks) -> None:
    upscaler, sizes = Upscaler(networks, settings()), []
    for _ in range(8):
        assert sum(map(len, upscaler.feed(video(8)))) in (0, 8, 21)
        sizes.append(upscaler.state.bytes)
    assert sizes[3] > 0 and len({*sizes[3:]}) == 1


def test_a_state_is_a_value_from_which_two_streams_can_go_on(networks: Networks) -> None:
    frames = video(41)
    first = Upscaler(networks, settings())
    assert [*map(len, first.feed(frames[:25]))] == [21]
    state = first.state
    [expected] = first.feed(frames[25:33])
    second = Upscaler(networks, settings(), [state])
    assert torch.equal(next(second.feed(frames[25:33])), expected)
    first_end, second_end = (torch.cat([*stream.drain()]) for stream in (first, second))
    assert torch.equal(first_end, second_end) and len(first_end) == 4
    assert state.passes == 1


def test_pictures_of_any_size_come_back_in_their_size(networks: Networks) -> None:
    frames = video(3, 50, 36)
    sharp = upscale(networks, frames, [3], width=200, height=144)
    assert sharp.shape == (3, 3, 144, 200)
    assert sharp.min() >= 0 and sharp.max() <= 1


def test_gathered_passes_equal_those_of_dense_attention_with_a_mask(networks: Networks) -> None:
    frames = video(29, 64, 64)
    fast, reference = (
        next(Upscaler(networks, settings(256, 256, rule)).feed(frames))
        for rule in (RULE, replace(RULE, attend=masked.attend_pairs))
    )
    torch.testing.assert_close(fast, reference, rtol=0, atol=1e-5)


def test_decoding_in_parts_equals_decoding_at_once() -> None:
    decoder, latents = small_decoder(), randn(6, 16, 8, 12, seed=1)
    guide = randn(21, 3, 64, 96, seed=2)
    with torch.no_grad():
        whole, left = decoder.decode(latents, guide, [])
        memory, parts, read = [], [], 0
        for part in latents.split([1, 3, 2]):
            count = 4 * len(part) - (0 if memory else 3)
            frames, memory = decoder.decode(part, guide[read : read + count], memory)
            parts.append(frames)
            read += count
    assert read == 21 == len(whole)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(memory, left, rtol=0, atol=1e-5)


def test_enlarging_is_pillows_bicubic() -> None:
    """The authors enlarge with Pillow, which rounds to whole numbers of 255."""
    picture = (video(1, 40, 24)[0] * 255).round().to(torch.uint8)
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    large = np.asarray(image.resize((160, 96), Image.Resampling.BICUBIC))
    expected = torch.from_numpy(large.copy()).permute(2, 0, 1)[None].float()
    canvas = Canvas(160, 96)
    inside = canvas.leave(canvas.enter(picture[None].float() / 255)) * 255
    assert (inside - expected).abs().max() < 1.5  # rows, then columns
    assert (canvas.full_width, canvas.full_height) == (256, 128)


@pytest.mark.parametrize("causal", [False, True])
def test_the_state_takes_exactly_the_planned_bytes(causal: bool) -> None:
    networks = small_networks(causal=causal)
    upscaler, canvas = Upscaler(networks, settings(250, 120)), Canvas(250, 120)
    sizes = Sizes(SMALL_DIT, networks.projector.config, SMALL.widths, torch.float32, 6)
    for frames in (25, 8):
        assert len([*upscaler.feed(video(frames, 64, 32))]) == 1
        assert upscaler.state.bytes == pass_memory(sizes, Tiling(canvas)).state_bytes
