"""What CLIP vision saw of the picture of an image-to-video model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from longtake.nodes.conditioning.reference import reference, unread_features
from longtake.tests.support.tiny_model import TINY, randn

FRAMES, ROWS, COLUMNS = 3, 4, 6
IMAGE_TO_VIDEO = replace(TINY, in_channels=36, out_channels=16)


def conditioning(*, seen: bool) -> list[Any]:
    options: dict[str, Any] = {"concat_latent_image": randn(1, 16, FRAMES, ROWS, COLUMNS, seed=3)}
    if seen:
        features = randn(1, 257, 1280, seed=2)
        options["clip_vision_output"] = SimpleNamespace(penultimate_hidden_states=features)
    return [[randn(1, 3, TINY.text_dim), options]]


def test_features_reach_only_a_model_with_layers_for_them() -> None:
    words = conditioning(seen=True)
    wan_21 = reference(IMAGE_TO_VIDEO, words)
    wan_22 = reference(IMAGE_TO_VIDEO, words, image_branch=False)
    without = reference(IMAGE_TO_VIDEO, conditioning(seen=False))
    assert wan_21 is not None and wan_22 is not None and without is not None
    assert wan_21.features is not None and wan_22.features is None
    assert torch.equal(wan_22.channels, wan_21.channels)
    assert wan_22.digest == without.digest


def test_features_without_effect_are_named() -> None:
    words, plain = conditioning(seen=True), conditioning(seen=False)
    no_effect = reference(IMAGE_TO_VIDEO, words, image_branch=False)
    assert "clip_vision_output" in unread_features(no_effect, None, words)[0]
    assert unread_features(reference(IMAGE_TO_VIDEO, words), words) == []
    assert unread_features(no_effect, plain) == []
    assert unread_features(None, words) == []
