"""A value that comes through a link is compared with its widget, as hosts do with typed ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench

PICTURES = torch.zeros(2, 16, 16, 3)


@pytest.mark.parametrize(
    ("node", "values", "sentence"),
    [
        ("LongtakeImagesToFrames", {"images": PICTURES, "fps": 0.0},
         "fps is 0; set a number from 0.01 to 240."),
        ("LongtakeSaveVideo", {"frames": PICTURES, "fps": -5.0},
         "fps is -5; set a number from 0 to 240."),
        ("LongtakeSampler", {"seed": -5},
         "seed is -5; set a number from 0 to 18446744073709551615."),
        ("LongtakeSampler", {"seed": "seven"},
         "seed is 'seven'; set a number from 0 to 18446744073709551615."),
        ("LongtakePromptTimeline", {"text": 5, "negative": ""},
         "text is 5, which is no text; connect a text."),
        ("LongtakeSampler", {"length_unit": "hours"},
         "length_unit is 'hours'; choose one of seconds, frames."),
        ("LongtakeLoadDemoModel", {"quality": "best"},
         "quality is 'best'; choose one of fast, full."),
        ("LongtakeKVCacheSettings", {"placement": "attic"},
         "placement is 'attic'; choose one of device, main memory, disk."),
        ("LongtakeSpliceRollouts", {"overlap": 257},
         "overlap is 257; set a number from 0 to 256."),
        ("LongtakePromptTimeline", {"text": "0: a red \ud83d ball", "negative": ""},
         r"text has half a character (a lone surrogate), '0: a red \ud83d ball'; type it anew."),
        ("LongtakeEditRollout", {"new_prompt": "\ud800 ball"},
         r"new_prompt has half a character (a lone surrogate), '\ud800 ball'; type it anew."),
    ],
)  # fmt: skip
def test_what_a_widget_does_not_offer_is_one_sentence(
    bench: Bench, node: str, values: dict[str, Any], sentence: str
) -> None:
    assert bench.refusal(node, **values) == sentence


def test_the_host_s_own_text_node_refuses_half_a_character(bench: Bench) -> None:
    [_, clip, _] = bench.run("LongtakeLoadDemoModel")
    with pytest.raises(BadInput, match=r"The prompt has half a character .*, '\\ud800 ball'"):
        clip.encode_from_tokens_scheduled(clip.tokenize("\ud800 ball"))


@pytest.mark.parametrize(
    ("name", "says"),
    [("continue_from", "has no input `continue_from`; remove it"), ("lenght", "to `length`")],
)
def test_an_input_that_the_node_does_not_have_is_one_sentence(
    bench: Bench, name: str, says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        bench.rollout(**{name: 33.0})
