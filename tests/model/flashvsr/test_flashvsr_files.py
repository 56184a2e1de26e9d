"""FlashVSR's files: known by their tensors, and refused in a sentence where they are not whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.checkpoint import build_dit
from longtake.model.files.weights import open_weights
from longtake.model.flashvsr.file import open_flashvsr
from longtake.model.flashvsr.parts import TITLES, USUAL_NAMES, find_parts, part_of
from longtake.tests.support.model.family_files import header_only, official_shapes
from longtake.tests.support.model.flashvsr import small_context, small_networks, store_parts

Change = Callable[[dict[str, Tensor]], object]


@pytest.fixture
def transformer(tmp_path: Path) -> Path:
    return store_parts(tmp_path)


def change(path: Path, change: Change) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize("causal", [False, True])
def test_a_folder_gives_back_the_networks(transformer: Path, causal: bool) -> None:
    opened = open_flashvsr(find_parts(transformer, {}), causal=causal)
    networks = small_networks(causal=causal)
    assert opened.projector.config == networks.projector.config
    pairs = (opened.projector, networks.projector), (opened.decoder, networks.decoder)
    for ours, theirs in pairs:
        expected = dict(theirs.state_dict())
        assert all(torch.equal(x, expected.pop(n)) for n, x in ours.state_dict().items())
        assert not expected
    dit = build_dit(opened.transformer.state(), opened.config, transformer)
    assert all(torch.equal(a, b) for a, b in zip(
        dit.state_dict().values(), networks.dit.state_dict().values(), strict=True))  # fmt: skip
    assert torch.equal(opened.prompt, small_context()[:, None])


def test_parts_are_known_by_their_tensors_not_their_names(transformer: Path) -> None:
    folder = transformer.parent
    for number, (part, name) in enumerate(USUAL_NAMES.items()):
        path = (folder / name).rename(folder / f"{number}.pt")
        assert part_of(open_weights(path).header) == part
    assert part_of(open_weights(transformer).header) is None
    (folder / "notes.txt").write_text("no weights")
    (folder / "broken.ckpt").write_bytes(b"not a zip")
    parts = find_parts(transformer, {})
    assert [parts.projector.name, parts.decoder.name, parts.prompt.name] == ["0.pt", "1.pt", "2.pt"]


def test_parts_may_lie_elsewhere(transformer: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    paths = {part: (tmp_path / name).rename(elsewhere / name) for part, name in USUAL_NAMES.items()}
    parts = find_parts(transformer, paths)
    assert parts.decoder == elsewhere / "TCDecoder.ckpt"
    with pytest.raises(BadInput, match=r"lacks the .*, the decoder .* and the prompt"):
        find_parts(transformer, {})
    with pytest.raises(BadInput, match=r"LQ_proj_in.ckpt is no decoder of FlashVSR"):
        find_parts(transformer, {**paths, "decoder": paths["projector"]})


@pytest.mark.parametrize("part", USUAL_NAMES)
def test_a_missing_part_is_named(transformer: Path, part: str) -> None:
    (transformer.parent / USUAL_NAMES[part]).unlink()
    with pytest.raises(BadInput, match=rf"incomplete.*\({USUAL_NAMES[part]}\); put") as refusal:
        find_parts(transformer, {})
    assert sum(name in str(refusal.value) for name in USUAL_NAMES.values()) == 1


@pytest.mark.parametrize("part", USUAL_NAMES)
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "cut short: download it again"),
        (lambda path: path.write_text("<!DOCTYPE html><p>Sign in</p>"), "web page"),
        (lambda path: torch.save({"other.weight": torch.zeros(9)}, path), "as its authors publish"),
    ],
)
def test_a_broken_part_is_not_called_missing(
    transformer: Path, part: str, damage: Callable[[Path], object], said: str
) -> None:
    path = transformer.parent / USUAL_NAMES[part]
    damage(path)
    with pytest.raises(BadInput, match=said) as refusal:
        find_parts(transformer, {})
    assert str(refusal.value).startswith(f"{path} ") and "lacks" not in str(refusal.value)


def test_two_versions_in_one_folder_are_refused(transformer: Path) -> None:
    copy = transformer.parent / "LQ_proj_in_v1.ckpt"
    copy.write_bytes((transformer.parent / "LQ_proj_in.ckpt").read_bytes())
    with pytest.raises(BadInput, match="both hold a low-quality projector"):
        find_parts(transformer, {})


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("LQ_proj_in.ckpt", lambda s: s.pop("conv2.weight"), "no whole part.*no conv2.weight"),
        ("LQ_proj_in.ckpt", lambda s: s.pop("norm2.gamma"),
         r"describe: 1 tensor is missing \(norm2.gamma\); download the unmodified file\.$"),
        ("TCDecoder.ckpt", lambda s: s.pop("decoder.3.weight"), "no whole part"),
        ("TCDecoder.ckpt", lambda s: s.pop("decoder.22.weight"), "no whole part"),
        ("TCDecoder.ckpt", lambda s: s.update({"decoder.26.bias": torch.zeros(9)}),
         r"1 tensor has another shape \(decoder.26.bias: \[9\] in place of \[3\]\)"),
        ("TCDecoder.ckpt", lambda s: [s.pop(f"decoder.{n}.conv.2.bias") for n in (5, 6)],
         r"2 tensors are missing \(the first: decoder.5.conv.2.bias\)"),
        ("TCDecoder.ckpt", lambda s: s["decoder.1.bias"].fill_(torch.nan), "NaN or infinity"),
    ],
)  # fmt: skip
def test_files_that_are_not_whole_are_refused(
    transformer: Path, name: str, damage: Change, said: str
) -> None:
    change(transformer.parent / name, damage)
    with pytest.raises(BadInput, match=said):
        open_flashvsr(find_parts(transformer, {}), causal=True)


def test_parts_of_another_size_are_refused(transformer: Path) -> None:
    def widen(state: dict[str, Tensor]) -> None:
        state["linear_layers.0.weight"] = torch.zeros(48, 8)
        state["linear_layers.0.bias"] = torch.zeros(48)

    change(transformer.parent / "LQ_proj_in.ckpt", widen)
    with pytest.raises(BadInput, match="tokens of 48 channels.*3 blocks of 24"):
        open_flashvsr(find_parts(transformer, {}), causal=True)
    store_parts(transformer.parent)
    torch.save(torch.zeros(1, 6, 16), transformer.parent / "posi_prompt.pth")
    with pytest.raises(BadInput, match="has 16 channels.*reads 8"):
        open_flashvsr(find_parts(transformer, {}), causal=True)


def test_another_file_in_the_transformers_place_is_refused(transformer: Path) -> None:
    """The remedy is FlashVSR's own file, and no other Wan model."""
    own = r"choose (FlashVSR's|its) transformer, diffusion_pytorch_model_streaming_dmd.safetensors"
    folder = transformer.parent
    for part, name in USUAL_NAMES.items():
        with pytest.raises(BadInput, match=f"{name} is FlashVSR's {TITLES[part]}; {own}"):
            find_parts(folder / name, {})
    parts = find_parts(transformer, {})
    for path, said in (
        (header_only(folder / "a.safetensors", {"blocks.weight": (2, 2)}), "no Wan-family model"),
        (header_only(folder / "b.safetensors", official_shapes("I2V-14B")), "those of i2v"),
        (header_only(folder / "c.safetensors", {"q.lora_up.weight": (2, 2)}), "is a LoRA"),
    ):
        with pytest.raises(BadInput, match=f"{said}.*; {own}"):
            open_flashvsr(replace(parts, transformer=path), causal=True)


def test_code_in_a_file_is_never_run(transformer: Path) -> None:
    torch.save({"conv1.weight": print}, transformer.parent / "LQ_proj_in.ckpt")
    with pytest.raises(BadInput, match="code and not weights"):
        find_parts(transformer, {})
    with pytest.raises(BadInput, match="code and not weights"):
        find_parts(transformer, {"projector": transformer.parent / "LQ_proj_in.ckpt"})
