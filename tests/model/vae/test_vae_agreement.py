"""A VAE of another model is refused, though it has the right channels; the right one never is."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.benchmarks._shared.demo import demo_vae
from longtake.errors import BadInput
from longtake.model.preset import DEMO
from longtake.model.vae.agreement import LEAST, agreement, correlation, sees
from longtake.model.vae.latent_format import denormalise, normalise
from longtake.model.vae.streaming import StreamingDecoder, StreamingEncoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.stream.video.source import FrameRequest, VideoClip
from longtake.tests.support.clips import pieces
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.real_data import real
from longtake.tests.support.tiny_model import randn, randomise
from longtake.training.world.attributes import random_values
from longtake.training.world.dataset import encode_shots
from longtake.training.world.scene import Shot


@pytest.fixture(scope="module")
def demo() -> TinyVAE:
    return demo_vae()


def agreed(vae: TinyVAE, latent: Tensor) -> float:
    picture = StreamingDecoder(vae).feed(latent[None])[0]
    return agreement(lambda: StreamingEncoder(vae), latent, picture, 8)


def seen(vae: TinyVAE) -> bool:
    return sees(partial(StreamingEncoder, vae), partial(StreamingDecoder, vae), 8, torch.zeros(1))


def rendered(count: int) -> list[Tensor]:
    """First latents of shots of the demo's world, as its VAE makes them."""
    rng = random.Random(3)
    shots = [Shot(((0, random_values(rng)),), rng.randrange(2**31)) for _ in range(count)]
    return [*encode_shots(demo_vae(), shots, 1, DEMO.width)[:, 0].float()]


@torch.no_grad()
def test_a_vae_agrees_with_its_own_latents_and_with_no_others(demo: TinyVAE) -> None:
    """Also where the model leaves a fifth of noise in them, or twice their contrast."""
    latents = rendered(24)
    noise = randn(*latents[0].shape, seed=1)
    changed: list[Callable[[Tensor], Tensor]] = [
        lambda z: z, lambda z: 0.98 * z + 0.2 * noise, lambda z: 2 * z, lambda z: 0.5 * z
    ]  # fmt: skip
    own = [agreed(demo, change(z)) for z in latents for change in changed]
    assert min(own) > 2 * LEAST
    mixed = torch.linalg.qr(randn(16, 16, seed=2))[0]  # the same statistics, other channels
    other = [agreed(demo, torch.einsum("ij,jhw->ihw", mixed, z)) for z in latents]
    assert max(other) < LEAST and seen(demo)


@torch.no_grad()
def test_the_demos_vae_is_refused_for_genuine_wan_latents(demo: TinyVAE) -> None:
    latents = load_file(real("wan21_latents.safetensors"))["latents"].float()[0]
    if latents.shape[0] != 16:
        latents = latents.transpose(0, 1)
    some = range(0, 16, 5)
    found = [agreed(demo, latents[:, t]) for t in some]
    found += [agreed(demo, latents.transpose(0, 1)[:, t]) for t in some]  # the other order
    assert max(found) < LEAST


@torch.no_grad()
@pytest.mark.parametrize("seed", range(6))
def test_a_vae_that_cannot_see_is_not_judged(seed: int) -> None:
    vae = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4)))
    randomise(vae, seed)
    assert not seen(vae)


@pytest.mark.parametrize(
    ("told", "back"),
    [(denormalise, normalise), (normalise, denormalise)],
    ids=["raw", "normalised"],
)
@torch.inference_mode()
def test_a_vae_told_the_wrong_kind_of_latents_cannot_be_told_apart(
    demo: TinyVAE, told: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]
) -> None:
    """It makes of a picture what it was told latents are, so that its own come back: taew for
    lighttae is a matter of names. The demo's VAE stands in, on the genuine clip.
    """
    source = str(real("cat_832x480_16fps.mp4"))
    frame = next(pieces(VideoClip.probe(source, FrameRequest(Fraction(16), 208, 128)), 40, 1))
    latent = StreamingEncoder(demo).feed(frame)
    picture = StreamingDecoder(demo).feed(told(latent))
    again = back(StreamingEncoder(demo).feed(picture))
    assert correlation(latent[0], again[0]) > LEAST


def test_the_wrong_vae_is_one_sentence_and_no_noise(bench: Bench, demo: TinyVAE) -> None:
    """A working VAE with the right channels, given its own latents and then another's."""
    from longtake.nodes.frames.vae import to_latent
    from longtake.nodes.models.demo_objects import DemoVAE

    [own] = rendered(1)
    mixed = torch.linalg.qr(randn(16, 16, seed=2))[0]
    size = {"width": 96, "height": 64, "length": 1.0}
    for latent, fits in ((own, True), (torch.einsum("ij,jhw->ihw", mixed, own), False)):
        known = {"samples": to_latent(latent[None])}
        rollout, random_vae = bench.rollout(known_frames=known, **size)
        [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=DemoVAE(demo))
        if fits:
            assert len(list(frames.chunks)) == 1
        else:
            with pytest.raises(BadInput, match=r"belongs to another model.*[Cc]onnect the VAE of"):
                next(iter(frames.chunks))
        [shown] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=random_vae)
        assert len(list(shown.chunks)) == 1  # random weights are not judged
