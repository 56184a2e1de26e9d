"""A VAE of another model is doubted, though it has the right channels; the right one is decoded."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.benchmarks._shared.demo import demo_vae
from longtake.errors import BadInput
from longtake.model.families.table import BY_KEY
from longtake.model.preset import DEMO, DEMO_FOLDER
from longtake.model.vae.agreement import LEAST, agreement, correlation, sees
from longtake.model.vae.latent_format import denormalise, normalise
from longtake.model.vae.streaming import StreamingDecoder, StreamingEncoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.stream.video.reading.source import FrameRequest, VideoClip
from longtake.tests.support.clips import pieces
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.real_data import real
from longtake.tests.support.tiny_model import randn, randomise
from longtake.training.evaluation.kit import Recipe, load_kit, sample
from longtake.training.world.attributes import random_values
from longtake.training.world.dataset import encode_shots
from longtake.training.world.scene import Shot


@pytest.fixture(scope="module")
def demo() -> TinyVAE:
    return demo_vae()


def agreed(vae: TinyVAE, latent: Tensor) -> float | None:
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
def test_the_demos_vae_disagrees_with_genuine_wan_latents(demo: TinyVAE) -> None:
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


def lowest_of_340() -> Tensor:
    """The first latent (c, h, w) of a demo shot at 48x32 of which its own VAE keeps least."""
    recipe = Recipe(length=3, rows=4, columns=6, steps=2)
    [chunk] = sample(load_kit(DEMO_FOLDER), recipe, [(0, "a red ball")], 70019)
    return chunk.latents[0]


def test_a_vae_that_loses_much_of_a_latent_is_doubted_and_never_refused(
    bench: Bench, demo: TinyVAE, caplog: pytest.LogCaptureFixture
) -> None:
    """One latent of a small picture proves nothing: the demo's own VAE may look wrong."""
    from longtake.nodes.frames.vae import to_latent
    from longtake.nodes.models.demo_objects import DemoVAE

    [own], lowest = rendered(1), lowest_of_340()
    assert agreed(demo, lowest) < LEAST
    mixed = torch.linalg.qr(randn(16, 16, seed=2))[0]
    other = torch.einsum("ij,jhw->ihw", mixed, own)
    for latent, doubts in ((own, 0), (lowest, 1), (other, 1)):
        caplog.clear()
        known = {"samples": to_latent(latent[None])}
        size = {"width": 8 * latent.shape[2], "height": 8 * latent.shape[1], "length": 1.0}
        rollout, random_vae = bench.rollout(known_frames=known, **size)
        [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=DemoVAE(demo))
        assert len(list(frames.chunks)) == len(list(frames.chunks)) == 1
        assert caplog.text.count("may belong to another model") == doubts
        [shown] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=random_vae)
        assert len(list(shown.chunks)) == 1  # random weights are not judged
        assert caplog.text.count("may belong to another model") == doubts


@pytest.fixture
def judged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The latents by which a VAE is judged, as they come; nothing is doubted.

    The model counts as another than the demo's own file.
    """
    from longtake.nodes.models import streaming_vae

    latents: list[Tensor] = []

    def record(_encoder: object, latent: Tensor, *_: object) -> None:
        latents.append(latent)

    monkeypatch.setattr(streaming_vae, "agreement", record)
    monkeypatch.setattr(streaming_vae, "is_demo_file", lambda model: False)
    return latents


def test_the_demos_own_files_are_not_judged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from longtake.nodes.models import streaming_vae

    def fail(*_: object) -> None:
        raise AssertionError("judged")

    monkeypatch.setattr(streaming_vae, "agreement", fail)
    rollout, vae = bench.rollout()
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    assert len(list(frames.chunks)) > 2


def test_the_first_chunk_does_not_wait_for_the_judgement(
    bench: Bench, judged: list[Tensor]
) -> None:
    rollout, vae = bench.rollout()
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    counts = [(chunk.index, len(judged)) for chunk in frames.chunks]
    assert counts[:3] == [(0, 0), (1, 1), (2, 1)]
    first = next(iter(rollout.chunks))
    assert torch.equal(judged[0], first.latents[0])
    assert len(list(frames.chunks)) == len(counts) and len(judged) == 1


def test_a_shot_that_is_stopped_in_its_first_chunk_is_judged_too(
    bench: Bench, judged: list[Tensor]
) -> None:
    rollout, vae = bench.rollout()
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    for chunk in frames.chunks:
        assert chunk.index == 0 and not judged
        frames.controls.stop()
    assert len(judged) == 1


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_a_latent_without_a_picture_says_nothing_about_a_vae(value: float) -> None:
    vae = demo_vae()
    flat = torch.full((16, 4, 6), value)
    assert agreed(vae, flat) is None


def test_the_demos_vae_and_other_models_are_told_apart_by_what_they_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the files that made them, before anything is decoded; not by the family chosen."""
    from longtake.nodes.models import streaming_vae
    from longtake.nodes.models.model_facts import attach_family

    rollout, vae = bench.rollout()
    attach_family(rollout.claim.model, BY_KEY["self-forcing"], "a test says so")
    bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    monkeypatch.setattr(streaming_vae, "is_demo", lambda model: False)
    with pytest.raises(BadInput, match="The VAE is the demo's, and the model is Self-Forcing"):
        bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    monkeypatch.undo()
    wan = SimpleNamespace(patcher=None, device=None, vae_dtype=None, first_stage_model=None)
    with pytest.raises(BadInput, match="connect the VAE of Load Demo Model"):
        streaming_vae.check_belongs(streaming_vae.StreamingVAE(wan), rollout.claim.model, 16)
