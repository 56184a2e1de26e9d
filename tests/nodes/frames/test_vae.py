"""VAEs at the nodes: which stream, which fit a model, tiles; a 48-channel model end to end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.model.vae.latent_format import denormalise
from longtake.tests.support.model.other_loader import load_by_host
from longtake.tests.support.model.vaes import host_vae, wan22
from longtake.tests.support.node_bench import CONFIG, Bench
from longtake.tests.support.tiny_model import randn, random_dit


@pytest.fixture
def five_b(bench: Bench, tmp_path: Path) -> Any:
    """A small random model of Wan 2.2 5B's kind."""
    config = DiTConfig(CONFIG.dim, CONFIG.ffn_dim, 2, 1, CONFIG.text_dim, 48, 48)
    said = json.dumps({"transformer": {"num_heads": 2, "text_dim": CONFIG.text_dim}})
    save_file(dict(random_dit(config).state_dict()), tmp_path / "5b.safetensors", {"config": said})
    return load_by_host(tmp_path / "5b.safetensors")


def rolled(bench: Bench, model: Any, **inputs: Any) -> Any:
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=1)
    shot = {"width": 64, "height": 32, "length": 17.0, "length_unit": "frames", **inputs}
    return bench.run("LongtakeSampler", model=model, prompts=prompts, schedule=schedule, **shot)[0]


@torch.inference_mode()
def test_a_keyframe_is_what_a_standing_picture_becomes(bench: Bench) -> None:
    """Of Wan's VAE, by diffusers' encoder; each picture by itself, only the first of a shot as the
    beginning of one.
    """
    theirs, vae = wan22()
    pictures = randn(2, 32, 64, 3).sigmoid()
    [made] = bench.run("LongtakeVAEEncode", pixels=pictures, vae=vae, pictures="later keyframes")
    assert made["samples"].shape == (1, 48, 2, 2, 4)
    for picture, latent in zip(pictures, made["samples"].unbind(2), strict=True):
        still = picture.movedim(-1, 0)[None, :, None] * 2 - 1
        settled, begun = (
            theirs.encode(still.repeat(1, 1, often, 1, 1)).latent_dist.mean[:, :, -1]
            for often in (41, 1)
        )
        assert (latent - settled).norm() < 0.1 * settled.norm() < (latent - begun).norm()
    [opening] = bench.run("LongtakeVAEEncode", pixels=pictures, vae=vae, pictures="keyframes")
    [first] = bench.run("LongtakeVAEEncode", pixels=pictures[:1], vae=vae)
    assert torch.equal(opening["samples"][:, :, :1], first["samples"])
    assert torch.equal(opening["samples"][:, :, 1:], made["samples"][:, :, 1:])


def test_frames_are_keyframes_too_and_their_size_is_checked_before_any_is_made(
    bench: Bench,
) -> None:
    from longtake.nodes.frames.source import DerivedFrames

    frames = bench.frames()
    vae = bench.run("LongtakeLoadDemoModel")[2]
    [made] = bench.run("LongtakeVAEEncode", pixels=frames, vae=vae, pictures="keyframes")
    assert made["samples"].shape[2] == frames.frame_total == 33
    other, done = bench.frames(seed=2), bench.bar("LongtakeSampler")
    odd = DerivedFrames(other, other.chunks)
    odd.width, odd.height = 36, 32
    with pytest.raises(BadInput, match="The pictures are 36x32; scale or crop them to multiples"):
        bench.run("LongtakeVAEEncode", pixels=odd, vae=vae)
    assert bench.bar("LongtakeSampler") == done != []


def test_a_48_channel_model_streams_text_and_a_first_picture(bench: Bench, five_b: Any) -> None:
    theirs, vae = wan22()
    picture = randn(1, 32, 64, 3).sigmoid()
    [encoded] = bench.run("LongtakeVAEEncode", pixels=picture, vae=vae)
    assert encoded["samples"].shape == (1, 48, 1, 2, 4)
    for known in (None, encoded):
        rollout = rolled(bench, five_b, known_frames=known)
        [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
        images = bench.collect(frames)
        latents = torch.cat([c.latents for c in rollout.chunks.read_from(0)])
        assert latents.shape[1:] == (48, 2, 4) and images.shape[1:] == (32, 64, 3)
        whole = theirs.decode(denormalise(latents).transpose(0, 1)[None], return_dict=False)[0]
        expected = ((whole[0].movedim(0, -1) + 1) / 2).clamp(0, 1)
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)
    kept: Tensor = denormalise(latents)[0]
    torch.testing.assert_close(kept, encoded["samples"][0, :, 0], rtol=0, atol=1e-4)


def test_sizes_are_multiples_of_what_a_token_covers(bench: Bench, five_b: Any) -> None:
    with pytest.raises(BadInput, match="width is 48, not a multiple of 32; use 32 or 64"):
        rolled(bench, five_b, width=48)
    with pytest.raises(BadInput, match="scale or crop them to multiples of 16"):
        bench.run("LongtakeVAEEncode", pixels=torch.rand(1, 24, 32, 3), vae=wan22()[1])


def test_a_vae_of_other_latents_is_refused_before_anything_is_made(
    bench: Bench, five_b: Any
) -> None:
    rollout, small = bench.rollout()
    with pytest.raises(BadInput, match=r"48 latent channels \(Wan 2.2\), but the model has 16"):
        bench.run("LongtakeVAEDecode", rollout=rollout, vae=wan22()[1])
    with pytest.raises(BadInput, match=r"16 latent channels \(Wan 2.1\), but the model has 48"):
        bench.run("LongtakeVAEDecode", rollout=rolled(bench, five_b), vae=small)
    [known] = bench.run("LongtakeVAEEncode", pixels=torch.rand(1, 32, 64, 3), vae=small)
    with pytest.raises(
        BadInput, match="known frames have 16 latent channels, but the model has 48"
    ):
        rolled(bench, five_b, known_frames=known)


def test_what_cannot_stream_is_refused(bench: Bench) -> None:
    from longtake.nodes.models.streaming_vae import streaming_vae

    with pytest.raises(BadInput, match="is a Linear, which Longtake cannot stream"):
        streaming_vae(host_vae(nn.Linear(1, 1), 16))
    with pytest.raises(BadInput, match="^The VAE is a number, which Longtake cannot stream"):
        streaming_vae(3)
    with pytest.raises(BadInput, match="has 32 latent channels, but Wan VAEs have 16 or 48"):
        tree = SimpleNamespace(decoder=nn.Sequential(nn.ReLU()), patch_size=2)
        streaming_vae(host_vae(tree, 32))


@pytest.mark.parametrize(("latent_channels", "usual"), [(16, 3), (48, 12)])
def test_pictures_of_more_than_three_colours_are_refused(
    bench: Bench, latent_channels: int, usual: int
) -> None:
    """An upscaling VAE's have four pixels in each, Wan-Alpha's are transparent."""
    from longtake.nodes.models.streaming_vae import streaming_vae

    def vae(channels: int) -> Any:
        head = [nn.SiLU(), nn.Conv3d(2, channels, 1)]
        decoder = SimpleNamespace(upsamples=[], head=head)
        return host_vae(SimpleNamespace(decoder=decoder, conv2=None), latent_channels)

    streaming_vae(vae(usual))
    for channels in (4, 4 * usual):
        with pytest.raises(BadInput, match=f"pictures of {channels} channels in place of {usual},"):
            streaming_vae(vae(channels))


@pytest.mark.parametrize(
    ("noted", "guessed", "raw"),
    [(None, None, True), (None, "scaled", False), (True, "scaled", True), (False, None, False)],
)
def test_a_tiny_vaes_latents_are_as_noted_else_as_the_host_guesses(
    bench: Bench, noted: bool | None, guessed: Any, raw: bool
) -> None:
    from longtake.nodes.models.streaming_vae import RAW_LATENTS, TinyVAE, streaming_vae

    tree = SimpleNamespace(
        decoder=nn.Sequential(nn.ReLU()), patch_size=1, latent_format=guessed, latent_channels=16
    )
    vae = host_vae(tree, 16)
    if noted is not None:
        setattr(vae, RAW_LATENTS, noted)
    streaming = streaming_vae(vae)
    assert isinstance(streaming, TinyVAE) and streaming.raw == raw
    seen: list[Tensor] = []
    tree.decoder[0].forward = lambda x: seen.append(x) or x
    latents = randn(2, 16, 2, 2)
    streaming.open_decoder().feed(latents)
    torch.testing.assert_close(seen[0], denormalise(latents) if raw else latents)


def test_tiles_need_the_memory_of_one_and_keep_what_all_keep(bench: Bench) -> None:
    from longtake.nodes.models.streaming_vae import streaming_vae

    _, vae = wan22()
    whole, tiled = streaming_vae(vae), streaming_vae(vae, 64)
    tile, two = whole.decoder_memory(3, 4, 4), tiled.decoder_memory(3, 4, 7)
    assert two.working_bytes == tile.working_bytes > 0  # 64 pixels are 4 latent columns
    assert two.state_bytes == 2 * tile.state_bytes > 0
    decoder = tiled.open_decoder()
    for _ in range(3):
        decoder.feed(randn(1, 48, 6, 7))
    assert decoder.state_bytes == tiled.decoder_memory(1, 6, 7).state_bytes


def test_tiles_are_chosen_at_the_decoder(bench: Bench) -> None:
    rollout, vae = bench.rollout()
    pictures = []
    for tile_size in (0, 32, 16):
        [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae, tile_size=tile_size)
        pictures.append(bench.collect(frames))
    assert torch.equal(pictures[0], pictures[1])
    assert pictures[2].shape == pictures[0].shape and not torch.equal(pictures[2], pictures[0])


def test_a_reader_that_fell_behind_is_not_measured_again(bench: Bench) -> None:
    """It is decoded anew for, while the report counts what the run has made."""
    frames = bench.frames()
    ahead, behind = iter(frames.chunks), iter(frames.chunks)
    made = [next(ahead).frames for _ in range(2)]
    meter = frames.meter
    assert all(torch.equal(next(behind).frames, pictures) for pictures in made)
    next(ahead)
    assert frames.meter is meter
    assert (frames.report([]).frames, frames.report([]).latent_frames) == (33, 9)


def test_no_memory_for_encoding_is_one_sentence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays the error of torch at which a host unloads its models."""
    from longtake.model.vae.streaming import StreamingEncoder

    def full(encoder: Any, pictures: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StreamingEncoder, "feed", full)
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    says = "ran out while pictures of 64x32 were encoded; free memory, or give smaller pictures;"
    with pytest.raises(torch.OutOfMemoryError, match=says):
        bench.run("LongtakeVAEEncode", pixels=torch.rand(5, 32, 64, 3), vae=vae)
