"""Matrix-Game 2's keys and mouse, picture, window and steps, against its authors' own code.

`tests/data/authors/README.md` says how the file was made.
"""

from __future__ import annotations

from dataclasses import replace

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

RUNS = {
    "matrix-game-2": load_file(FOLDER / "matrix_game.safetensors"),
    "matrix-game-2-drive": load_file(FOLDER / "matrix_game_drive.safetensors"),
}
every_family = pytest.mark.parametrize("family", RUNS)


def picture(run: dict[str, Tensor]) -> Reference:
    """The mask of the first latent frame, the latents of the picture's video, its features."""
    mask = torch.zeros(len(run["picture"]), 4, *run["picture"].shape[2:])
    mask[0] = 1
    return Reference(torch.cat([mask, run["picture"]], 1), run["features"])


def latents(family: str, path: CameraPath | None) -> Tensor:
    """Ours on the inputs of the authors' run."""
    run = RUNS[family]
    assert SMALL_ACTIONS.action is not None
    action = replace(SMALL_ACTIONS.action, keys=run["keys"].shape[1])
    config = replace(SMALL_ACTIONS, action=action)
    model = local_denoiser(random_matrix_game(config), config)
    return preset_rollout(
        torch.zeros(1, 0), run["latents"], model, BY_KEY[family].preset,
        reference=picture(run), camera=path,
    )  # fmt: skip


@torch.inference_mode()
@every_family
def test_the_preset_is_the_authors_own_code(family: str) -> None:
    """Five chunks of three: windows of three latent frames and of one are passed."""
    run = RUNS[family]
    ours = latents(family, walk(run["keys"], run["mouse"]))
    torch.testing.assert_close(ours, run["latents"], rtol=0, atol=1e-4)


@torch.inference_mode()
@every_family
@pytest.mark.parametrize("fault", ["still", "no mouse", "no keys", "a frame later"])
def test_other_keys_or_another_mouse_are_told_apart(family: str, fault: str) -> None:
    run = RUNS[family]
    keys, mouse = run["keys"], run["mouse"]
    path = {
        "still": None,
        "no mouse": walk(keys, 0 * mouse),
        "no keys": walk(0 * keys, mouse),
        "a frame later": walk(keys.roll(1, 0), mouse.roll(1, 0)),
    }[fault]
    assert (latents(family, path) - run["latents"]).abs().max() > 0.01
