"""Law 8 on the host's own Wan 2.1 VAE: streaming equals its decode and encode of a whole video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.vae.latent_format import denormalise, normalise
from longtake.model.vae.wan_state import decoder_state_values
from longtake.model.vae.wan_streaming import WanStreamingDecoder, WanStreamingEncoder
from longtake.tests.in_core.support.allocation import WITHIN, allocated
from longtake.tests.in_core.support.wan_vae import needs_bfloat16, random_tree
from longtake.tests.support.model.family_files import State, state

ROWS, COLUMNS = 4, 6


@pytest.fixture(scope="module")
def tree(core: Any) -> Any:
    return random_tree(core)


def latents_of(count: int) -> Tensor:
    return torch.randn(count, 16, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def whole_decode(tree: Any, latents: Tensor) -> Tensor:
    out = tree.decode(denormalise(latents).transpose(0, 1).unsqueeze(0))
    return ((out[0].transpose(0, 1) + 1) / 2).clamp(0, 1)


SPLITS = [[9], [1] * 9, [3, 3, 3], [1, 2, 2, 2, 2], [4, 5], [2, 1, 1, 3, 2], [0, 8, 0, 1]]


@pytest.mark.parametrize("split", SPLITS, ids=str)
@torch.inference_mode()
def test_decode_equals_the_hosts_for_every_chunking(tree: Any, split: list[int]) -> None:
    latents, decoder = latents_of(9), WanStreamingDecoder(tree, torch.float32)
    parts = [decoder.feed(part) for part in latents.split(split)]
    assert [len(part) for part in parts][0] == (4 * split[0] - 3 if split[0] else 0)
    ours, theirs = torch.cat(parts), whole_decode(tree, latents)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


SIZES: list[tuple[int, torch.dtype, tuple[int, int, int]]] = [
    (96, torch.float32, (2, 8, 8)),
    (24, torch.bfloat16, (3, 8, 12)),
    (24, torch.float32, (1, 8, 10)),
]


def host_vae(core: Any, dim: int, dtype: torch.dtype) -> Any:
    """As its loader makes it: it reads the width off the file."""
    from longtake.nodes.models.streaming_vae import streaming_vae

    return streaming_vae(core.sd.VAE(sd=dict(random_tree(core, dim).state_dict()), dtype=dtype))


@pytest.mark.parametrize(("dim", "dtype", "size"), SIZES, ids=str)
def test_the_peak_of_decoding_and_encoding_is_within_5_percent_of_the_plan(
    core: Any, dim: int, dtype: torch.dtype, size: tuple[int, int, int]
) -> None:
    """From the first chunk on; the state to the byte. On one thread: kernels take scratch for each.

    96 channels at full resolution are the official VAE's, 24 LightVAE's.
    """
    vae, (frames, rows, columns) = host_vae(core, dim, dtype), size
    core.model_management.load_models_gpu([vae.patcher])
    decoder, encoder = vae.open_decoder(), vae.open_encoder()
    latents = torch.zeros(frames, 16, rows, columns)
    pictures = torch.zeros(4, 3, 8 * rows, 8 * columns)
    decoding, encoding = (allocated(one, x) for one, x in ((decoder, latents), (encoder, pictures)))
    planned = vae.decoder_memory(*size)
    assert decoder.state_bytes == planned.state_bytes
    assert abs(decoding / (planned.state_bytes + planned.working_bytes) - 1) <= WITHIN
    assert abs(encoding / vae.encoder_bytes(4, *pictures.shape[-2:]) - 1) <= WITHIN


def test_the_state_at_480p_is_1_89_gb_by_plan_and_by_arithmetic(core: Any) -> None:
    planned = host_vae(core, 96, torch.bfloat16).decoder_memory(3, 60, 104)
    assert planned.state_bytes == decoder_state_values() * 60 * 104 * 2 == 1_888_573_440


@needs_bfloat16
def test_a_chunk_at_480p_works_in_less_than_2_gb(core: Any) -> None:
    assert 0.5e9 < host_vae(core, 96, torch.bfloat16).decoder_memory(3, 60, 104).working_bytes < 2e9


@pytest.mark.parametrize(("missing", "exact"), [(0, True), (30, False)])
@torch.inference_mode()
def test_decoding_from_the_overlap_on_is_exact(tree: Any, missing: int, exact: bool) -> None:
    latents = torch.randn(64, 16, 2, 2, generator=torch.Generator().manual_seed(4))
    whole, late = (WanStreamingDecoder(tree, torch.float32) for _ in range(2))
    start = 60 - late.overlap_frames + missing
    whole.feed(latents[:60])
    late.feed(latents[start:60])
    apart = (late.feed(latents[60:]) - whole.feed(latents[60:])).abs().max()
    assert (apart < 1e-5) == exact


@pytest.mark.parametrize(("missing", "exact"), [(0, True), (20, False)])
@torch.inference_mode()
def test_encoding_from_the_overlap_on_is_exact(tree: Any, missing: int, exact: bool) -> None:
    """Where a resumed shot takes up its known video; latents come two by two."""
    frames = torch.rand(4 * 43 + 1, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    whole, late = (WanStreamingEncoder(tree, torch.float32) for _ in range(2))
    start = 40 - late.overlap_frames + missing
    start -= start % 2
    expected = torch.cat([whole.feed(part) for part in frames.split(4)])[40:]
    made = torch.cat([late.feed(part) for part in frames[4 * start :].split(4)])[40 - start :]
    assert torch.equal(made, expected) == exact
    assert (made - expected).abs().max() < 1e-5 or not exact


def frames_of(count: int) -> Tensor:
    seeded = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, 8 * ROWS, 8 * COLUMNS, generator=seeded)


@pytest.mark.parametrize("count", [1, 5, 9, 13, 17])
@pytest.mark.parametrize("step", [1, 3, 4, 100])
@torch.inference_mode()
def test_encode_equals_the_hosts_for_every_chunking(tree: Any, count: int, step: int) -> None:
    frames, encoder = frames_of(count), WanStreamingEncoder(tree, torch.float32)
    parts = [encoder.feed(part) for part in frames.split(step)]
    rest = encoder.drain()
    ours = torch.cat(parts if rest is None else [*parts, rest])
    theirs = tree.encode((2 * frames - 1).transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)
    torch.testing.assert_close(ours, normalise(theirs), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_an_incomplete_end_is_completed_by_its_last_frame(tree: Any) -> None:
    frames, encoder = frames_of(7), WanStreamingEncoder(tree, torch.float32)
    ours = torch.cat([encoder.feed(frames), encoder.drain()])
    padded = torch.cat([frames, frames[-1:], frames[-1:]])
    theirs = tree.encode((2 * padded - 1).transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)
    torch.testing.assert_close(ours, normalise(theirs), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_hosts_vae_object_is_planned_claimed_and_streams(core: Any) -> None:
    """LightVAE's width: the host reads it off the file, and the plan follows."""
    from longtake.nodes.models.streaming_vae import streaming_vae

    weights = random_tree(core, 24).state_dict()
    vae = core.sd.VAE(sd=dict(weights))
    stream = streaming_vae(vae)
    core.model_management.load_models_gpu([stream.patcher])
    decoder, latents = stream.open_decoder(), latents_of(5)
    parts = [decoder.feed(part.to(stream.device)) for part in latents.split([3, 2])]
    whole = vae.decode(denormalise(latents).transpose(0, 1).unsqueeze(0))[0].movedim(-1, 1)
    torch.testing.assert_close(torch.cat(parts).cpu(), whole.float(), rtol=0, atol=0.02)
    assert decoder.state_bytes == stream.decoder_memory(3, ROWS, COLUMNS).state_bytes
    stored = decoder._stream._memory
    assert stored and all(t.untyped_storage().nbytes() == t.nbytes for t in stored)  # no views


def test_weights_count_once_wherever_the_host_has_them(core: Any) -> None:
    """In main memory they are not free any more; of a card they all count, or the largest layer."""
    from longtake.nodes import host

    patcher = host_vae(core, 24, torch.float32).patcher
    core.model_management.load_models_gpu([patcher])
    assert host.weights(patcher) == host.Weights(patcher.model_size(), 0, 0)
    patcher.load_device = torch.device("cuda")
    on_card = host.weights(patcher)
    assert on_card.total_bytes == on_card.counted_bytes == patcher.model_size()
    assert 0 < 4 * on_card.min_bytes < on_card.total_bytes


def test_a_vae_of_other_latents_or_another_kind_is_refused(core: Any) -> None:
    from longtake.errors import BadInput
    from longtake.nodes.models.streaming_vae import streaming_vae

    vae = core.sd.VAE(sd=dict(random_tree(core).state_dict()))
    with pytest.raises(BadInput, match="but the model has 48; connect Load VAE with a Wan 2.2 VAE"):
        streaming_vae(vae).check_fits(48)
    vae.latent_channels = 32
    with pytest.raises(BadInput, match="has 32 latent channels, but Wan VAEs have 16 or 48"):
        streaming_vae(vae)
    vae.first_stage_model = torch.nn.Linear(1, 1)
    with pytest.raises(BadInput, match="is a Linear, which Longtake cannot stream"):
        streaming_vae(vae)


WRONG: dict[str, tuple[Callable[[State], State], str]] = {
    "a tensor is missing": (
        lambda w: {n: t for n, t in w.items() if n != "decoder.middle.0.residual.2.weight"},
        "no whole VAE of Wan 2.1 latents: it has no decoder.middle.0.residual.2.weight; use"),
    "the encoder is missing": (
        lambda w: {n: t for n, t in w.items() if not n.startswith("encoder.")},
        r"odd.safetensors is not a whole VAE that this ComfyUI knows \("),
    "whole numbers": (
        lambda w: {n: t.sign().to(torch.int8) for n, t in w.items()}, "holds .* as whole numbers"),
    "pictures of four pixels each, as an upscaling VAE's": (
        lambda w: w | {f"decoder.head.2.{end}": w[f"decoder.head.2.{end}"].repeat_interleave(4, 0)
                       for end in ("weight", "bias")},
        "makes pictures of 12 channels in place of 3, as upscaling and transparent ones do; conn"),
    "fp8 with scales": (
        lambda w: w | {"conv2.weight": w["conv2.weight"].to(torch.float8_e4m3fn),
                       "conv2.scale_weight": torch.ones(1)},
        r"is a VAE with scales \(conv2.scale_weight\), which ComfyUI would leave out; use an fp16"),
    "a model": (lambda w: state(), "odd.safetensors is a whole diffusion model and no VAE; choose"),
    "anything": (
        lambda w: {"x": torch.ones(2)}, "odd.safetensors is not a VAE that this ComfyUI knows;"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_no_whole_vae_is_refused_by_name(
    core: Any, tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """The core fills what is missing with whatever it finds, and logs it."""
    from longtake.nodes import host
    from longtake.nodes.models.load_vae import LoadWanVAE

    change, sentence = WRONG[case]
    save_file(change(dict(tree.state_dict())), tmp_path / "odd.safetensors")
    monkeypatch.setattr(host, "model_files", lambda folder: ["odd.safetensors"])
    monkeypatch.setattr(host, "model_file", lambda folder, name: tmp_path / name)
    with pytest.raises(BadInput, match=sentence):
        LoadWanVAE.execute("odd.safetensors", "auto", "auto")


@pytest.mark.parametrize("count", [1, 5, 16])
@torch.inference_mode()
def test_a_genuine_clip_streams_as_the_host_does_it_whole(tree: Any, count: int) -> None:
    """Encoded and decoded again in pieces; 33 frames at an eighth of their size."""
    from fractions import Fraction

    from longtake.stream.video.reading.source import FrameRequest, VideoClip
    from longtake.tests.support.clips import pieces
    from longtake.tests.support.real_data import real

    wanted = FrameRequest(Fraction(16), 104, 64, length=33 / 16)
    clip = VideoClip.probe(str(real("cat_832x480_16fps.mp4")), wanted)
    frames = torch.cat([*pieces(clip)])
    encoder = WanStreamingEncoder(tree, torch.float32)
    parts = [encoder.feed(piece) for piece in pieces(clip, count=count)]
    latents = torch.cat([*parts, encoder.drain()])
    theirs = tree.encode((2 * frames - 1).transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)
    torch.testing.assert_close(latents, normalise(theirs), rtol=0, atol=1e-5)
    decoder = WanStreamingDecoder(tree, torch.float32)
    made = torch.cat([decoder.feed(part) for part in latents.split(count)])
    torch.testing.assert_close(made, whole_decode(tree, latents), rtol=0, atol=1e-5)


@pytest.mark.timeout(900)  # two minutes of one core
@torch.inference_mode()
def test_a_genuine_clip_at_full_size_streams_as_the_host_does_it_whole(tree: Any) -> None:
    """832x480, by a Wan VAE a twelfth as wide: 9 frames, three latents."""
    from fractions import Fraction

    from longtake.stream.video.reading.source import FrameRequest, VideoClip
    from longtake.tests.support.clips import pieces
    from longtake.tests.support.real_data import real

    clip = VideoClip.probe(
        str(real("cat_832x480_16fps.mp4")), FrameRequest(Fraction(16), length=9 / 16)
    )
    frames = torch.cat([*pieces(clip)])
    assert frames.shape == (9, 3, 480, 832)
    encoder, decoder = (
        kind(tree, torch.float32) for kind in (WanStreamingEncoder, WanStreamingDecoder)
    )
    latents = torch.cat([*(encoder.feed(one) for one in frames.split(4)), encoder.drain()])
    theirs = tree.encode((2 * frames - 1).transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)
    torch.testing.assert_close(latents, normalise(theirs), rtol=0, atol=1e-5)
    made = torch.cat([decoder.feed(one) for one in latents.split(1)])
    torch.testing.assert_close(made, whole_decode(tree, latents), rtol=0, atol=1e-5)
