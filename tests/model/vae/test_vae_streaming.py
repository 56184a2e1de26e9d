"""Law 8: streaming encode and decode equal all-at-once, however the input is dealt out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.model.memory import peak_bytes
from longtake.model.vae.decoder_memory import tiny_decoder_memory
from longtake.model.vae.latent_format import (
    denormalise,
    frame_count,
    latent_frame_count,
    normalise,
)
from longtake.model.vae.precision import decoding_in
from longtake.model.vae.streaming import StreamingDecoder, StreamingEncoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig, decode_all, encode_all
from longtake.tests.support.laws import examples
from longtake.tests.support.model.vaes import VAE
from longtake.tests.support.tiny_model import randn

ROWS, COLUMNS = 2, 3  # of the latents: an odd size


def frames_of(count: int) -> Tensor:
    """Random frames (n, 3, H, W) in [0, 1]."""
    return randn(count, 3, 8 * ROWS, 8 * COLUMNS).sigmoid()


def latents_of(count: int) -> Tensor:
    """Random latents (f, 16, h, w)."""
    return 2 * randn(count, 16, ROWS, COLUMNS)


def dealt(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """x in pieces of `sizes`, the rest as one more."""
    parts, at = [], 0
    for size in sizes:
        parts.append(x[at : at + size])
        at += size
    return [*parts, x[at:]]


pieces = st.lists(st.integers(0, 6), max_size=8)


@examples(25)
@given(count=st.integers(1, 9), sizes=pieces)
def test_streaming_decode_equals_all_at_once(count: int, sizes: list[int]) -> None:
    latents, decoder = latents_of(count), StreamingDecoder(VAE)
    ours = torch.cat([decoder.feed(part) for part in dealt(latents, sizes)])
    assert decoder.drain() is None
    assert len(ours) == frame_count(count)
    expected = decode_all(VAE, latents[None])[0].clamp(0, 1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@examples(25)
@given(groups=st.integers(0, 5), sizes=pieces)
def test_streaming_encode_equals_all_at_once(groups: int, sizes: list[int]) -> None:
    frames, encoder = frames_of(1 + 4 * groups), StreamingEncoder(VAE)
    ours = torch.cat([encoder.feed(part) for part in dealt(frames, sizes)])
    assert encoder.drain() is None
    torch.testing.assert_close(ours, encode_all(VAE, frames[None])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 8, 9])
def test_drain_completes_the_last_latent_by_repeating_the_last_frame(count: int) -> None:
    frames, encoder = frames_of(count), StreamingEncoder(VAE)
    parts = [encoder.feed(frame[None]) for frame in frames]  # one frame at a time
    rest = encoder.drain()
    ours = torch.cat([*parts, *([] if rest is None else [rest])])
    padded = torch.cat([frames, frames[-1:].expand(-(count - 1) % 4, -1, -1, -1)])
    torch.testing.assert_close(ours, encode_all(VAE, padded[None])[0], rtol=1e-5, atol=1e-5)
    assert len(ours) == latent_frame_count(count)
    assert encoder.drain() is None


def test_one_latent_at_a_time_gives_one_frame_then_four_each() -> None:
    decoder = StreamingDecoder(VAE)
    assert [len(decoder.feed(latent[None])) for latent in latents_of(4)] == [1, 4, 4, 4]


def test_reset_begins_a_new_video() -> None:
    latents, frames = latents_of(3), frames_of(7)
    decoder, encoder = StreamingDecoder(VAE), StreamingEncoder(VAE)
    first, coded = decoder.feed(latents), encoder.feed(frames)
    decoder.reset()
    encoder.reset()
    assert torch.equal(decoder.feed(latents), first)
    assert torch.equal(encoder.feed(frames), coded)


def test_the_state_does_not_grow() -> None:
    decoder, encoder = StreamingDecoder(VAE), StreamingEncoder(VAE)
    sizes = set()
    for _ in range(6):
        decoder.feed(latents_of(2))
        encoder.feed(frames_of(4))
        sizes.add((decoder.state_bytes, encoder.state_bytes))
    assert len(sizes) == 1


@pytest.mark.parametrize(("missing", "exact"), [(0, True), (1, False)])
def test_decoding_from_the_overlap_on_is_exact_and_from_less_is_not(
    missing: int, *, exact: bool
) -> None:
    latents, whole, late = latents_of(12), StreamingDecoder(VAE), StreamingDecoder(VAE)
    start = 8 - late.overlap_frames + missing
    whole.feed(latents[:start])
    for decoder in (whole, late):
        decoder.feed(latents[start:8])
    assert torch.equal(late.feed(latents[8:]), whole.feed(latents[8:])) == exact


@pytest.mark.parametrize(("missing", "exact"), [(0, True), (1, False)])
def test_encoding_from_the_overlap_on_is_exact_and_from_less_is_not(
    missing: int, *, exact: bool
) -> None:
    frames, whole, late = (
        randn(49, 3, 8, 16).sigmoid(),
        StreamingEncoder(VAE),
        StreamingEncoder(VAE),
    )
    start = 8 - late.overlap_frames + missing
    expected = torch.cat([whole.feed(part) for part in frames.split(4)])[8:]
    made = torch.cat([late.feed(part) for part in frames[4 * start :].split(4)])[8 - start :]
    assert torch.equal(made, expected) == exact


@pytest.mark.parametrize("frames", range(12))
def test_frame_and_latent_counts_are_each_others_inverse(frames: int) -> None:
    covered = frame_count(latent_frame_count(frames))
    assert frames <= covered < frames + 4
    assert latent_frame_count(covered) == latent_frame_count(frames)


def test_normalising_is_undone_and_gives_wans_own_statistics() -> None:
    """Channel 0 and 15 by hand: (raw - mean) / std with Wan 2.1's constants."""
    raw = randn(1, 2, 16, 2, 3)
    torch.testing.assert_close(denormalise(normalise(raw)), raw)
    ours = normalise(raw)
    torch.testing.assert_close(ours[:, :, 0], (raw[:, :, 0] + 0.7571) / 2.8184)
    torch.testing.assert_close(ours[:, :, 15], (raw[:, :, 15] + 0.2921) / 1.9160)


def test_other_layouts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"latents must be \(n, 16, rows, columns\)"):
        StreamingDecoder(VAE).feed(torch.zeros(1, 2, 16, 2, 3))
    with pytest.raises(ValueError, match=r"frames must be \(n, 3, rows, columns\)"):
        StreamingEncoder(VAE).feed(torch.zeros(2, 16, 24, 3))


def copied_weights(operator: Any, arguments: Sequence[Any], output: Any) -> int:
    """Bytes of a convolution on a CPU beside its output."""
    is_convolution = operator is torch.ops.aten.convolution.default
    return arguments[1].nbytes if is_convolution else 0


@pytest.mark.parametrize("size", [(3, 8, 12), (1, 5, 9), (8, 16, 6)])
@pytest.mark.parametrize("widths", [(40, 64, 128), (16, 8, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_decoders_memory_is_as_a_rehearsal_finds_it(
    size: tuple[int, int, int], widths: tuple[int, int, int], dtype: torch.dtype
) -> None:
    """The state to the byte; the most that a chunk takes, with copies of weights, to 5 %."""
    vae = decoding_in(dtype, TinyVAE(TinyVAEConfig(decoder_widths=widths)))
    planned = tiny_decoder_memory(vae, *size)
    frames, rows, columns = size
    decoder = StreamingDecoder(vae.to("meta"))
    latents = torch.empty(frames, 16, rows, columns, device="meta")
    decoder.feed(latents)
    assert decoder.state_bytes == planned.state_bytes
    peak = peak_bytes(lambda: decoder.feed(latents), copied_weights)
    assert abs(peak - planned.working_bytes) < 0.05 * peak
