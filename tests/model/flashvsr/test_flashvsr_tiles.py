"""FlashVSR in tiles: what they cover, what they equal, and how visible a seam is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.model.config import DiTConfig
from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.color import keep_colors
from longtake.model.flashvsr.memory import pass_memory
from longtake.model.flashvsr.passes import PassRule, PassState, run_pass
from longtake.model.flashvsr.projector import ProjectorConfig
from longtake.model.flashvsr.replay import from_snapshot, to_snapshot
from longtake.model.flashvsr.sizes import Sizes
from longtake.model.flashvsr.tiles import OVERLAP, Tiling
from longtake.model.flashvsr.upscaler import Upscaler, UpscaleSettings
from longtake.tests.support.model.flashvsr import noise_of, small_networks

CPU = torch.device("cpu")
WIDE = Canvas(384, 128)  # two tiles of 256, which share 128 columns


def settings(canvas: Canvas, side: int = 0) -> UpscaleSettings:
    rows, columns = canvas.full_height // 8, canvas.full_width // 8
    rule = PassRule(0.1, 3)
    return UpscaleSettings(
        canvas, lambda latents: noise_of(latents, rows, columns), rule, keep_colors, side
    )


def video(frames: int, canvas: Canvas = WIDE) -> Tensor:
    """Soft shapes that fill the picture."""
    coarse = torch.rand(frames, 3, 3, 5, generator=torch.Generator().manual_seed(5))
    size = canvas.height // 4, canvas.width // 4
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")


@pytest.mark.parametrize("side", [0, 256, 384, 512, 1024])
@pytest.mark.parametrize(("width", "height"), [(128, 128), (1408, 768), (640, 514), (2560, 1440)])
def test_tiles_cover_the_picture_once(width: int, height: int, side: int) -> None:
    tiling = Tiling(Canvas(width, height), side)
    full = tiling.canvas.full_height, tiling.canvas.full_width
    shares, counts = torch.zeros(full), torch.zeros(full)
    for tile, weight in zip(tiling.tiles, tiling.weights(CPU), strict=True):
        assert tile.height in (side, full[0]) and tile.width in (side, full[1])
        assert not any(number % 128 for number in (tile.top, tile.left, tile.height, tile.width))
        tile.of(shares).add_(weight)
        tile.of(counts).add_(1)
        assert weight.min() >= 0 and weight.shape == (tile.height, tile.width)
    torch.testing.assert_close(shares, torch.ones(full))
    assert counts.min() == 1
    if side and max(full) > side:
        assert (counts > 1).sum() >= OVERLAP * min(full)


def test_one_tile_is_the_whole_picture_to_the_bit() -> None:
    networks, frames = small_networks(causal=True), video(29)
    whole, tiled = (
        torch.cat([*upscaler.feed(frames), *upscaler.drain()])
        for upscaler in (Upscaler(networks, settings(WIDE, side)) for side in (0, 384))
    )
    assert torch.equal(whole, tiled)


def test_each_tile_is_a_video_of_its_own() -> None:
    """Two passes against a loop over tiles, with a fade that is written out here."""
    networks, frames = small_networks(causal=True), video(33)
    upscaler = Upscaler(networks, settings(WIDE, 256))
    tiled = torch.cat([*upscaler.feed(frames)])
    entered, parts = WIDE.enter(frames), []
    for left in (0, 128):
        state, made = PassState(), []
        for first, last in ((0, 25), (25, 33)):
            noise = noise_of(state.latents, 16, 48)[..., left // 8 : left // 8 + 32]
            crop = entered[first:last, :, :, left : left + 256]
            with torch.no_grad():
                sharp, state = run_pass(networks, PassRule(0.1, 3), state, crop, noise)
            made.append(sharp)
        parts.append(torch.cat(made))
    fade = ((torch.arange(128) + 0.5 - 32) / 64).clamp(0, 1)
    middle = parts[0][..., 128:] * (1 - fade) + parts[1][..., :128] * fade
    expected = torch.cat([parts[0][..., :128], middle, parts[1][..., 128:]], -1)
    torch.testing.assert_close(tiled, WIDE.leave(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("restores", [False, True])
def test_a_video_of_tiles_ends_after_a_whole_pass(restores: bool) -> None:
    """No frame waits then; the end is that of a video whose last frame stays, also elsewhere."""
    networks, frames = small_networks(causal=True), video(33)
    upscaler = Upscaler(networks, settings(WIDE, 256))
    ready = [*upscaler.feed(frames)]
    if restores:
        upscaler = Upscaler(networks, settings(WIDE, 256), upscaler.states)
    tiled = torch.cat([*ready, *upscaler.drain()])
    stays = torch.cat([frames, frames[-1:].expand(8, -1, -1, -1)])
    assert torch.equal(
        tiled, torch.cat([*Upscaler(networks, settings(WIDE, 256)).feed(stays)])[:33]
    )


def test_the_seam_is_no_step() -> None:
    """The largest step of the error from one column to the next, against tiles that are cut."""
    networks, frames = small_networks(causal=True), video(25)
    whole, tiled = (
        next(Upscaler(networks, settings(WIDE, side)).feed(frames)) for side in (0, 256)
    )
    cut = [torch.zeros(128, 256), torch.zeros(128, 256)]
    cut[0][:, :192], cut[1][:, 64:] = 1, 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tiling, "weights", lambda *_: cut)
        [hard] = Upscaler(networks, settings(WIDE, 256)).feed(frames)
    soft, cut_off = ((x - whole).diff(dim=-1).abs().mean((0, 1, 2)) for x in (tiled, hard))
    assert cut_off.argmax() == 191  # where the tiles were cut
    assert soft[191] < 0.5 * cut_off[191] and soft.max() < cut_off.max()
    assert soft.max() < 0.1 * whole.diff(dim=-1).abs().mean()


def test_a_snapshot_holds_the_state_of_every_tile() -> None:
    networks, frames = small_networks(causal=True), video(33)
    upscaler = Upscaler(networks, settings(WIDE, 256))
    next(upscaler.feed(frames[:25]))
    sizes = [state.bytes for state in upscaler.states]
    assert len(sizes) == 2
    states = from_snapshot(to_snapshot(upscaler.states), CPU, sizes)
    again = Upscaler(networks, settings(WIDE, 256), states)
    assert torch.equal(next(again.feed(frames[25:])), next(upscaler.feed(frames[25:])))


def test_tiles_take_less_memory_of_a_card() -> None:
    """The state of one tile stays there, those of the others in main memory."""
    config, canvas = DiTConfig(384, 1536, 3, 4, 64), Canvas(640, 384)
    projector = ProjectorConfig(256, 384, 384, 1, causal=True)
    sizes = Sizes(config, projector, (128, 64, 32, 32), torch.bfloat16, 16)
    whole, tiled = (pass_memory(sizes, Tiling(canvas, side), "cuda") for side in (0, 256))
    assert len(tiled.tile_bytes) == 8 and tiled.state_bytes == max(tiled.tile_bytes)
    assert tiled.state_bytes * 3 < whole.state_bytes == sum(whole.tile_bytes)
    assert tiled.working_bytes < whole.working_bytes
    on_cpu = pass_memory(sizes, Tiling(canvas, 256), "cpu")
    assert on_cpu.state_bytes == sum(tiled.tile_bytes)
