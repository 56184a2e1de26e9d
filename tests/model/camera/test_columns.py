"""Columns in the world: a token's keys depend on where it is, whichever frame shows it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import by_angles, column_frequencies, rotate, rotation
from longtake.model.camera import columns
from longtake.model.camera.columns import column_turns, of_tokens, world_hooks
from longtake.model.config import camera_of
from longtake.model.dit import PassOptions, WanDiT, predict, project_text
from longtake.model.hooks import NO_HOOKS
from longtake.tests.support.tiny_model import TINY, randn, random_dit

PLACED = replace(TINY, camera="columns")
ROWS, COLUMNS = 2, 6


def tree_of(head_dim: int, heads: int, turns: Tensor) -> SimpleNamespace:
    """What `world_hooks` reads of a model whose camera passes one column in a latent frame."""
    columns = torch.tensor([1.0])
    return SimpleNamespace(
        world_columns=columns, world_turns=turns, dim=heads * head_dim, num_heads=heads
    )


def test_a_turn_of_whole_columns_is_the_rotary_embedding_of_other_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the engine's own table of places, whose columns are whole numbers."""
    heads, d, shift = 4, TINY.head_dim, 2
    x = randn(1, ROWS * COLUMNS, heads, d)
    monkeypatch.setattr(columns, "pan_hooks", lambda tree, action: NO_HOOKS)
    tree = tree_of(d, heads, column_turns(d, 0.0))
    [turn] = world_hooks(tree, torch.zeros(1, 1), torch.tensor([[float(shift)]])).places
    ours = rotate(turn(x), rotation([0], ROWS, COLUMNS, d))
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


@pytest.mark.parametrize("heads", [2, 3, 4])
def test_each_half_of_the_heads_has_its_own_turns(heads: int) -> None:
    """Pair by pair as complex numbers, against a loop over frames and heads."""
    x, angles = randn(1, 4, heads, 12), randn(1, 2, 2, 2, seed=3).double()
    out = rotate(x, of_tokens(by_angles(angles, "cpu"), 4, heads, 12))
    assert torch.equal(out[..., :-4], x[..., :-4])
    for token in range(4):
        for head in range(heads):
            angle = angles[0, token // 2, int(head >= heads // 2)]
            pairs = torch.view_as_complex(x[0, token, head, -4:].double().view(2, 2))
            expected = torch.view_as_real(pairs * torch.polar(torch.ones(2).double(), angle))
            torch.testing.assert_close(out[0, token, head, -4:].double(), expected.flatten(),
                                       atol=1e-6, rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_further_turns_tell_parts_of_a_column_apart(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a column is a quarter of a whole turn, in the last pairs of each half."""
    heads, d, columns_passed = 2, 48, 0.25
    monkeypatch.setattr(columns, "pan_hooks", lambda tree, action: NO_HOOKS)
    tree = tree_of(d, heads, column_turns(d, share))
    [turn] = world_hooks(tree, torch.zeros(1, 1), torch.tensor([[columns_passed]])).places
    x = torch.zeros(1, 1, heads, d)
    x[..., 0::2] = 1.0
    out = torch.view_as_complex(turn(x).double().unflatten(-1, (-1, 2)))[0, 0, :, -8:].angle()
    further = (
        2
        * torch.pi
        * columns_passed
        * share
        * torch.tensor([[0, 0, 0, 0, 0, 1, 0.5, 0.25], [0, 0, 0, 0, 0, 0, 1, 0.5]])
    )
    own = torch.stack([torch.zeros(8).double(), columns_passed * column_frequencies(d)])
    torch.testing.assert_close(out, own + further, atol=1e-5, rtol=1e-5)


def test_turns_go_to_the_device_of_the_keys_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's numbers are on the CPU; a device of shapes alone stands for another."""
    tree = tree_of(12, 4, column_turns(12))
    uploaded: list[Tensor] = []

    def upload(x: Tensor, device: torch.device) -> Tensor:
        if device.type == "meta":
            uploaded.append(x)
        return x.to(device)

    monkeypatch.setattr(columns, "upload", upload)
    [turn] = world_hooks(tree, torch.zeros(1, 3), torch.arange(3.0)[None]).places
    for _ in range(2):
        assert turn(torch.empty(1, 12, 4, 12, device="meta")).is_meta
    assert len(uploaded) == 2  # cosine and sine


def test_nothing_is_read_of_a_model_on_another_device() -> None:
    """A read would wait for the device, and a device of shapes alone has no number to read."""
    tree = tree_of(12, 4, column_turns(12).to("meta"))
    tree.world_columns = tree.world_columns.to("meta")
    [turn] = world_hooks(tree, torch.zeros(1, 3), torch.arange(3.0)[None]).places
    assert turn(torch.empty(1, 12, 4, 12, device="meta")).is_meta


def test_a_device_without_float64_leaves_its_angles_to_the_cpu() -> None:
    where = {kind: columns._place_of_angles(torch.device(kind)).type for kind in ("cuda", "mps")}
    assert where == {"cuda": "cuda", "mps": "cpu"}
