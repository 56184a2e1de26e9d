"""The demo's second stage: any chunks give the same bits, and other files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from longtake.errors import BadInput
from longtake.model.refiner.file import load_refiner
from longtake.model.refiner.frames import NoiseAugmentation, refine
from longtake.model.refiner.network import Refiner, RefinerConfig, enlarge, shrink
from longtake.tests.support.tiny_model import randomise

SMALL = RefinerConfig(width=8, fine_width=4, blocks=3)


@pytest.fixture
def refiner() -> Refiner:
    network = Refiner(SMALL)
    randomise(network, 5)
    return network.eval()


def clip(frames: int = 11, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(2))


def noise_of(frame: int) -> Tensor:
    return torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(frame))


def whole(
    refiner: Refiner, frames: Tensor, augmentation: NoiseAugmentation | None = None
) -> Tensor:
    return refine(refiner, frames, 0, refiner.start(), augmentation)[0]


@pytest.mark.parametrize("level", [0.0, 0.2])
@pytest.mark.parametrize("parts", [[1] * 11, [4, 7], [9, 1, 1]])
def test_chunks_of_any_length_give_the_same_bits(
    refiner: Refiner, parts: list[int], level: float
) -> None:
    augmentation = NoiseAugmentation(level, noise_of) if level else None
    frames, memory, made, first = clip(), refiner.start(), [], 0
    for part in frames.split(parts):
        larger, memory = refine(refiner, part, first, memory, augmentation)
        made.append(larger)
        first += len(part)
    assert torch.equal(torch.cat(made), whole(refiner, frames, augmentation))


def test_frame_by_frame_equals_all_at_once(refiner: Refiner) -> None:
    frames = clip()
    with torch.no_grad():
        at_once, _ = refiner(frames[None], torch.zeros(1), refiner.start())
    torch.testing.assert_close(whole(refiner, frames), at_once[0].clamp(0, 1), rtol=0, atol=2e-6)


def test_a_frame_is_the_same_from_as_many_frames_before_as_there_are_blocks(
    refiner: Refiner,
) -> None:
    frames = clip()
    expected = whole(refiner, frames)[-1]
    from_enough = refine(refiner, frames[-4:], 7, refiner.start())[0][-1]
    from_fewer = refine(refiner, frames[-3:], 8, refiner.start())[0][-1]
    assert torch.equal(from_enough, expected)
    assert not torch.equal(from_fewer, expected)


def test_no_frame_depends_on_a_later_one(refiner: Refiner) -> None:
    frames = clip()
    assert torch.equal(whole(refiner, frames)[:6], whole(refiner, frames[:6]))


def test_a_network_that_adds_nothing_is_a_bicubic_enlargement(refiner: Refiner) -> None:
    last = refiner.layers[-2]
    for parameter in last.parameters():
        parameter.data.zero_()
    frames = clip()
    expected = functional.interpolate(frames, size=(64, 96), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(whole(refiner, frames), expected, rtol=0, atol=1e-6)


def test_the_network_is_told_the_level(refiner: Refiner) -> None:
    silent = NoiseAugmentation(0.2, lambda _: torch.zeros(3, 16, 24))
    assert not torch.equal(whole(refiner, clip(), silent), whole(refiner, clip()))


def test_what_is_enlarged_and_made_small_again_keeps_its_mean() -> None:
    flat = torch.full((1, 2, 3, 8, 8), 0.25)
    torch.testing.assert_close(shrink(enlarge(flat)), flat)


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="second stage"):
        load_refiner(tmp_path / "other.safetensors")
    state = Refiner(SMALL).state_dict()
    state["layers.2.join.weight"] = torch.zeros(1, 1, 3, 3)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(BadInput):
        load_refiner(tmp_path / "odd.safetensors")
