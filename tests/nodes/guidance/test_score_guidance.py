"""Score Guidance: the reference picture of a region, and the colours of a palette."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import randn

SCORE = "LongtakeScoreGuidance"
PICTURES = randn(2, 32, 32, 4).sigmoid()


def inputs(bench: Bench, image: Tensor) -> dict[str, object]:
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [guidance] = bench.run("LongtakeHistoryGuidance", preset="text only")
    return {"guidance": guidance, "score": "region", "vae": vae, "image": image}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_region_takes_the_first_picture_grey_or_with_alpha(bench: Bench, channels: int) -> None:
    [spec] = bench.run(SCORE, **inputs(bench, PICTURES[..., :channels]))
    shown = PICTURES[0, ..., : min(channels, 3)].expand(-1, -1, 3).movedim(-1, 0)
    assert torch.equal(spec.scores[0].score.picture, shown)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.full((1, 32, 32, 3), torch.nan), "Picture 0 .* has NaN or infinity; check the node"),
        (PICTURES[:0, ..., :3], "has no pictures; connect at least one"),
        (PICTURES[..., :2], r"shape \(2, 32, 32, 2\), and pictures are"),
        (PICTURES[0, ..., :3], r"shape \(32, 32, 3\), and pictures are"),
        ((255 * PICTURES[..., :3]).to(torch.uint8), "has whole numbers"),
    ],
)
def test_what_is_no_picture_is_refused_before_the_shot(
    bench: Bench, image: Tensor, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        bench.run(SCORE, **inputs(bench, image))


@pytest.mark.parametrize("word", ["1_2_34", "+12345", "#+1234", "##12345", "#12345"])
def test_a_colour_is_six_hexadecimal_digits_and_nothing_else(bench: Bench, word: str) -> None:
    palette = {**inputs(bench, PICTURES), "score": "palette"}
    [spec] = bench.run(SCORE, **palette, colours="#FF0000, 00ff00、#0000ff")
    assert spec.scores[0].score.colours == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    with pytest.raises(BadInput, match=f"{re.escape(word)}' is not a colour; write six"):
        bench.run(SCORE, **palette, colours=f"#ff0000 {word}")
