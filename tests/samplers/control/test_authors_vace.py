"""A control video on a causal model equals daydreamlive/scope's own code, past the window.

`tests/data/authors/README.md` says how the file was made.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.attention.cache.placed_windows import DistantSink
from longtake.model.dit import WanDiT
from longtake.model.families.table import BY_KEY
from longtake.model.vace.module import VaceModule, control_channels
from longtake.samplers.control.strength import ControlStrength
from longtake.samplers.control.video import ControlVideo
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.noise import addressed_noise
from longtake.tests.support.samplers.authors import FOLDER, SEED, preset_rollout
from longtake.tests.support.samplers.control import ControlTensors, Picture
from longtake.tests.support.tiny_model import TINY

CHUNK, ROWS, COLUMNS = 4, 8, 16  # 128 tokens a chunk: Scope's attention pads others with zeros
CACHE = DistantSink(window_frames=8, sink_frames=4)
RUN = load_file(FOLDER / "vace.safetensors")
FRAMES = len(RUN["latents"])


def model() -> Denoiser:
    """The tiny model of all authors' runs, with a module of two blocks."""
    config = replace(TINY, control_blocks=2)
    dit, module = WanDiT(TINY), VaceModule(config)
    dit.load_state_dict(load_file(FOLDER / "weights.safetensors"))
    module.load_state_dict(load_file(FOLDER / "vace_weights.safetensors"))
    engine = local_denoiser(dit.eval().requires_grad_(False), config)
    return replace(engine, control=module.eval().requires_grad_(False))


def rollout(control: ControlVideo | None) -> Tensor:
    """Ours on the same inputs."""
    preset = replace(BY_KEY["longlive"].preset, chunk_frames=CHUNK)
    return preset_rollout(
        RUN["text"], RUN["latents"], model(), preset, cache=CACHE, control=control
    )


def drawn(frame: int, purpose: str, channels: int) -> Tensor:
    """The numbers that stood for a control frame or a reference picture in their run."""
    return addressed_noise(SEED, frame, 0, purpose, (channels, ROWS, COLUMNS))


def control_frames() -> ControlTensors:
    """The control frames of their run."""
    channels = control_channels(TINY.out_channels)
    return ControlTensors(torch.stack([drawn(f, "control", channels) for f in range(FRAMES)]))


def test_without_control_the_run_is_comparable() -> None:
    torch.testing.assert_close(rollout(None), RUN["plain"], atol=1e-4, rtol=0)


def test_control_frames_with_a_strength_for_each_chunk() -> None:
    strengths = ControlStrength(
        tuple(range(0, FRAMES, CHUNK)), tuple(map(float, RUN["strengths"].tolist()))
    )
    made = rollout(ControlVideo(control_frames(), strength=strengths))
    torch.testing.assert_close(made, RUN["latents"], atol=1e-4, rtol=0)
    assert not torch.allclose(RUN["latents"], RUN["plain"], atol=0.1)


def test_a_reference_picture_alone() -> None:
    picture = Picture(drawn(0, "reference", TINY.out_channels))
    made = rollout(ControlVideo(references=(picture,)))
    torch.testing.assert_close(made, RUN["with_reference"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("wrong", ["positions", "commits"])
def test_the_comparison_fails_where_the_loop_is_another(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run tells positions that go on, and hints in commits, from what Scope does."""
    from longtake.samplers import control_branch as branch
    from longtake.samplers import evaluator

    if wrong == "positions":
        original = branch.ControlPass
        monkeypatch.setattr(
            branch, "ControlPass",
            lambda tokens, strengths, positions, *rest: original(
                tokens, strengths, [2 * at for at in positions], *rest
            ),
        )  # fmt: skip
    else:
        hooks = evaluator.Evaluator._hooks
        monkeypatch.setattr(
            evaluator.Evaluator, "_hooks", lambda self, inputs, commits: hooks(self, inputs, False)
        )
    made = rollout(ControlVideo(references=(Picture(drawn(0, "reference", TINY.out_channels)),)))
    assert not torch.allclose(made, RUN["with_reference"], atol=1e-3)
