"""Files whose numbers show that they are not whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import BadInput
from longtake.model.files.number_checks import check_numbers

WAN_VAE = {
    "encoder.conv1.weight": (8, 3, 3, 3, 3),
    "encoder.downsamples.0.residual.0.gamma": (8, 1, 1, 1),
    "encoder.downsamples.0.residual.2.weight": (8, 8, 3, 3, 3),
    "encoder.middle.1.proj.weight": (8, 8, 1, 1),
    "decoder.middle.1.proj.weight": (8, 8, 1, 1),
    "decoder.upsamples.3.residual.6.weight": (8, 8, 3, 3, 3),
}
TINY_VAE = {f"encoder.{i}.conv.2.weight": (8, 8, 3, 3) for i in range(4, 8)}


@pytest.mark.parametrize("shapes", [WAN_VAE, TINY_VAE])
def test_a_vae_that_was_cut_short_behind_reserved_room_is_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]]
) -> None:
    path = tmp_path / "vae.safetensors"
    save_file({name: torch.randn(shape) for name, shape in shapes.items()}, path)
    check_numbers(load_file(path), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3].ljust(len(data), b"\0"))
    with pytest.raises(BadInput, match=r"has nothing but zeros in \S+\.weight; download it again"):
        check_numbers(load_file(path), path)


def test_projections_that_training_begins_as_zeros_may_be_zeros(tmp_path: Path) -> None:
    begun = {name: torch.zeros(WAN_VAE[name]) for name in WAN_VAE if "proj" in name}
    check_numbers(begun | {"decoder.head.2.bias": torch.zeros(3)}, tmp_path)
