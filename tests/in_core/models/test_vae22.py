"""Law 8 on the host's Wan 2.2 VAE and tiny VAEs: streaming equals their own whole videos."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.machine.products import convolves_slowly
from longtake.model.vae.latent_format import WAN21, WAN22, denormalise, normalise
from longtake.model.vae.taehv import taehv_decoder
from longtake.model.vae.taehv_streaming import (
    TAEHVStreamingDecoder,
    TAEHVStreamingEncoder,
)
from longtake.model.vae.wan22_streaming import Wan22StreamingDecoder, Wan22StreamingEncoder
from longtake.model.vae.wan_state import decoder_state_values as wan_state_values
from longtake.samplers.guidance.score import gradient
from longtake.samplers.guidance.scores import Palette, Pictures
from longtake.tests.in_core.support.allocation import WITHIN, allocated
from longtake.tests.in_core.support.wan_vae import random_wan22_tree, randomised

ROWS, COLUMNS = 2, 3
SPLITS = [[1] * 5, [3, 2], [0, 2, 0, 3]]
PIECES = [(1, 1), (9, 3), (9, 100), (11, 4)]  # how many frames, dealt out by how many


@pytest.fixture(scope="module")
def wan22(core: Any) -> Any:
    return random_wan22_tree(core)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def latents_of(channels: int, count: int = 5) -> Tensor:
    return random(1, count, channels, ROWS, COLUMNS)


def frames_of(count: int, factor: int) -> Tensor:
    return random(3, count, 3, factor * ROWS, factor * COLUMNS).sigmoid()


def fed(decoder: Any, latents: Tensor, split: list[int]) -> Tensor:
    return torch.cat([decoder.feed(part) for part in latents.split(split)])


def encoded(encoder: Any, frames: Tensor, step: int) -> Tensor:
    parts = [encoder.feed(part) for part in frames.split(step)]
    rest = encoder.drain()
    return torch.cat(parts if rest is None else [*parts, rest])


@pytest.mark.parametrize("split", SPLITS, ids=str)
@torch.inference_mode()
def test_wan22_decode_equals_the_hosts_for_every_chunking(wan22: Any, split: list[int]) -> None:
    latents = latents_of(48)
    decoder = Wan22StreamingDecoder(wan22, torch.float32)
    whole = wan22.decode(denormalise(latents).transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)
    assert whole.std() > 0.05
    expected = ((whole + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(fed(decoder, latents, split), expected, rtol=0, atol=1e-5)
    decoder.reset()
    torch.testing.assert_close(fed(decoder, latents, split), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("count", "step"), PIECES[:3])
@torch.inference_mode()
def test_wan22_encode_equals_the_hosts_for_every_chunking(
    wan22: Any, count: int, step: int
) -> None:
    frames = frames_of(count, 16)
    ours = encoded(Wan22StreamingEncoder(wan22, torch.float32), frames, step)
    theirs = wan22.encode((2 * frames - 1).transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)
    torch.testing.assert_close(ours, normalise(theirs), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_wan22_state_is_what_the_plan_says_and_does_not_grow(wan22: Any) -> None:
    decoder, sizes = Wan22StreamingDecoder(wan22, torch.float32), []
    for part in latents_of(48, 4).split(1):
        decoder.feed(part)
        sizes.append(decoder.state_bytes)
    assert len(set(sizes[1:])) == 1  # the first latent leaves one frame where there will be two
    narrow = decoder.state_bytes - 2 * 48 * ROWS * COLUMNS * 4  # the latent is not narrower
    full = (wan_state_values(five_b=True) - 2 * 48) * ROWS * COLUMNS * 4
    assert 16 * narrow == full


@pytest.mark.parametrize(("missing", "exact"), [(0, True), (30, False)])
@torch.inference_mode()
def test_wan22_decoding_from_the_overlap_on_is_exact(wan22: Any, missing: int, exact: bool) -> None:
    latents = random(4, 50, 48, 1, 1)
    whole, late = (Wan22StreamingDecoder(wan22, torch.float32) for _ in range(2))
    whole.feed(latents[:48])
    late.feed(latents[48 - late.overlap_frames + missing : 48])
    apart = (late.feed(latents[48:]) - whole.feed(latents[48:])).abs().max()
    assert (apart < 1e-5) == exact


@pytest.mark.parametrize(("missing", "exact"), [(0, True), (20, False)])
@torch.inference_mode()
def test_wan22_encoding_from_the_overlap_on_is_exact(wan22: Any, missing: int, exact: bool) -> None:
    frames = torch.rand(4 * 41 + 1, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    whole, late = (Wan22StreamingEncoder(wan22, torch.float32) for _ in range(2))
    start = 40 - late.overlap_frames + missing
    expected = encoded(whole, frames, 4)[40:]
    made = encoded(late, frames[4 * start :], 4)[40 - start :]
    assert torch.equal(made, expected) == exact


@pytest.fixture(scope="module", params=[16, 48], ids=["taew2_1", "taew2_2"])
def tiny(core: Any, request: pytest.FixtureRequest) -> Any:
    from comfy.taesd.taehv import TAEHV

    return randomised(TAEHV(request.param))


def form_of(tiny: Any) -> Any:
    return {16: WAN21, 48: WAN22}[tiny.latent_channels]


@pytest.mark.parametrize("raw", [False, True], ids=["taew", "lighttae"])
@pytest.mark.parametrize("split", SPLITS, ids=str)
@torch.inference_mode()
def test_tiny_decode_equals_the_hosts_for_every_chunking(
    tiny: Any, split: list[int], raw: bool
) -> None:
    latents = latents_of(tiny.latent_channels)
    given = denormalise(latents) if raw else latents
    whole = tiny.decode(given.transpose(0, 1).unsqueeze(0))[0].transpose(0, 1).clamp(0, 1)
    assert whole.std() > 0.05
    decoder = TAEHVStreamingDecoder(tiny, torch.float32, raw=raw)
    ours = fed(decoder, latents, split)
    torch.testing.assert_close(ours, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("raw", [False, True], ids=["taew", "lighttae"])
@torch.inference_mode()
def test_a_scores_copy_decodes_as_the_host_does_and_has_a_gradient(tiny: Any, raw: bool) -> None:
    latents = latents_of(tiny.latent_channels)
    given = denormalise(latents) if raw else latents
    whole = tiny.decode(given.transpose(0, 1).unsqueeze(0))[0].transpose(0, 1).clamp(0, 1)
    pictures = Pictures(taehv_decoder(tiny.decoder, raw=raw), torch.device("cpu"))
    ours = pictures(latents[2:], latents[:2]).clamp(0, 1)
    torch.testing.assert_close(ours, whole[5:], rtol=0, atol=1e-5)
    score = Palette(((0.9, 0.1, 0.1),), pictures)
    slope = gradient(score, latents[2:], latents[:2], 2)
    better = latents[2:] + 1e-3 * slope / slope.abs().max()
    assert score(better, latents[:2], 2) > score(latents[2:], latents[:2], 2)


@pytest.mark.parametrize("kind", ["wan22", "taew2_1", "taew2_2"])
def test_peaks_are_within_5_percent_of_the_plan(core: Any, kind: str) -> None:
    from longtake.nodes.models.streaming_vae import streaming_vae

    tree, form, cpu = tree_of(kind), WAN21 if kind == "taew2_1" else WAN22, torch.device("cpu")
    vae = streaming_vae(
        SimpleNamespace(
            first_stage_model=tree, latent_channels=form.channels, device=cpu,
            vae_dtype=torch.float32, patcher=SimpleNamespace(load_device=cpu),
        )
    )  # fmt: skip
    decoder, encoder = vae.open_decoder(), vae.open_encoder()
    latents = torch.zeros(2, vae.form.channels, 8, 12)
    pictures = torch.zeros(4, 3, 8 * form.spatial_factor, 12 * form.spatial_factor)
    planned = vae.decoder_memory(2, 8, 12)
    decoding = allocated(decoder, latents)
    assert decoder.state_bytes == planned.state_bytes
    assert abs(decoding / (planned.state_bytes + planned.working_bytes) - 1) <= WITHIN
    encoding = vae.encoder_bytes(4, *pictures.shape[-2:])
    assert abs(allocated(encoder, pictures) / encoding - 1) <= WITHIN


def tree_of(kind: str) -> Any:
    """Random, and wide enough for kernels to work as they do at full width."""
    from comfy.ldm.wan.vae2_2 import WanVAE
    from comfy.taesd.taehv import TAEHV

    if kind == "wan22":
        sizes = {"dim": 32, "dec_dim": 32, "z_dim": 48}
        return randomised(WanVAE(**sizes, temperal_downsample=[False, True, True]))
    return randomised(TAEHV(16 if kind == "taew2_1" else 48))


@pytest.mark.parametrize("raw", [False, True], ids=["taew", "lighttae"])
@pytest.mark.parametrize(("count", "step"), PIECES)
@torch.inference_mode()
def test_tiny_encode_equals_the_hosts_for_every_chunking(
    tiny: Any, count: int, step: int, raw: bool
) -> None:
    frames = frames_of(count, form_of(tiny).spatial_factor)
    ours = encoded(TAEHVStreamingEncoder(tiny, torch.float32, raw=raw), frames, step)
    theirs = tiny.encode(frames.transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)
    torch.testing.assert_close(ours, normalise(theirs) if raw else theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("missing", "exact"), [(0, True), (1, False)])
@torch.inference_mode()
def test_tiny_decoding_from_the_overlap_on_is_exact(tiny: Any, missing: int, exact: bool) -> None:
    latents = latents_of(tiny.latent_channels, 14)
    whole, late = (TAEHVStreamingDecoder(tiny, torch.float32, raw=False) for _ in range(2))
    whole.feed(latents[:12])
    late.feed(latents[12 - late.overlap_frames + missing : 12])
    apart = (late.feed(latents[12:]) - whole.feed(latents[12:])).abs().max()
    assert (apart < 1e-6) == exact


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@torch.inference_mode()
def test_load_wan_vae_gives_the_hosts_own_in_the_dtype_of_choice(
    core: Any, wan22: Any, tiny: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    from longtake.nodes import host
    from longtake.nodes.models import load_vae

    monkeypatch.setattr(host, "model_files", lambda folder: ["taew2_1.safetensors"])
    monkeypatch.setattr(host, "model_file", lambda folder, name: tmp_path / name)
    monkeypatch.setattr(host, "show_status", lambda node_id, text: said.append(text))
    said: list[str] = []
    load = type("Load", (load_vae.LoadWanVAE,), {"hidden": type("H", (), {"unique_id": "1"})})
    for name, tree, raw in (("taew2_1", tiny, False), ("lighttaew2_1", tiny, True)):
        path = tmp_path / f"{name}.safetensors"
        save_file(dict(tree.state_dict()), path)
        [vae] = load.execute(vae_name=path.name, dtype=dtype, latents="auto").args
        stream = load_vae.streaming_vae(vae)
        assert stream.raw == raw and stream.dtype == load_vae.DTYPES[dtype]
        core.model_management.load_models_gpu([stream.patcher])
        latents = latents_of(tree.latent_channels, 3)
        ours = fed(stream.open_decoder(), latents, [1, 2])
        given = denormalise(latents) if raw else latents
        whole = tree.decode(given.transpose(0, 1).unsqueeze(0))[0].transpose(0, 1).clamp(0, 1)
        apart = (ours - whole).abs().max()
        assert apart < (0.03 if dtype == "fp16" else 1e-5)
    assert "it takes raw latents (by the file name)" in said[-1]
    assert ("set dtype to fp32" in said[-1]) == convolves_slowly(stream.device, stream.dtype)


@pytest.mark.parametrize(("missing", "exact"), [(0, True), (2, False)])
@torch.inference_mode()
def test_tiny_encoding_from_the_overlap_on_is_exact(tiny: Any, missing: int, exact: bool) -> None:
    frames = frames_of(4 * 14, 16)
    whole, late = (TAEHVStreamingEncoder(tiny, torch.float32, raw=False) for _ in range(2))
    start = 10 - late.overlap_frames + missing
    expected = encoded(whole, frames, 4)[10:]
    made = encoded(late, frames[4 * start :], 4)[10 - start :]
    assert torch.equal(made, expected) == exact
