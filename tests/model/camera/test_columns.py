"""Columns in the world: a token's keys depend on where it is, whichever frame shows it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import column_turns, rotate, rotation
from longtake.model.camera import columns
from longtake.model.camera.columns import turned, world_hooks
from longtake.model.config import camera_of
from longtake.model.dit import PassOptions, WanDiT, predict, project_text
from longtake.tests.support.tiny_model import TINY, randn, random_dit

PLACED = replace(TINY, camera="columns")
ROWS, COLUMNS = 2, 6


def test_a_turn_of_whole_columns_is_the_rotary_embedding_of_other_columns() -> None:
    """Against the engine's own table of places, whose columns are whole numbers."""
    heads, d, shift = 4, TINY.head_dim, 2
    x = randn(1, ROWS * COLUMNS, heads, d)
    turns = column_turns(torch.tensor([[float(shift)]]), d)
    ours = rotate(turned(x, turns), rotation([0], ROWS, COLUMNS, d))
    wide = rotation([0], ROWS, COLUMNS + shift, d)
    places = [row * (COLUMNS + shift) + column + shift
              for row in range(ROWS) for column in range(COLUMNS)]  # fmt: skip
    moved = rotate(x, replace(wide, cos=wide.cos[places], sin=wide.sin[places]))
    torch.testing.assert_close(ours[:, :, 2:], moved[:, :, 2:], atol=1e-5, rtol=1e-5)
    still = rotate(x, rotation([0], ROWS, COLUMNS, d))
    assert torch.equal(ours[:, :, :2], still[:, :, :2])


def velocity(tree: WanDiT, travel: torch.Tensor) -> torch.Tensor:
    """The velocity of three frames whose camera came `travel` (f,)."""
    x = randn(1, 3, TINY.in_channels, 2 * ROWS, 2 * COLUMNS, seed=1)
    text = project_text(tree, randn(1, 1, 5, TINY.text_dim, seed=2))
    attention = WholeSequence(rotation(range(3), ROWS, COLUMNS, TINY.head_dim))
    hooks = world_hooks(tree, torch.zeros(1, 3), travel[None])
    with torch.no_grad():
        return predict(tree, x, torch.full((1, 3), 500.0), text, attention,
                       PassOptions(hooks=hooks)).velocity  # fmt: skip


def test_only_differences_of_places_count() -> None:
    tree, travel = random_dit(PLACED), torch.tensor([0.0, 3.0, 4.5])
    torch.testing.assert_close(
        velocity(tree, travel), velocity(tree, travel + 2000), atol=1e-4, rtol=1e-4
    )
    assert not torch.allclose(velocity(tree, travel), velocity(tree, 0 * travel), atol=1e-3)


def test_a_still_camera_gives_the_model_without_columns() -> None:
    tree = random_dit(PLACED)
    plain = velocity(tree, torch.zeros(3))
    tree.world_columns.zero_()
    torch.testing.assert_close(plain, velocity(tree, torch.tensor([0.0, 7.0, 9.0])))


def test_a_file_says_that_its_columns_are_the_worlds() -> None:
    extra = WanDiT(PLACED).state_dict().keys() - WanDiT(TINY).state_dict().keys()
    assert "world_columns" in extra
    assert camera_of(extra) == "columns" and camera_of(extra - {"world_columns"}) == "action"


@pytest.mark.parametrize("heads", [2, 4])
def test_half_of_the_heads_count_from_the_pictures_edge(heads: int) -> None:
    x = randn(1, 4, heads, 12)
    out = turned(x, column_turns(torch.tensor([[0.7, 1.9]]), 12))
    assert torch.equal(out[:, :, : heads // 2], x[:, :, : heads // 2])
    assert not torch.allclose(out[:, :, heads // 2 :], x[:, :, heads // 2 :])
    torch.testing.assert_close(out.norm(dim=-1), x.norm(dim=-1))


def test_turns_go_to_the_device_of_the_keys_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The camera's numbers are on the CPU; a device of shapes alone stands for another."""
    tree = SimpleNamespace(world_columns=torch.tensor([0.25]), dim=48, num_heads=4)
    uploaded: list[Tensor] = []

    def upload(x: Tensor, device: torch.device) -> Tensor:
        uploaded.append(x)
        return x.to(device)

    monkeypatch.setattr(columns, "upload", upload)
    [turn] = world_hooks(tree, torch.zeros(1, 3), torch.arange(3.0)[None]).places
    for _ in range(2):
        assert turn(torch.empty(1, 12, 4, 12, device="meta")).is_meta
    assert len(uploaded) == 2  # cosine and sine
