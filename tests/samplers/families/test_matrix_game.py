"""Matrix-Game 2's keys and mouse, picture, window and steps, against its authors' own code.

`tests/data/authors/README.md` says how the file was made.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.model.families.table import BY_KEY
from longtake.samplers.camera.path import CameraPath
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.denoiser import local_denoiser
from longtake.tests.support.model.matrix_game import SMALL_ACTIONS, random_matrix_game, walk
from longtake.tests.support.samplers.authors import FOLDER, preset_rollout

PRESET = BY_KEY["matrix-game-2"].preset
RUN = load_file(FOLDER / "matrix_game.safetensors")


def picture() -> Reference:
    """The mask of the first latent frame, the latents of the picture's video, its features."""
    mask = torch.zeros(len(RUN["picture"]), 4, *RUN["picture"].shape[2:])
    mask[0] = 1
    return Reference(torch.cat([mask, RUN["picture"]], 1), RUN["features"])


def latents(path: CameraPath | None) -> Tensor:
    """Ours on the inputs of the authors' run."""
    model = local_denoiser(random_matrix_game(), SMALL_ACTIONS)
    text = torch.zeros(1, 0)
    return preset_rollout(
        text, RUN["latents"], model, PRESET, reference=picture(), camera=path
    )


@torch.inference_mode()
def test_the_preset_is_the_authors_own_code() -> None:
    """Five chunks of three, the last three past a window of three latent frames."""
    ours = latents(walk(RUN["keys"], RUN["mouse"]))
    torch.testing.assert_close(ours, RUN["latents"], rtol=0, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("fault", ["still", "no mouse", "no keys", "a frame later"])
def test_other_keys_or_another_mouse_are_told_apart(fault: str) -> None:
    keys, mouse = RUN["keys"], RUN["mouse"]
    path = {
        "still": None,
        "no mouse": walk(keys, 0 * mouse),
        "no keys": walk(0 * keys, mouse),
        "a frame later": walk(keys.roll(1, 0), mouse.roll(1, 0)),
    }[fault]
    assert (latents(path) - RUN["latents"]).abs().max() > 0.01
