"""Matrix-Game 2 as users build it: a picture, CLIP vision, WanImageToVideo and a camera path.

The graph is the example for community files; small random weights stand for what it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from longtake.tests.in_core.support.client import Client, Run, Workflow
from longtake.tests.in_core.support.graphs import node
from longtake.tests.in_core.support.outputs import frames_of, saved
from longtake.tests.in_core.support.places import ROOT
from longtake.tests.in_core.support.wan_vae import random_tree
from longtake.tests.support.model.family_files import matrix_game_state

EXAMPLE = ROOT / "example_workflows" / "community" / "api" / "keys_and_mouse.json"
VISION, PICTURE, PATH, SAMPLER, PREVIEW, SAVE = "5", "8", "9", "10", "12", "13"
SIZE = {"width": 96, "height": 64}
FRAMES, CHUNKS = 33, 3
pytestmark = pytest.mark.usefixtures("fresh_journal")


@pytest.fixture
def files(core: Any, client: Client) -> Iterator[None]:
    """The picture, the model and the VAE under the names of the example."""
    model = client.base / "models" / "diffusion_models" / "base_distill.safetensors"
    vae = client.base / "models" / "vae" / "wan_2.1_vae.safetensors"
    picture = client.base / "input" / "your_picture.png"
    save_file({f"model.{name}": tensor for name, tensor in matrix_game_state().items()}, model)
    vae.parent.mkdir(exist_ok=True)
    save_file(dict(random_tree(core).state_dict()), vae)
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None], (64, 96, 3)).copy()
    Image.fromarray(ramp).save(picture)
    yield
    for file in (model, vae, picture):
        file.unlink()


def walk(moves: str = "0: forward\n1: pan left") -> Workflow:
    """The example, small and short, with a small CLIP vision model."""
    workflow: Workflow = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    del workflow[PREVIEW]
    workflow[VISION] = node("SmallVision")
    workflow[PICTURE]["inputs"].update(SIZE, length=FRAMES)
    workflow[SAMPLER]["inputs"].update(SIZE, length=float(FRAMES), length_unit="frames")
    workflow[PATH]["inputs"]["moves"] = moves
    return workflow


def frames(client: Client, run: Run) -> np.ndarray:
    assert run.end[0] == "execution_success", run.end
    return np.stack(frames_of(saved(client, run, SAVE))).astype(int)


@pytest.mark.usefixtures("files")
def test_a_picture_is_walked_through_by_keys_and_mouse(client: Client) -> None:
    walked = client.run(walk())
    assert walked.values(SAMPLER)[-1] == CHUNKS
    moved, stood = frames(client, walked), frames(client, client.run(walk("0: still")))
    assert moved.shape == stood.shape == (FRAMES, 64, 96, 3)
    assert np.abs(moved - stood).mean() > 1  # of 255


@pytest.mark.usefixtures("files")
def test_a_changed_move_keeps_the_chunks_before_it(client: Client) -> None:
    first = frames(client, client.run(walk("0: forward")))
    turned = client.run(walk("0: forward\n2: pan left"))
    assert turned.values(SAMPLER)[0] > 1
    again = frames(client, turned)
    same = np.abs(first - again).reshape(FRAMES, -1).mean(1)
    assert same[:8].max() < 1 < same[-4:].max()


@pytest.mark.usefixtures("files")
def test_without_clip_vision_a_sentence_says_what_to_connect(client: Client) -> None:
    workflow = walk()
    del workflow[PICTURE]["inputs"]["clip_vision_output"]
    run = client.run(workflow)
    assert run.end[0] == "execution_error"
    assert "CLIP Vision Encode to WanImageToVideo" in run.end[1]["exception_message"]
