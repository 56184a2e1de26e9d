"""Files as diffusers saves them, loaded by us: the same velocities as diffusers' own models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.checkpoint import load_dit, open_checkpoint
from longtake.model.dit import predict, project_text
from longtake.tests.support.model.diffusers_models import COLUMNS, FRAMES, HEAD, ROWS, store
from longtake.tests.support.tiny_model import randn


def velocity(path: Path, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
    """Ours, from the file."""
    dit = load_dit(path)
    attention = WholeSequence(rotation(range(FRAMES), ROWS // 2, COLUMNS // 2, HEAD))
    out = predict(dit, x.transpose(1, 2), t, project_text(dit, context[:, None]), attention)
    return out.velocity.transpose(1, 2)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    context = torch.zeros(1, 512, 24)
    context[:, :7] = randn(1, 7, 24, seed=3)
    x = randn(1, 16, FRAMES, ROWS, COLUMNS, seed=1)
    return x, torch.tensor([[37.5, 937.5, 625.0]]), context


@torch.inference_mode()
def test_wan_in_shards_of_diffusers(tmp_path: Path) -> None:
    theirs = store("WanTransformer3DModel", tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    x, t, context = inputs()
    per_token = t.repeat_interleave(ROWS * COLUMNS // 4, 1)
    expected = theirs(x, per_token, context, return_dict=False)[0]
    torch.testing.assert_close(velocity(tmp_path, x, t, context), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("fps", [16.0, 24.0])
@torch.inference_mode()
def test_skyreels_with_its_fps_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fps: float
) -> None:
    theirs = store("SkyReelsV2Transformer3DModel", tmp_path, inject_sample_info=True)
    x, t, context = inputs()
    expected = theirs(
        x, t, context, enable_diffusion_forcing=True, return_dict=False,
        fps=[0 if fps == 16 else 1],
    )[0]  # fmt: skip
    opened = open_checkpoint(tmp_path)
    assert opened.recognition.family.key == "skyreels-df-fps" and not opened.recognition.unused
    whole = type(opened).state
    monkeypatch.setattr(type(opened), "state", lambda self: whole(self.at_rate(fps)))
    torch.testing.assert_close(velocity(tmp_path, x, t, context), expected, rtol=0, atol=1e-4)
