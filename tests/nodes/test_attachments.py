"""What other nodes attach to a CONDITIONING, in the words of the canvas."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.nodes.attachments import ATTACHMENTS, check_attachments
from longtake.tests.support.node_bench import Bench


def refusal(**options: Any) -> str:
    with pytest.raises(BadInput) as refused:
        check_attachments(options, ())
    return str(refused.value)


def test_the_node_that_sets_an_option_is_named_once() -> None:
    area = refusal(area=(64, 64, 0, 0), strength=1.0, set_area_to_bounds=False)
    assert area.startswith("The conditioning has an area from Conditioning (Set Area), which")
    assert refusal(start_percent=0.0, end_percent=0.5).count("ConditioningSetTimestepRange") == 1
    assert "a strength from Conditioning (Set Area Strength)" in refusal(strength=0.5)


def test_no_refusal_has_an_inner_name() -> None:
    inner = {name for name in ATTACHMENTS if "_" in name}
    for name in ATTACHMENTS:
        words = refusal(**{name: 1}).replace("known_frames", "").replace("SD_4X", "").split()
        assert not inner & {*words}
    picture = refusal(concat_latent_image=torch.zeros(1), clip_vision_output=object())
    assert "WanImageToVideo" in picture and picture.endswith("to `known_frames`.")


def test_a_picture_without_parts_stops_no_shot(bench: Bench) -> None:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    prompts = clip.encode_from_tokens_scheduled(clip.tokenize("a ball"))
    shot = {"model": model, "prompts": prompts, "width": 32, "height": 32}
    assert bench.run("LongtakeSampler", **shot, picture=[])
    assert "conditioning is empty" in bench.refusal("LongtakeSampler", **{**shot, "prompts": []})
