"""What scores on pictures see: the frames that a stream will show, for every tiny VAE."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.model.vae.streaming import StreamingDecoder
from longtake.model.vae.taehv import taehv_decoder
from longtake.model.vae.taehv_streaming import TAEHVStreamingDecoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Guidance, Score, WeightedScore
from longtake.samplers.guidance.score import SCORE_LOOKBACK_FRAMES, gradient
from longtake.samplers.guidance.scores import Palette, Pictures, Region
from longtake.samplers.loop import generate
from longtake.samplers.planning.memory import rollout_memory
from longtake.samplers.solvers.single_step import Euler, ReNoise, Solver
from longtake.stream.rollout_file.recipe import from_record, to_record
from longtake.tests.support.model.taehv_tree import taehv_tree, taehv_vae
from longtake.tests.support.model.vaes import host_vae
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import (
    TINY,
    randn,
    random_dit,
    randomise,
    settings,
)

CPU = torch.device("cpu")
KINDS = ["demo", "taew2_1", "lighttaew2_1", "taew2_2", "lighttaew2_2"]
ROWS, COLUMNS, MANY = 2, 3, 12


def channels_of(kind: str) -> int:
    return 48 if kind.endswith("2_2") else 16


def decoders(kind: str) -> tuple[Pictures, Callable[[], Any]]:
    """What a score decodes with, and what opens a stream of the same VAE."""
    if kind == "demo":
        demo = TinyVAE(TinyVAEConfig((4, 4, 4), (8, 8, 8)))
        randomise(demo, 3)
        return Pictures(demo, CPU), lambda: StreamingDecoder(demo)
    tree, raw = taehv_tree(channels_of(kind)), kind.startswith("light")
    opened = lambda: TAEHVStreamingDecoder(tree, torch.float32, raw=raw)  # noqa: E731
    return Pictures(taehv_decoder(tree.decoder, raw=raw), CPU), opened


def latents_of(kind: str, count: int = MANY, seed: int = 0) -> Tensor:
    return randn(count, channels_of(kind), ROWS, COLUMNS, seed=seed)


@pytest.mark.each_value
@pytest.mark.parametrize("first", [1, 2, 7, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_after_finished_ones_are_those_of_the_stream(kind: str, first: int) -> None:
    """With as many as a rollout keeps, or with all that there are."""
    (pictures, opened), latents = decoders(kind), latents_of(kind)
    stream = opened()
    stream.feed(latents[:first])
    shown = stream.feed(latents[first:])
    assert shown.std() > 0.05
    ours = pictures(latents[first:], latents[max(0, first - SCORE_LOOKBACK_FRAMES) : first])
    torch.testing.assert_close(ours.clamp(0, 1), shown, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_latent_frame_is_one_frame_as_in_a_stream(kind: str) -> None:
    (pictures, opened), latents = decoders(kind), latents_of(kind, 3)
    ours = pictures(latents, latents[:0]).clamp(0, 1)
    assert len(ours) == 9
    torch.testing.assert_close(ours, opened().feed(latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_keeps_as_many_frames_as_a_decoder_looks_back(kind: str) -> None:
    """Not one fewer would do; more change nothing, not a bit."""
    (pictures, opened), latents = decoders(kind), latents_of(kind).double()
    pictures.decoder.double()  # what is far back is a small part of what is seen
    reach = pictures.decoder.decoder_reach
    assert reach == opened().overlap_frames <= SCORE_LOOKBACK_FRAMES
    whole, exact, less = (
        pictures(latents[-2:], latents[-2 - n : -2]) for n in (MANY - 2, reach, reach - 1)
    )
    assert torch.equal(whole, exact) and not torch.allclose(exact, less, rtol=0, atol=1e-12)


def test_a_half_precision_vae_made_in_inference_mode_gives_a_float32_copy() -> None:
    with torch.inference_mode():
        tree = taehv_tree().to(torch.float16)
        pictures = Pictures(taehv_decoder(tree.decoder, raw=False), CPU)
        latents = latents_of("taew2_1", 2)
        slope = gradient(Palette(((0.9, 0.1, 0.1),), pictures), latents, latents[:1], 1)
    assert slope.any() and {p.dtype for p in pictures.decoder.parameters()} == {torch.float32}
    ours, theirs = (tree_.state_dict() for tree_ in (pictures.decoder, tree))
    torch.testing.assert_close(ours["decoder.0.weight"], theirs["decoder.1.weight"].float())


def score_of(kind: str, name: str) -> Score:
    pictures = decoders(kind)[0]
    if name == "palette":
        return Palette(((0.1, 0.2, 0.3), (0.9, 0.8, 0.1)), pictures)
    return Region(randn(3, 20, 30).sigmoid(), (0.25, 0.0, 0.5, 0.75), pictures)


@pytest.mark.each_value
@pytest.mark.parametrize("name", ["palette", "region"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_slope_of_the_score(kind: str, name: str) -> None:
    """Finite differences, in float64, where no rounding hides an error."""
    score, clean, before = score_of(kind, name), latents_of(kind, 2), latents_of(kind, 3, seed=2)
    ours = gradient(score, clean, before, 3)
    score.pictures.decoder.double()  # type: ignore[attr-defined]
    aside = latents_of(kind, 2, seed=1).double()
    way = 1e-6 * (ours.double() / ours.norm() + 0.5 * aside / aside.norm())
    up, down = (score(clean + s * way, before.double(), 3) for s in (1, -1))
    assert (ours * way).sum().item() == pytest.approx((up - down).item() / 2, rel=1e-3)


@pytest.mark.each_value
@pytest.mark.parametrize("solver", [Euler(), ReNoise()], ids=["euler", "re-noise"])
@pytest.mark.parametrize("kind", ["taew2_1", "lighttaew2_1", "taew2_2"])
@pytest.mark.parametrize("name", ["palette", "region"])
def test_a_guided_rollout_fits_its_wish_better(kind: str, name: str, solver: Solver) -> None:
    channels, score = channels_of(kind), score_of(kind, name)
    config = DiTConfig(24, 32, 2, 1, TINY.text_dim, channels, channels)
    model = local_denoiser(random_dit(config), config)
    fits = []
    for pulls in ((), (WeightedScore(score),)):
        chosen = settings(guidance=Guidance(weighted_scores=pulls), solver=solver)
        with torch.inference_mode():
            made = torch.cat([chunk.latents for chunk in generate(chosen, model)])
            fits.append(score(made, made[:0], 0))
    assert fits[1] > fits[0]


def test_a_score_sees_the_finished_frames_before_the_chunk_as_far_as_decoders_look() -> None:
    seen: list[Tensor] = []

    class Watching:
        def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
            seen.append(before)
            return latents.sum()

    chosen = settings(
        length=15, guidance=Guidance(weighted_scores=(WeightedScore(Watching(), 0.0),))
    )
    model = local_denoiser(random_dit(), TINY)
    made = torch.cat([chunk.latents for chunk in generate(chosen, model)])
    expected = [made[max(0, first - SCORE_LOOKBACK_FRAMES) : first] for first in (0, 3, 6, 9, 12)]
    assert [len(one) for one in expected] == [0, 3, 6, 8, 8]
    assert all(torch.equal(*pair) for pair in zip(seen[::2], expected, strict=True))


def test_raw_and_normalised_latents_are_two_wishes_and_both_come_back_from_a_file() -> None:
    kept = []
    for kind in ("taew2_1", "lighttaew2_1", "taew2_2"):
        score, latents = score_of(kind, "palette"), latents_of(kind, 2)
        made = settings(guidance=Guidance(weighted_scores=(WeightedScore(score),)))
        record, tensors = to_record(made)
        back: Any = (
            from_record(json.loads(json.dumps(record)), tensors).guidance.weighted_scores[0].score
        )
        assert back.pictures.weights == score.pictures.weights  # type: ignore[attr-defined]
        assert torch.equal(back(latents, latents[:0], 0), score(latents, latents[:0], 0))
        kept.append(back.pictures.weights)
    assert len({*kept}) == 3


def test_a_vae_of_other_latents_is_refused_before_anything_runs() -> None:
    config = replace(TINY, in_channels=48, out_channels=48)
    chosen = settings(
        guidance=Guidance(weighted_scores=(WeightedScore(score_of("taew2_1", "palette")),))
    )
    with pytest.raises(BadInput, match="VAE has 16 latent channels and the model 48; connect"):
        rollout_memory(chosen, config, torch.float32)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("channels", [16, 48])
def test_the_node_takes_every_tiny_vae_with_the_latents_it_wants(
    bench: Bench, channels: int, raw: bool
) -> None:
    from longtake.nodes.models.streaming_vae import RAW_LATENTS, streaming_vae

    vae = taehv_vae(taehv_tree(channels))
    setattr(vae, RAW_LATENTS, raw)
    [text] = bench.run("LongtakeHistoryGuidance", preset="text only")
    inputs = {"vae": vae, "image": torch.rand(1, 8, 8, 3), "guidance": text}
    latents = randn(3, channels, ROWS, COLUMNS)
    with torch.inference_mode():
        shown = streaming_vae(vae).open_decoder().feed(latents)
    for score in ("palette", "region"):
        [guidance] = bench.run("LongtakeScoreGuidance", score=score, **inputs)
        ours = guidance.scores[0].score.pictures(latents, latents[:0]).clamp(0, 1)
        torch.testing.assert_close(ours, shown, rtol=0, atol=1e-5)


def test_a_full_vae_is_refused_by_what_to_load_instead(bench: Bench) -> None:
    full = type("WanVAE", (nn.Module,), {"decoder": None})()
    expected = r"need a tiny VAE, but this is a WanVAE, .* load taew2_1 or lighttaew2_1"
    [guidance] = bench.run("LongtakeHistoryGuidance")
    with pytest.raises(BadInput, match=expected):
        bench.run("LongtakeScoreGuidance", guidance=guidance, vae=host_vae(full, 16))


@pytest.mark.parametrize("wrong", ["fewer", "other"])
def test_a_tiny_vae_of_another_layout_is_refused(bench: Bench, wrong: str) -> None:
    tree = taehv_tree()
    if wrong == "fewer":
        del tree.decoder[3]
    else:
        tree.decoder[7].conv = nn.Conv2d(8, 16, 1, bias=False)
    [guidance] = bench.run("LongtakeHistoryGuidance")
    with pytest.raises(BadInput, match="is not laid out as that of taew2_1, taew2_2 or lighttae"):
        bench.run("LongtakeScoreGuidance", guidance=guidance, vae=taehv_vae(tree))
