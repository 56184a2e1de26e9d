"""The decoder in 8-bit integers: its pictures, its bits whatever the chunks, and its memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.benchmarks._memory.peak import allocator_peak
from longtake.benchmarks._shared.demo import demo_vae
from longtake.errors import BadInput
from longtake.model.preset import DEMO, DEMO_FOLDER, RANGES_NAME
from longtake.model.vae.decoder_memory import tiny_decoder_memory
from longtake.model.vae.int8.decoder import decoding_in_int8
from longtake.model.vae.int8.ranges import load_ranges, save_ranges
from longtake.model.vae.streaming import StreamingDecoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig, decode_all
from longtake.tests.support.int8 import has_amx, needs_int8
from longtake.tests.support.tiny_model import randn, randomise
from longtake.training.evaluation.psnr import psnr
from longtake.training.vae.ranges import measure_ranges
from longtake.training.world.clips import random_shot
from longtake.training.world.dataset import encode_shots
from longtake.training.world.picture_pool import PictureSpec, held_out_clips

pytestmark = needs_int8
DEMO_RANGES = DEMO_FOLDER / RANGES_NAME
LEAST_DB = 47.0
LOST_DB = 0.25  # beside what the VAE itself loses of the truth
KERNEL_BYTES = 1 << 18
"""The most that a kernel for AMX takes for its own copy of such small maps, on one thread."""


@pytest.fixture(scope="module")
def vae() -> TinyVAE:
    return demo_vae()


@pytest.fixture(scope="module")
def coded(vae: TinyVAE) -> TinyVAE:
    return decoding_in_int8(vae, load_ranges(DEMO_RANGES, vae))


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("width", [DEMO.width, 2 * DEMO.width])
def test_pictures_are_those_of_float32(vae: TinyVAE, coded: TinyVAE, width: int) -> None:
    shots = [random_shot(random.Random(seed), 3) for seed in (103, 104)]
    latents = encode_shots(vae, shots, 3, width).float()
    whole = decode_all(vae, latents).clamp(0, 1)
    made = decode_all(coded, latents)
    assert made.dtype == torch.float32
    assert psnr(made, whole) > LEAST_DB


def test_hardly_any_of_the_truth_is_lost(vae: TinyVAE, coded: TinyVAE) -> None:
    truth = held_out_clips(PictureSpec(clips=8))
    latents = vae.encode_groups(
        torch.cat([truth[:, :1].expand(-1, 3, -1, -1, -1), truth], 1), vae.start(vae.encoder)
    )[0]
    exact, made = (psnr(decode_all(one, latents), truth) for one in (vae, coded))
    assert exact - LOST_DB < made < exact + LOST_DB


@pytest.mark.parametrize("split", [[1] * 7, [3, 3, 1], [1, 4, 2]])
def test_it_streams_with_the_same_bits_and_a_quarter_of_the_state(
    vae: TinyVAE, coded: TinyVAE, split: list[int]
) -> None:
    latents = randn(7, 16, 8, 12)
    whole, streamed, exact = (StreamingDecoder(one) for one in (coded, coded, vae))
    parts = [streamed.feed(piece) for piece in latents.split(split)]
    assert torch.equal(whole.feed(latents), torch.cat(parts))
    exact.feed(latents)
    assert whole.state_bytes * 4 == streamed.state_bytes * 4 == exact.state_bytes


def test_threads_and_order_in_memory_do_not_change_a_bit(coded: TinyVAE) -> None:
    latents, threads = randn(3, 16, 8, 12), torch.get_num_threads()
    in_order = latents.contiguous(memory_format=torch.channels_last)
    frames = []
    try:
        for count, given in ((1, latents), (2, latents), (2, in_order)):
            torch.set_num_threads(count)
            frames.append(StreamingDecoder(coded).feed(given))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(frames[0], frames[1]) and torch.equal(frames[0], frames[2])


def test_rows_of_a_batch_are_decoded_as_if_alone(coded: TinyVAE) -> None:
    latents = randn(2, 3, 16, 4, 6)
    for row, one in zip(decode_all(coded, latents), latents, strict=True):
        assert torch.equal(row, decode_all(coded, one[None])[0])


def test_its_memory_is_that_which_the_last_latents_leave(coded: TinyVAE) -> None:
    latents = randn(1, 9, 16, 4, 6)
    _, left = coded.decode_groups(latents, coded.start(coded.decoder))
    reach = coded.decoder_reach
    assert reach < 9
    remembered = coded.memory_of(latents[:, -reach:])
    assert [type(one) for one in remembered] == [Tensor] * len(left)
    assert all(torch.equal(a, b) for a, b in zip(remembered, left, strict=True))


@pytest.mark.parametrize("size", [(3, 8, 12), (1, 8, 12), (3, 16, 24)])
def test_the_peak_is_as_planned(coded: TinyVAE, size: tuple[int, int, int]) -> None:
    planned, decoder = tiny_decoder_memory(coded, *size), StreamingDecoder(coded)
    latents = randn(size[0], 16, *size[1:])
    decoder.feed(latents)
    assert decoder.state_bytes == planned.state_bytes
    beyond = allocator_peak(lambda: decoder.feed(latents)) - planned.working_bytes
    tolerance, kernel_bytes = 0.05 * planned.working_bytes, KERNEL_BYTES * has_amx()
    assert -tolerance <= beyond <= tolerance + kernel_bytes


def test_the_given_vae_stays_as_it_is_and_the_encoder_is_its_own(vae: TinyVAE) -> None:
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    coded = decoding_in_int8(vae, load_ranges(DEMO_RANGES, vae))
    assert coded.encoder is vae.encoder and coded.decoder is not vae.decoder
    assert vae.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


@pytest.mark.parametrize("widths", [(5, 9, 20), (16, 16, 16)])
def test_any_decoder_works_with_ranges_that_were_measured_on_it(
    widths: tuple[int, int, int],
) -> None:
    vae = TinyVAE(TinyVAEConfig(decoder_widths=widths))
    randomise(vae, 2)
    latents = randn(3, 4, 16, 6, 5)
    exact = decode_all(vae, latents)
    made = decode_all(decoding_in_int8(vae, measure_ranges(vae, latents)), latents)
    assert (made - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_a_block_that_is_always_silent_changes_nothing() -> None:
    """As one of the demo's nearly is: what its first convolution makes is never above zero."""
    vae = TinyVAE(TinyVAEConfig(decoder_widths=(16, 16, 16)))
    randomise(vae, 2)
    silent = vae.decoder[2]
    silent.join.weight.zero_()
    silent.join.bias.fill_(-1)
    latents = randn(2, 4, 16, 6, 5)
    ranges = measure_ranges(vae, latents)
    assert not ranges["2.join"].any()
    exact, made = decode_all(vae, latents), decode_all(decoding_in_int8(vae, ranges), latents)
    assert (made - exact).square().mean().sqrt() < 0.05 * exact.std()


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "{}", '{"vae": "", "0": ["a"]}'])
def test_a_damaged_file_of_ranges_is_refused(
    vae: TinyVAE, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ranges.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=r"ranges\.json is missing or damaged .* download it again"):
        load_ranges(path, vae)


def test_ranges_of_other_weights_are_refused(vae: TinyVAE, tmp_path: Path) -> None:
    other = TinyVAE(vae.config)
    randomise(other, 1)
    with pytest.raises(BadInput, match="was measured on another VAE"):
        load_ranges(DEMO_RANGES, other)
    path = tmp_path / "ranges.json"
    measured = measure_ranges(other, randn(1, 2, 16, 2, 3))
    save_ranges(measured, other, path)
    loaded = load_ranges(path, other)
    assert loaded.keys() == measured.keys() == json.loads(DEMO_RANGES.read_text()).keys() - {"vae"}
    for name, largest in measured.items():
        torch.testing.assert_close(loaded[name], largest, rtol=1e-3, atol=1e-3)
