"""VAE Decode (Stream) of a LATENT: what VAE Encode (Stream) made is decoded piece by piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import randn

PICTURES = 33


def decoded(bench: Bench, samples: Tensor, **inputs: Any) -> Any:
    vae = bench.run("LongtakeLoadDemoModel")[2]
    [frames] = bench.run("LongtakeVAEDecode", rollout={"samples": samples}, vae=vae, **inputs)
    return frames


@pytest.mark.parametrize("latent_frames", [1, 3, 4, 9])
def test_a_latent_streams_as_it_decodes_at_once(bench: Bench, latent_frames: int) -> None:
    samples = randn(1, 16, latent_frames, 4, 6)
    frames, vae = decoded(bench, samples), bench.run("LongtakeLoadDemoModel")[2]
    assert (frames.width, frames.height, frames.fps) == (48, 32, 16.0)
    images = bench.collect(frames)
    assert len(images) == frames.frame_total == 1 + 4 * (latent_frames - 1)
    torch.testing.assert_close(images, vae.decode(samples)[0].cpu(), atol=1e-5, rtol=0)
    assert len(list(frames.chunks)) == frames.chunk_count


def test_encode_goes_into_decode_and_on_into_every_output(bench: Bench) -> None:
    pictures = torch.rand(PICTURES, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    vae = bench.run("LongtakeLoadDemoModel")[2]
    [latent] = bench.run("LongtakeVAEEncode", pixels=pictures, vae=vae)
    frames = decoded(bench, latent["samples"])
    bench.run("LongtakeSaveVideo", frames=frames, format="png frames")
    saved = [*bench.state.folders["output"].rglob("frame_*.png")]
    assert len(saved) == PICTURES
    bench.run("LongtakePreview", frames=frames)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_reading_from_the_middle_gives_the_same_pictures(bench: Bench, start: int) -> None:
    frames = decoded(bench, randn(1, 16, 12, 4, 4))
    whole = [*frames.chunks.read_from(0)]
    for ours, theirs in zip(frames.chunks.read_from(start), whole[start:], strict=True):
        assert ours.first_frame == theirs.first_frame and ours.index == theirs.index
        torch.testing.assert_close(ours.frames, theirs.frames, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 4, 8, 8), r"is \(1, 4, 8, 8\).*video latent \(1, 16, frames, height, width\)"),
        ((1, 48, 3, 4, 4), "The latent has 48 channels .*the VAE takes 16"),
        ((1, 7, 3, 4, 4), "The latent has 7 channels and the VAE takes 16"),
        ((2, 16, 3, 4, 4), "a batch of 2 videos"),
        ((1, 16, 0, 4, 4), "no frames"),
    ],
)
def test_a_latent_that_is_no_video_for_this_vae_is_refused(
    bench: Bench, shape: tuple[int, ...], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        decoded(bench, torch.ones(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_latent_without_numbers_is_refused_before_it_is_decoded(
    bench: Bench, value: float
) -> None:
    samples = torch.ones(1, 16, 4, 4, 4)
    samples[0, 3, 2] = value
    with pytest.raises(BadInput, match="^The latent has NaN or infinity, which no VAE decodes"):
        decoded(bench, samples)


def test_the_socket_takes_both(bench: Bench) -> None:
    from longtake.nodes.frames.vae import VAEDecodeStream

    [socket] = [i for i in VAEDecodeStream.define_schema().inputs if i.id == "rollout"]
    assert socket.get_io_type() == "ROLLOUT,LATENT"
