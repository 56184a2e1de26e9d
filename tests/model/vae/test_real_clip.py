"""Law 8 on a genuine clip (832x480, 81 frames, h264): streaming equals the whole, and no frame more
of it makes it hold more. The demo's VAE does it here; the host's do in tests/in_core.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from longtake.benchmarks._shared.demo import demo_vae
from longtake.model.memory import peak_bytes
from longtake.model.vae.streaming import StreamingDecoder, StreamingEncoder
from longtake.model.vae.tiny import TinyVAE, decode_all, encode_all
from longtake.stream.video.reading.source import FrameRequest, VideoClip
from longtake.tests.support.clips import pieces
from longtake.tests.support.real_data import real

WIDTH, HEIGHT = 104, 64  # an eighth: the whole video is decoded at once for comparison


@pytest.fixture(scope="module")
def vae() -> TinyVAE:
    return demo_vae()


def clip(frames: int = 81) -> VideoClip:
    source = str(real("cat_832x480_16fps.mp4"))
    return VideoClip.probe(source, FrameRequest(Fraction(16), WIDTH, HEIGHT, length=frames / 16))


@pytest.fixture(scope="module")
def whole(vae: TinyVAE) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, their latents, and those decoded, each all at once."""
    frames = torch.cat([*pieces(clip())])
    latents = encode_all(vae, frames[None])[0]
    return frames, latents, decode_all(vae, latents[None])[0].clamp(0, 1)


def test_the_clip_is_read_whole(whole: tuple[Tensor, Tensor, Tensor]) -> None:
    own = VideoClip.probe(str(real("cat_832x480_16fps.mp4")), FrameRequest(Fraction(16)))
    assert (own.width, own.height, own.frame_total) == (832, 480, 81)
    assert whole[0].shape == (81, 3, HEIGHT, WIDTH) and 0.05 < whole[0].std() < 0.5


@pytest.mark.parametrize("count", [1, 7, 81])
@torch.no_grad()
def test_streaming_encode_of_a_genuine_clip_is_the_whole_ones(
    vae: TinyVAE, whole: tuple[Tensor, Tensor, Tensor], count: int
) -> None:
    encoder = StreamingEncoder(vae)
    parts = [encoder.feed(piece) for piece in pieces(clip(), count=count)]
    assert encoder.drain() is None  # 81 is 1 + 4 x 20
    torch.testing.assert_close(torch.cat(parts), whole[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("split", [[1] * 21, [3] * 7, [1, 16, 4]], ids=len)
@torch.no_grad()
def test_streaming_decode_of_a_genuine_clip_is_the_whole_ones(
    vae: TinyVAE, whole: tuple[Tensor, Tensor, Tensor], split: list[int]
) -> None:
    """To the pixel: the 8 bits of a file are the same but where a value lies on an edge."""
    decoder = StreamingDecoder(vae)
    made = torch.cat([decoder.feed(part) for part in whole[1].split(split)])
    torch.testing.assert_close(made, whole[2], rtol=0, atol=1e-5)
    other = (made.mul(255).round() != whole[2].mul(255).round()).float().mean()
    assert other < 1e-4


def test_more_frames_hold_no_more(vae: TinyVAE, whole: tuple[Tensor, Tensor, Tensor]) -> None:
    """The most bytes of tensors alive at once, from the file to decoded pictures."""

    def through(frames: int) -> int:
        encoder, decoder = StreamingEncoder(vae), StreamingDecoder(vae)

        def run() -> None:
            for piece in pieces(clip(frames), count=8):
                decoder.feed(encoder.feed(piece))

        return peak_bytes(run)

    short, long = through(33), through(81)
    assert 0 < long <= 1.01 * short
    assert 4 * long < peak_bytes(lambda: decode_all(vae, whole[1][None]))
