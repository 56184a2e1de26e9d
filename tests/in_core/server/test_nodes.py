"""The demo's objects with the host's own nodes, and ours with theirs, through POST /prompt."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from longtake.tests.in_core.support.client import Client, Workflow
from longtake.tests.in_core.support.graphs import (
    DECODE,
    LOAD,
    PREVIEW,
    SAMPLER,
    SAVE,
    TIMELINE,
    collected,
    example,
    node,
    told,
)
from longtake.tests.in_core.support.outputs import frame_count, pictures, saved

UNLIMITED = {"from_level": -1.0, "to_level": -1.0, "per_step": "", "first_chunk": -1.0,
             "rescale": -1.0, "norm_cap": -1.0, "one_at_a_time": False}  # fmt: skip
"""The advanced inputs of History Guidance where none is set."""


def with_inputs(made: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    """A node with more inputs."""
    return {**made, "inputs": {**made["inputs"], **inputs}}


def test_the_browser_gets_nodes_help_pages_and_examples(client: Client) -> None:
    ours = [name for name in json.loads(client.get("/object_info")) if name.startswith("Longtake")]
    assert len(ours) >= 12
    for name in ours:
        assert client.get(f"/extensions/longtake/docs/{name}.md").startswith("# ")
    examples = json.loads(client.get("/workflow_templates"))
    assert "1_text_to_stream" in examples["longtake"]
    canvas = json.loads(client.get("/api/workflow_templates/longtake/1_text_to_stream.json"))
    assert {node["type"] for node in canvas["nodes"]} <= {*ours, "MarkdownNote"}


def test_a_link_of_the_wrong_type_is_refused_before_anything_runs(client: Client) -> None:
    workflow = example(seed=20)
    workflow[DECODE]["inputs"]["rollout"] = [LOAD, 0]
    details = client.refusal(workflow)["node_errors"][DECODE]["errors"][0]
    assert details["type"] == "return_type_mismatch"


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"crf": 63}, "The crf of H.264 must be from 0 to 51; got 63."),
        ({"crf": 64}, "crf is 64; set a number from -1 to 63."),
        ({"format": "gif", "bits": "10"}, "gif has 8 bits of colour; set `bits` to auto."),
    ],
)
def test_widgets_that_do_not_go_together_are_refused_before_anything_runs(
    client: Client, inputs: dict[str, Any], sentence: str
) -> None:
    workflow = example(seed=20)
    del workflow[PREVIEW]
    workflow[SAVE]["inputs"].update(inputs)
    assert told(client, workflow, SAVE) == {sentence}


def test_what_another_node_gives_is_refused_when_the_node_runs(client: Client) -> None:
    workflow = example(seed=20)
    workflow["20"] = node("PrimitiveInt", value=63)
    workflow[SAVE]["inputs"]["crf"] = ["20", 0]
    name, failure = client.run(workflow).end
    assert name == "execution_error" and failure["node_id"] == SAVE
    assert "The crf of H.264 must be from 0 to 51" in failure["exception_message"]


def test_a_number_of_another_node_is_compared_with_the_widget(client: Client) -> None:
    workflow = example(seed=20)
    workflow["20"] = node("PrimitiveFloat", value=-5.0)
    workflow[SAVE]["inputs"]["fps"] = ["20", 0]
    name, failure = client.run(workflow).end
    assert name == "execution_error" and failure["node_id"] == SAVE
    assert failure["exception_message"].strip() == "fps is -5; set a number from 0 to 240."


def test_the_hosts_own_loader_and_ar_sampler_run_the_same_file(client: Client) -> None:
    workflow: Workflow = {
        LOAD: node("LongtakeLoadDemoModel"),
        "2": node("UNETLoader", unet_name="demo.safetensors", weight_dtype="default"),
        "3": node("CLIPTextEncode", clip=[LOAD, 1], text="a red ball over green hills"),
        "4": node("EmptyARVideoLatent", width=96, height=64, length=21, batch_size=1),
        "5": node("SamplerARVideo", num_frame_per_block=3),
        "6": node("BasicScheduler", model=["2", 0], scheduler="simple", steps=4, denoise=1.0),
        "7": node("SamplerCustom", model=["2", 0], add_noise=True, noise_seed=1, cfg=1.0,
                  positive=["3", 0], negative=["3", 0], sampler=["5", 0], sigmas=["6", 0],
                  latent_image=["4", 0]),
        "8": node("VAEDecode", samples=["7", 0], vae=[LOAD, 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="core/ar"),
    }  # fmt: skip
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    made = pictures(client, run, "9")
    assert len(made) == 21 and made[0].shape == (64, 96, 3) and made[20].std() > 1


def test_clip_text_encode_drives_our_sampler_and_save_image_takes_our_frames(
    client: Client,
) -> None:
    workflow = example(seed=21)
    del workflow[SAVE], workflow[TIMELINE]
    workflow["20"] = node("CLIPTextEncode", clip=[LOAD, 1], text="a red ball over green hills")
    workflow[SAMPLER]["inputs"]["prompts"] = ["20", 0]
    workflow["21"] = collected(DECODE)
    workflow["22"] = node("SaveImage", images=["21", 0], filename_prefix="core/collected")
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    assert len(pictures(client, run, "22")) == 69
    shown = run.values(PREVIEW)  # the core leaves out what comes too soon after another one
    assert (shown[0], shown[-1]) == (1, 6) and shown == sorted(shown)
    assert run.values("21")[-1] == 6


def test_collected_latents_decode_in_the_hosts_vae_decode_to_the_same_frames(
    client: Client,
) -> None:
    workflow = example(seed=22)
    del workflow[SAVE], workflow[PREVIEW]
    workflow["20"] = collected(SAMPLER, "latent")
    workflow["21"] = node("VAEDecode", samples=["20", 2], vae=[LOAD, 2])
    workflow["22"] = node("SaveImage", images=["21", 0], filename_prefix="core/theirs")
    workflow["23"] = collected(DECODE)
    workflow["24"] = node("SaveImage", images=["23", 0], filename_prefix="core/ours")
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    theirs, ours = pictures(client, run, "22"), pictures(client, run, "24")
    assert len(theirs) == len(ours) == 69
    assert max(int(np.abs(a - b).max()) for a, b in zip(theirs, ours, strict=True)) <= 1


def test_frames_to_video_is_the_hosts_video(client: Client) -> None:
    workflow = example(seed=23)
    workflow["20"] = collected(DECODE, "video")
    workflow["21"] = node(
        "SaveVideo", video=["20", 1], filename_prefix="core/video", format="mp4", codec="h264"
    )
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    assert frame_count(saved(client, run, "21")) == frame_count(saved(client, run)) == 69


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        (node("VAEEncode"), node("VAEDecode")),
        (
            node("LongtakeVAEEncode"),
            node("VAEDecodeTiled", tile_size=64, overlap=0, temporal_size=8, temporal_overlap=4),
        ),
    ],
    ids=["theirs", "ours"],
)
def test_pictures_encode_and_decode_again(
    client: Client, encoder: dict[str, Any], decoder: dict[str, Any]
) -> None:
    grey = Image.new("RGB", (64, 64), (90, 120, 150))
    grey.save(client.base / "input" / "grey.png")
    workflow: Workflow = {
        LOAD: node("LongtakeLoadDemoModel"),
        "2": node("LoadImage", image="grey.png"),
        "3": node("RepeatImageBatch", image=["2", 0], amount=7),
        "4": with_inputs(encoder, pixels=["3", 0], vae=[LOAD, 2]),
        "5": with_inputs(decoder, samples=["4", 0], vae=[LOAD, 2]),
        "6": node("SaveImage", images=["5", 0], filename_prefix="core/again"),
    }
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    assert (
        len(pictures(client, run, "6")) == 9
    )  # 7 pictures are 3 latent frames, the last one completed


def colour_distance(made: list[np.ndarray], colours: list[tuple[int, int, int]]) -> float:
    """Mean distance of all pixels to the nearest colour, in 8-bit RGB."""
    pixels = np.stack(made)[..., None, :].astype(np.float64) - np.array(colours)
    return float(np.sqrt((pixels**2).sum(-1)).min(-1).mean())


def redness(made: list[np.ndarray]) -> float:
    """Mean distance of the left half's pixels to the reference of the region."""
    return colour_distance([one[:, : one.shape[1] // 2] for one in made], [(230, 25, 25)])


def stillness(made: list[np.ndarray]) -> float:
    """How little changes from one frame to the next: minus the mean, in 8-bit RGB."""
    return -float(np.abs(np.diff(np.stack(made), axis=0)).mean())


def paletted(made: list[np.ndarray]) -> float:
    """Mean distance to the palette."""
    return colour_distance(made, [(0xE6, 0x19, 0x19), (0xFF, 0xE5, 0x33)])


def pulled(client: Client, **inputs: Any) -> list[np.ndarray]:
    """The pictures of a short shot under one score."""
    workflow = example(seed=22, frames=21)
    del workflow[SAVE]
    workflow["30"] = node("LongtakeHistoryGuidance", preset="text only", scale=1.5,
                          text_scale=2.0, level=0.75, short_frames=4, short_share=0.5,
                          none_as="pure noise", exact=False, stabilise=0.0,
                          **UNLIMITED)  # fmt: skip
    workflow["29"] = node("LoadImage", image="red.png")
    chosen = {"limit": 1.0, "colours": "#e61919 #ffe533", "region": "0 0 0.5 1",
              "least_motion": 0.6, "vae": [LOAD, 2], "image": ["29", 0], **inputs}  # fmt: skip
    workflow["31"] = node("LongtakeScoreGuidance", guidance=["30", 0], **chosen)
    workflow[SAMPLER]["inputs"]["guidance"] = ["31", 0]
    workflow["21"] = collected(DECODE)
    workflow["22"] = node("SaveImage", images=["21", 0], filename_prefix="core/score")
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    return pictures(client, run, "22")


@pytest.mark.parametrize(
    ("score", "weight", "misfit"),
    [("palette", 2.0, paletted), ("region", 8.0, redness), ("motion", 2.0, stillness)],
)
def test_a_score_pulls_in_the_hosts_inference_mode(
    client: Client, score: str, weight: float, misfit: Callable[[list[np.ndarray]], float]
) -> None:
    """The host forbids gradients; Score Guidance leaves that mode for the score alone."""
    Image.new("RGB", (64, 64), (230, 25, 25)).save(client.base / "input" / "red.png")
    free, ours = (pulled(client, score=score, weight=w) for w in (0.0, weight))
    assert misfit(ours) < misfit(free) - 0.05 * abs(misfit(free))


def test_two_outputs_alike_name_files_of_their_own(client: Client) -> None:
    """By its inputs alone the core would take one's result for that of the other."""
    workflow = example(seed=58, frames=21)
    workflow["20"] = node("LongtakeSaveRollout", rollout=[SAMPLER, 0], filename_prefix="alike/x")
    twins = {SAVE: "18", PREVIEW: "17", "20": "21"}
    for original, twin in twins.items():
        workflow[twin] = copy.deepcopy(workflow[original])
    run = client.run(workflow)
    assert run.end[0] == "execution_success"
    for original, twin in twins.items():
        assert run.outputs[original] != run.outputs[twin]
    files = [saved(client, run, at) for at in (SAVE, "18")]
    assert files[0] != files[1] and all(file.is_file() for file in files)
    again = client.run(workflow)
    assert again.outputs[SAVE] == run.outputs[SAVE] and again.outputs["18"] == run.outputs["18"]
