"""The end picture of an image-to-video model, in a shot of another length."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.nodes.conditioning.reference import check_pictures, reference
from longtake.tests.support.tiny_model import TINY, randn

FRAMES, ROWS, COLUMNS = 5, 4, 6
WITH_MASK = replace(TINY, in_channels=36, out_channels=16)
WITHOUT = replace(TINY, in_channels=32, out_channels=16, camera="fun")


def conditioning(*open_frames: int) -> list[Any]:
    """As WanFirstLastFrameToVideo gives it: the mask is 1 on `open_frames`, 0 on pictures."""
    mask = torch.zeros(1, 4, FRAMES, ROWS, COLUMNS)
    mask[:, :, list(open_frames)] = 1
    image = randn(1, 16, FRAMES, ROWS, COLUMNS, seed=3)
    options = {"concat_latent_image": image, "concat_mask": mask}
    return [[randn(1, 3, TINY.text_dim), options]]


def length(latent_frames: int | None) -> Any:
    frames = None if latent_frames is None else 4 * latent_frames - 3
    seconds = None if frames is None else frames / 16
    return SimpleNamespace(latent_frames=latent_frames, fps=16.0, frames=frames, seconds=seconds)


@pytest.mark.parametrize("config", [WITH_MASK, WITHOUT])
def test_after_an_end_picture_the_frames_are_open(config: DiTConfig) -> None:
    picture = reference(config, conditioning(1, 2, 3))
    assert picture is not None
    channels: Tensor = picture.at(range(FRAMES + 3))
    for later in channels[FRAMES:]:
        assert torch.equal(later, channels[3])
    assert not torch.equal(channels[4], channels[3])


def test_after_a_start_picture_the_last_frame_stays() -> None:
    picture = reference(WITH_MASK, conditioning(1, 2, 3, 4))
    assert picture is not None
    assert len(picture.channels) == FRAMES


def test_a_shot_that_ends_before_the_end_picture_is_refused() -> None:
    words = conditioning(1, 2, 3)
    with pytest.raises(BadInput, match=r"a picture at 1.1 s and the shot ends at 0.8 s"):
        check_pictures(WITH_MASK, length(4), words)
    for enough in (5, 8, None):
        check_pictures(WITH_MASK, length(enough), words)
    check_pictures(WITH_MASK, length(1), conditioning(1, 2, 3, 4))
    check_pictures(replace(WITH_MASK, in_channels=16), length(1), words)
    check_pictures(WITH_MASK, length(1), None)


@pytest.mark.parametrize(
    ("latent_frames", "text"),
    [(6, "the shot has 21 frames in whole chunks; set `length` to 21 or more in the node"),
     (None, "the shot has no end; set a greater `length` in the node")],
)  # fmt: skip
def test_pictures_alone_make_no_longer_shot(latent_frames: int | None, text: str) -> None:
    """The sentence names a length that works: the shot may only be longer by rounding up."""
    clip = f"after 17 frames, and {text}.* one picture of a clip, take it by Get Image from Batch"
    with pytest.raises(BadInput, match=clip):
        check_pictures(WITH_MASK, length(latent_frames), conditioning())
    check_pictures(WITH_MASK, length(5), conditioning())
    check_pictures(WITH_MASK, length(latent_frames), conditioning(FRAMES - 1))
