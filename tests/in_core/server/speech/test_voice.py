"""Models that speak as users build them: a picture, a recording, an audio encoder and Voice.

The graph is the example for community files; small random weights stand for what it names.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from longtake.tests.in_core.support.client import Client, Run, Workflow
from longtake.tests.in_core.support.graphs import node
from longtake.tests.in_core.support.outputs import frames_of, saved
from longtake.tests.in_core.support.places import ROOT
from longtake.tests.support.model.family_files import adapted_state, speaking_state

EXAMPLE = ROOT / "example_workflows" / "community" / "api" / "voice.json"
MODEL, CLIP, TEXT, VAE, PICTURE, RECORDING, VOICE, SAMPLER, DECODE, PREVIEW, SAVE = (
    "1", "2", "3", "5", "6", "8", "9", "10", "11", "12", "13",
)  # fmt: skip
LIVETALK, AVATAR = "livetalk_1.3b.safetensors", "avatar.pt"
RATES = {LIVETALK: 16.0, AVATAR: 25.0}  # frames a second
SIZE = {"width": 96, "height": 64}
FRAMES, CHUNKS, HZ = 33, 3, 22_050
pytestmark = pytest.mark.usefixtures("fresh_journal")


def random_wav2vec(core: Any) -> dict[str, Tensor]:
    """Weights of wav2vec 2.0 base's sizes, by the core's own layers."""
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    tree = Wav2Vec2Model(
        embed_dim=768, num_heads=12, num_layers=12, conv_norm=False, conv_bias=False,
        do_normalize=False, do_stable_layer_norm=False, operations=core.ops.manual_cast,
    )  # fmt: skip
    seeded = torch.Generator().manual_seed(8)
    return {
        f"wav2vec2.{name}": torch.randn(value.shape, generator=seeded).half()
        / max(1, value[0].numel() if value.ndim > 1 else 1) ** 0.5
        for name, value in tree.state_dict().items()
    }


def record(path: Path, loudness: float) -> None:
    """Two seconds of a rising tone."""
    times = np.arange(2 * HZ) / HZ
    tone = loudness * np.sin(2 * np.pi * (200 + 300 * times) * times)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HZ)
        file.writeframes((32767 * tone).astype("<i2").tobytes())


@pytest.fixture
def files(core: Any, client: Client) -> Iterator[None]:
    """Picture, recording, model and encoder under the names of the example."""
    models, inputs = client.base / "models", client.base / "input"
    made = {
        models / "diffusion_models" / LIVETALK: speaking_state(64),
        models / "audio_encoders" / "wav2vec2-base-960h.safetensors": random_wav2vec(core),
    }
    for file, weights in made.items():
        file.parent.mkdir(exist_ok=True)
        save_file(weights, file)
    avatar = models / "diffusion_models" / AVATAR
    stored = {f"model.{name}": t for name, t in adapted_state(speaking_state(64), 4).items()}
    torch.save({"generator": stored}, avatar)
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None], (64, 96, 3)).copy()
    Image.fromarray(ramp).save(inputs / "your_picture.png")
    record(inputs / "your_voice.wav", 0.5)
    record(inputs / "silence.wav", 0.0)
    yield
    others = [inputs / name for name in ("your_picture.png", "your_voice.wav", "silence.wav")]
    for file in (*made, *others, avatar):
        file.unlink()


def speech(model: str = LIVETALK) -> Workflow:
    """The example, small and short, with the demo's text encoder and VAE."""
    workflow: Workflow = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    del workflow[PREVIEW], workflow[VAE]
    workflow[CLIP] = node("LongtakeLoadDemoModel")
    for user in (PICTURE, DECODE):
        workflow[user]["inputs"]["vae"] = [CLIP, 2]
    workflow[TEXT]["inputs"].update(clip=[CLIP, 1], text="a red ball over green hills")
    workflow[PICTURE]["inputs"].update(SIZE)
    workflow[SAMPLER]["inputs"].update(SIZE, length=float(FRAMES), length_unit="frames")
    workflow[MODEL]["inputs"]["model_name"] = model
    return workflow


def frames(client: Client, run: Run) -> np.ndarray:
    assert run.end[0] == "execution_success", run.end
    return np.stack(frames_of(saved(client, run, SAVE))).astype(int)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("model", RATES)
def test_a_picture_speaks_a_recording_and_the_video_has_it(client: Client, model: str) -> None:
    """LiveTalk makes the picture in its first chunk; it is AvatarForcing's first chunk."""
    spoken = client.run(speech(model))
    heard = frames(client, spoken)
    assert spoken.values(SAMPLER)[-1] == CHUNKS
    assert spoken.texts(SAMPLER)[0] == "Hears 2.0 s of sound."
    with av.open(str(saved(client, spoken, SAVE))) as video:
        assert len(video.streams.audio) == 1
        assert video.streams.video[0].average_rate == RATES[model]
    workflow = speech(model)
    workflow[RECORDING]["inputs"]["audio"] = "silence.wav"
    still = frames(client, client.run(workflow))
    assert heard.shape == still.shape == (FRAMES, 64, 96, 3)
    assert np.abs(heard - still).mean() > 1  # of 255


@pytest.mark.usefixtures("files")
def test_without_voice_a_sentence_says_what_to_connect(client: Client) -> None:
    workflow = speech()
    workflow[SAMPLER]["inputs"]["picture"] = [PICTURE, 0]
    del workflow[VOICE]
    run = client.run(workflow)
    assert run.end[0] == "execution_error"
    assert "connect WanImageToVideo to Voice" in run.end[1]["exception_message"]
