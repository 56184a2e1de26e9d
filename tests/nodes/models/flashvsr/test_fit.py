"""The line under Load FlashVSR: what its four files take, from their headers alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.model.flashvsr.canvas import Canvas
from longtake.model.flashvsr.file import open_flashvsr
from longtake.model.flashvsr.memory import _most_bytes, pass_memory
from longtake.model.flashvsr.parts import Parts, find_parts
from longtake.model.flashvsr.sizes import Sizes
from longtake.model.flashvsr.tiles import TILE_SIDES, Tiling
from longtake.model.flashvsr.trace import trace_passes
from longtake.model.shape_memo import ShapeMemo
from longtake.nodes.models.fit import CPU, Machine
from longtake.nodes.models.flashvsr.fit import fit_flashvsr
from longtake.samplers.planning.cache_forms import RESERVED_BYTES
from longtake.tests.support.model.family_files import header_only, official_shapes
from longtake.tests.support.model.flashvsr import OFFICIAL, store_headers, store_parts
from longtake.units import byte_size

CUDA = torch.device("cuda")
BF16 = torch.bfloat16


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return find_parts(store_parts(tmp_path_factory.mktemp("FlashVSR")), {})


def needed(parts: Parts, side: int) -> int:
    """Bytes on a card by the loaded networks: all weights, and passes in tiles of `side`."""
    file = open_flashvsr(parts, causal=True)
    networks = file.projector, file.decoder
    weights = sum(p.numel() for network in networks for p in network.parameters())
    weights += sum(tensor.numel() for tensor in file.transformer.state().values())
    sizes = Sizes(file.config, file.projector.config, file.decoder.config.widths, BF16,
                  file.prompt.shape[2])  # fmt: skip
    memory = pass_memory(sizes, Tiling(Canvas(1408, 768), side), CUDA)
    return 2 * weights + memory.state_bytes + memory.working_bytes


def test_a_card_holds_the_whole_picture_from_its_planned_bytes_on(parts: Parts) -> None:
    """One byte less takes the largest tiles."""
    size = needed(parts, 0) + RESERVED_BYTES
    enough = fit_flashvsr(parts, Machine(CUDA, size), causal=True)
    less = fit_flashvsr(parts, Machine(CUDA, size - 1), causal=True)
    assert enough.fits and "at 1408x768. Fits" in enough.text
    assert less.fits and "at 1408x768 in tiles of 1024 pixels. Fits" in less.text


def test_below_the_smallest_tiles_it_does_not_fit(parts: Parts) -> None:
    least = needed(parts, 256)
    assert fit_flashvsr(parts, Machine(CUDA, least + RESERVED_BYTES), causal=True).fits
    answer = fit_flashvsr(parts, Machine(CUDA, least + RESERVED_BYTES - 1), causal=True)
    assert not answer.fits and f"in tiles of 256 pixels needs {byte_size(least)}" in answer.text


def test_a_chosen_format_counts_for_the_transformer_alone(parts: Parts) -> None:
    file = open_flashvsr(parts, causal=True)
    transformer = sum(tensor.numel() for tensor in file.transformer.state().values())
    networks = file.projector, file.decoder
    beside = sum(p.numel() for network in networks for p in network.parameters())
    machine = Machine(CUDA, 2**36)
    text = fit_flashvsr(parts, machine, causal=True, weight_dtype=torch.float8_e4m3fn).text
    assert text.startswith(f"FlashVSR: {byte_size(transformer + 2 * beside)} weights")
    whole = byte_size(4 * (transformer + beside))  # on a CPU the host keeps float32
    assert fit_flashvsr(parts, Machine(CPU, 2**36), causal=True).text.startswith(
        f"FlashVSR: {whole} weights"
    )


def test_parts_of_different_models_are_refused(parts: Parts, tmp_path: Path) -> None:
    """As the loader refuses them."""
    large = header_only(tmp_path / "large.safetensors", official_shapes("1.3B"))
    mixed = Parts(large, parts.projector, parts.decoder, parts.prompt)
    answer = fit_flashvsr(mixed, Machine(CUDA, 2**36), causal=True)
    assert not answer.fits and answer.text.startswith("LQ_proj_in.ckpt makes tokens of 24 channels")
    assert answer.text.endswith("choose files of one FlashVSR.")


def test_a_part_that_lacks_tensors_is_named_alone(parts: Parts, tmp_path: Path) -> None:
    state = torch.load(parts.decoder, weights_only=True)
    del state["decoder.22.weight"]
    torch.save(state, tmp_path / "TCDecoder.ckpt")
    broken = Parts(parts.transformer, parts.projector, tmp_path / "TCDecoder.ckpt", parts.prompt)
    answer = fit_flashvsr(broken, Machine(CPU, 2**36), causal=True)
    assert not answer.fits
    assert answer.text == (
        "TCDecoder.ckpt is no whole part of FlashVSR (it has no decoder.22.weight); download it "
        "again."
    )


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Headers of the published sizes, without weights."""
    return find_parts(store_headers(tmp_path_factory.mktemp("official")), {})


@pytest.mark.parametrize("gib", [2, 4, 6, 8, 12, 16, 24])
def test_the_answer_for_the_published_files_takes_few_operations(
    official: Parts, gib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second's: to run all layers over all tiles takes half a minute."""
    operations = Counter[str]()

    def count(memo: ShapeMemo, *call: Any) -> Any:
        operations["all"] += 1
        return plain(memo, *call)

    plain = ShapeMemo.repeat
    monkeypatch.setattr(ShapeMemo, "repeat", count)
    for remembered in (_most_bytes, trace_passes):
        remembered.cache_clear()
    answer = fit_flashvsr(official, Machine(CUDA, gib * 2**30), causal=True)
    assert 0 < operations["all"] < 20_000
    assert answer.fits == (gib > 4) and ("in tiles" in answer.text) == (gib < 16)


def test_a_processor_is_told_of_the_tiles_that_take_the_least(official: Parts) -> None:
    """In main memory lie the states of all tiles, so the smallest ones take the most."""
    answer = fit_flashvsr(official, Machine(CPU, 2**30), causal=True)
    needed = [memory.state_bytes + memory.working_bytes for memory in (
        pass_memory(replace(OFFICIAL, dtype=torch.float32), Tiling(Canvas(1408, 768), side))
        for side in (0, *TILE_SIDES))]  # fmt: skip
    assert min(needed) < needed[-1] < 2 * needed[0]
    weights = 4 * sum(p.numel() for part in (OFFICIAL.networks().dit, OFFICIAL.networks().projector,
                                             OFFICIAL.networks().decoder)
                      for p in part.parameters())  # fmt: skip
    assert not answer.fits and "weight_dtype" not in answer.text
    assert answer.text.endswith(f"needs {byte_size(weights + min(needed))}.")
    enough = Machine(CPU, weights + min(needed))
    assert fit_flashvsr(official, enough, causal=True).fits
