"""A value that comes through a link of any type is compared with its socket."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench

PICTURES = torch.zeros(2, 16, 16, 3)


def test_every_socket_of_every_node_refuses_what_is_of_none_of_its_types(bench: Bench) -> None:
    from longtake.nodes.extension import NODES
    from longtake.nodes.inputs import checked

    sockets = [
        (node, place)
        for node in NODES
        for place in node.define_schema().inputs
        if not hasattr(place, "default") and place.get_io_type() != "VAE"
    ]
    assert len(sockets) > 60
    for node, socket in sockets:
        for value in (object(), "text", 5, {}, [5]):
            with pytest.raises(BadInput, match=rf"^{socket.id} got an? .*\.$"):
                checked(node, {socket.id: value})


@pytest.mark.parametrize(
    ("node", "values", "sentence"),
    [
        ("LongtakeSaveVideo", {"frames": None},
         "frames got nothing from the node that is connected to it; connect a node that gives "
         "FRAMES or IMAGE."),
        ("LongtakeSaveVideo", {"frames": [PICTURES]},
         "frames got a list, and takes FRAMES or IMAGE; connect a node that gives "
         "FRAMES or IMAGE."),
        ("LongtakeSaveVideo", {"frames": PICTURES, "audio": {"samples": PICTURES}},
         "audio got a dictionary, and takes AUDIO; connect a node that gives AUDIO."),
        ("LongtakeSoundCurve", {"audio": None},
         "audio got nothing from the node that is connected to it; connect a node that gives "
         "AUDIO."),
        ("LongtakeVAEDecode", {"rollout": {"samples": None}, "vae": None},
         "rollout got a dictionary, and takes ROLLOUT or LATENT; connect a node that gives "
         "ROLLOUT or LATENT."),
        ("LongtakeSampler", {"model": "a name"},
         "model got a text, and takes MODEL; connect a node that gives MODEL."),
        ("LongtakeSampler", {"plan_only": "false"},
         "plan_only is 'false'; set it to true or false."),
    ],
)  # fmt: skip
def test_what_a_socket_does_not_take_is_one_sentence(
    bench: Bench, node: str, values: dict[str, Any], sentence: str
) -> None:
    assert bench.refusal(node, **values) == sentence


def test_an_optional_input_that_got_nothing_is_as_without_a_link(bench: Bench) -> None:
    """As from a switch of another pack whose own input is empty."""
    latent = {"samples": torch.ones(1, 16, 1, 4, 4)}
    inputs = {"latent": latent, "start": 0.0, "start_unit": "seconds", "spacing": 1, "level": 0.0}
    [clips] = bench.run("LongtakeKnownFrames", **inputs, known_frames=None, ahead=None)
    [clip] = clips
    assert clip.ahead == 0


def test_the_values_of_our_own_nodes_fit_their_sockets(bench: Bench) -> None:
    """As a switch of another pack passes them on: the host compares no types then."""
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    preset, cache, *_ = bench.run("LongtakeModelSettings", model=model)
    for schedule in (preset, bench.run("LongtakeSchedule")[0]):
        [cached] = bench.run("LongtakeFeatureCaching", schedule=schedule)
        [ruled] = bench.run("LongtakeMemoryRules", kv_cache=cache)
        [rollout] = bench.run(
            "LongtakeSampler", model=model, prompts=prompts, schedule=cached, kv_cache=ruled,
            width=32, height=32, length=9.0, length_unit="frames",
        )  # fmt: skip
        [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
        assert bench.collect(frames).shape[1:] == (32, 32, 3)


@pytest.mark.parametrize(
    "part", [[torch.ones(6, 8), {}], [torch.ones(1, 1, 6, 8), {}], [torch.ones(1, 6, 8), None]]
)
def test_a_conditioning_of_another_form_is_none(bench: Bench, part: list[Any]) -> None:
    """Four dimensions failed in the model, two were said to be a batch of prompts."""
    said = "own_prompt got a list, and takes PROMPT_TIMELINE or CONDITIONING; connect a node that"
    assert bench.refusal("LongtakeGuidanceTerm", own_prompt=[part]).startswith(said)
