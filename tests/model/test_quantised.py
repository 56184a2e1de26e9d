"""Quantised layers: their format is told, and LightX2V's are rewritten in the host's form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import BadInput
from longtake.headless.commands.convert import Conversion, convert
from longtake.headless.commands.inspect import inspect, lines
from longtake.model.checkpoint import load_dit, open_checkpoint
from longtake.model.families.memory import memory_plan
from longtake.model.host_layers import swap_halves
from longtake.tests.support.model.family_files import (
    SMALL,
    State,
    header_only,
    official_shapes,
    state,
)
from longtake.tests.support.model.lightx2v_files import (
    Layer,
    file_and_meaning,
    fp8,
    int8,
    nvfp4,
    nvfp4_with_alpha,
    quantised_layers,
    wide_fp8,
)

NAME = "self_forcing_quantised.safetensors"
CLOSE = {"rtol": 2**-8, "atol": 0.0}  # half a step of bf16
BLOCK = "blocks.1.self_attn.q"
Pack = Callable[[torch.Tensor], Layer]


def saved(path: Path, tensors: State, **metadata: str) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def listed(metadata: dict[str, str]) -> dict[str, dict[str, str]]:
    return json.loads(metadata["_quantization_metadata"])["layers"]


def test_lightx2vs_fp8_becomes_bf16_since_the_host_has_no_scale_for_each_row(
    tmp_path: Path,
) -> None:
    stored, plain = file_and_meaning(state(), fp8)
    opened = open_checkpoint(saved(tmp_path / NAME, stored))
    assert opened.recognition.family.key == "self-forcing" and not opened.recognition.unused
    mine = opened.state()
    assert mine.keys() == plain.keys() and "_quantization_metadata" not in opened.metadata()
    for name in quantised_layers(plain):
        assert mine[name].dtype == torch.bfloat16
        torch.testing.assert_close(mine[name].float(), plain[name], **CLOSE)
    in_bf16 = sum(2 * tensor.numel() for tensor in plain.values())
    assert memory_plan(opened.recognition, 832, 480).weight_bytes == in_bf16


def test_lightx2vs_int8_is_the_hosts_once_it_is_listed(tmp_path: Path) -> None:
    """Without the list, the host would take the whole numbers themselves for weights."""
    stored, plain = file_and_meaning(state(), int8)
    path = saved(tmp_path / NAME, stored)
    opened = open_checkpoint(path)
    layers = [name.removesuffix(".weight") for name in quantised_layers(plain)]
    assert listed(opened.metadata()) == {n: {"format": "int8_tensorwise"} for n in sorted(layers)}
    assert torch.equal(opened.state()[f"{BLOCK}.weight"], stored[f"model.{BLOCK}.weight"])
    ran = load_dit(path).state_dict()[f"{BLOCK}.weight"]
    torch.testing.assert_close(ran, plain[f"{BLOCK}.weight"])


@pytest.mark.parametrize("pack", [nvfp4, nvfp4_with_alpha])
def test_lightx2vs_nvfp4_has_the_hosts_scales_and_order(tmp_path: Path, pack: Pack) -> None:
    stored, plain = file_and_meaning(state(), pack)
    path = saved(tmp_path / NAME, stored)
    opened = open_checkpoint(path)
    mine, weight = opened.state(), plain[f"{BLOCK}.weight"]
    assert not {"alpha", "input_absmax", "weight_global_scale", "input_global_scale"} & {
        name.rpartition(".")[2] for name in mine
    }
    assert listed(opened.metadata())[BLOCK] == {"format": "nvfp4"}
    largest = state()[f"{BLOCK}.weight"].abs().max()
    torch.testing.assert_close(mine[f"{BLOCK}.weight_scale_2"], largest / 2688)
    torch.testing.assert_close(mine[f"{BLOCK}.input_scale"], torch.tensor(5.0 / 2688))
    first = mine[f"{BLOCK}.weight"][:, 0] >> 4  # the host's first number is in the high half
    assert torch.equal(first > 8, weight[:, 0] < 0)
    with pytest.raises(BadInput, match="needs ComfyUI .*nvfp4"):
        load_dit(path)


def test_a_marker_says_e4m3_so_that_e5m2_is_listed_by_its_own_name(tmp_path: Path) -> None:
    """By `scaled_fp8` alone the host makes e4m3 of it, which ends at 448 and not at 57344."""
    stored, plain = file_and_meaning(state(), wide_fp8)
    stored["model.scaled_fp8"] = torch.zeros(2).to(torch.float8_e5m2)
    path = saved(tmp_path / NAME, stored)
    opened = open_checkpoint(path)
    mine, layers = opened.state(), [n.removesuffix(".weight") for n in quantised_layers(plain)]
    assert listed(opened.metadata()) == {n: {"format": "float8_e5m2"} for n in sorted(layers)}
    assert f"{BLOCK}.weight_scale" in mine
    assert not [n for n in mine if n.endswith(("scaled_fp8", "scale_weight"))]
    ran = load_dit(path).state_dict()[f"{BLOCK}.weight"]
    torch.testing.assert_close(ran, plain[f"{BLOCK}.weight"])


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)], ids=str)
def test_a_scale_for_each_row_is_one_under_a_marker_too(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    stored, plain = file_and_meaning(state(), fp8)
    stored = {n.replace("weight_scale", "scale_weight"): t for n, t in stored.items()}
    stored |= {n: t.reshape(shape) for n, t in stored.items() if n.endswith("scale_weight")}
    opened = open_checkpoint(saved(tmp_path / NAME, stored | {"model.scaled_fp8": torch.zeros(2)}))
    mine = opened.state()
    assert mine.keys() == plain.keys() and "_quantization_metadata" not in opened.metadata()
    torch.testing.assert_close(mine[f"{BLOCK}.weight"].float(), plain[f"{BLOCK}.weight"], **CLOSE)


def test_one_axis_of_scales_is_one_for_each_row_as_well(tmp_path: Path) -> None:
    stored, plain = file_and_meaning(state(), int8)
    stored |= {n: t.reshape(-1) for n, t in stored.items() if n.endswith("weight_scale")}
    ran = load_dit(saved(tmp_path / NAME, stored)).state_dict()[f"{BLOCK}.weight"]
    torch.testing.assert_close(ran, plain[f"{BLOCK}.weight"])


DAMAGE: dict[str, tuple[Callable[[State], State], str]] = {
    "one scale is missing": (
        lambda w: {n: t for n, t in w.items() if n != f"{BLOCK}.scale_weight"},
        f"{BLOCK}.weight as F8_E4M3 without its scale"),
    "all scales are missing": (
        lambda w: {n: t for n, t in w.items() if not n.endswith("scale_weight")},
        "as F8_E4M3 without its scale"),
    "scales of an unknown name": (
        lambda w: {n.replace("scale_weight", "weight_scale_inv"): t for n, t in w.items()
                   if n != "scaled_fp8"},
        "as F8_E4M3 without its scale"),
    "swapped axes": (
        lambda w: w | {"blocks.0.ffn.0.weight": w["blocks.0.ffn.0.weight"].T},
        r"blocks.0.ffn.0.weight is \[256, 48\] where"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_to_a_marked_file_is_refused_and_not_run(tmp_path: Path, case: str) -> None:
    """Without its scale, an fp8 weight would be taken for numbers up to 448."""
    stored, _ = file_and_meaning(state(), fp8)
    stored = {n.removeprefix("model."): t for n, t in stored.items()}
    stored = {n.replace("weight_scale", "scale_weight"): t for n, t in stored.items()}
    change, sentence = DAMAGE[case]
    path = saved(tmp_path / NAME, change(stored | {"scaled_fp8": torch.zeros(2)}))
    with pytest.raises(BadInput, match=sentence):
        open_checkpoint(path)


@pytest.mark.parametrize("pack", [fp8, wide_fp8, int8, nvfp4, nvfp4_with_alpha])
def test_a_scale_below_0_is_refused_by_name(tmp_path: Path, pack: Pack) -> None:
    """By such a scale a whole layer would change its sign, and the model make noise."""
    stored, _ = file_and_meaning(state(), pack)
    (scale, *_) = (
        n for n in stored if BLOCK in n and "scale" in n and stored[n].dtype == torch.float32
    )
    path = saved(tmp_path / NAME, stored | {scale: -stored[scale]})
    with pytest.raises(BadInput, match=f"a scale below 0 in {scale.removeprefix('model.')}"):
        open_checkpoint(path).state()


def test_a_scale_without_its_weight_is_said_to_be_unused(tmp_path: Path) -> None:
    stray = f"{BLOCK}.gate.weight_scale"
    opened = open_checkpoint(saved(tmp_path / NAME, state() | {stray: torch.ones(1)}))
    assert opened.recognition.unused == (stray,) and stray not in opened.infos()


def test_two_numbers_of_a_byte_change_places() -> None:
    packed = torch.tensor([0x1F, 0xF0], dtype=torch.uint8)
    assert swap_halves(packed).tolist() == [0xF1, 0x0F]


@pytest.mark.parametrize("pack", [fp8, int8, nvfp4])
def test_a_quantised_file_converts_to_one_that_needs_no_more_rewriting(
    tmp_path: Path, pack: Pack
) -> None:
    stored, _ = file_and_meaning(state(), pack)
    source = open_checkpoint(saved(tmp_path / NAME, stored))
    out = tmp_path / "self_forcing_clean.safetensors"
    convert(source, out, Conversion(), lambda done, all_: None)
    again = open_checkpoint(out)
    assert not again.recognition.quantised.unmarked
    assert again.metadata().get("_quantization_metadata") == source.metadata().get(
        "_quantization_metadata"
    )
    written, wanted = load_file(out), source.state()
    assert written.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert written[name].dtype == tensor.dtype, name
        assert torch.equal(written[name].float(), tensor.float()), name


TWO = official_shapes("1.3B")
Q = TWO[f"{BLOCK}.weight"]
FORMS = [  # dtype of the weight, its shape, what lies beside it, what inspect says
    ("F8_E4M3", Q, {"weight_scale": ("F32", (Q[0], 1))}, "scale for each row, loaded as bf16"),
    ("F8_E4M3", Q, {"weight_scale": ("F32", ())}, "fp8 with scales: .* RTX 40 or newer"),
    ("F8_E5M2", Q, {"weight_scale": ("F32", (1,))}, r"fp8 \(e5m2\)"),
    ("I8", Q, {"weight_scale": ("F32", (Q[0], 1))}, "int8 with scales: .* RTX 20 or newer"),
    ("U8", (Q[0], Q[1] // 2), {"weight_scale": ("F8_E4M3", (1536, 96)), "comfy_quant": ("U8", (9,)),
     "weight_scale_2": ("F32", ())}, "NVFP4: .* RTX 50, B100 or newer"),
    ("F8_E4M3", Q, {"weight_scale": ("F8_E8M0", (1536, 48)), "comfy_quant": ("U8", (9,))}, "MXFP8"),
    ("I8", (Q[0], Q[1] // 2), {"weight_scale": ("F32", (24, 1536)), "comfy_quant": ("U8", (9,))},
     "rotated int4: .* RTX 20 or newer"),
    ("I8", (Q[0], Q[1] // 2), {"weight_s_rel": ("F8_E4M3", (1536, 96)),
     "weight_s_channel": ("F32", (1536,)), "comfy_quant": ("U8", (9,))},
     "int4 with int8 activations: .* RTX 30 or newer"),
]  # fmt: skip


@pytest.mark.some_cases(4)
@pytest.mark.parametrize(("dtype", "shape", "beside", "says"), FORMS)
def test_inspect_names_the_format_and_the_cards_that_multiply_in_it(
    tmp_path: Path, dtype: str, shape: tuple[int, ...],
    beside: dict[str, tuple[str, tuple[int, ...]]], says: str,
) -> None:  # fmt: skip
    shapes = TWO | {f"{BLOCK}.weight": shape} | {f"{BLOCK}.{k}": s for k, (_, s) in beside.items()}
    dtypes = {f"{BLOCK}.weight": dtype} | {f"{BLOCK}.{k}": d for k, (d, _) in beside.items()}
    path = header_only(tmp_path / NAME, shapes, dtypes=dtypes)
    shown = [line for line in lines(inspect(path)) if line.startswith("quantised")]
    assert len(shown) == 1 and re.search(says, shown[0]) and "(1 layers)" in shown[0]


@pytest.mark.parametrize(
    ("dtype", "shape", "beside"),
    [("U8", (Q[0], Q[1] // 2), {"weight_scale": ("F8_E8M0", (1536, 48))}),
     ("U8", (Q[0], 3 * Q[1] // 4), {"weight_scale": ("F8_E8M0", (1536, 48))}),
     ("F8_E4M3", Q, {"weight_scale": ("F32", (12, 12))}),
     ("I8", (Q[0], Q[1] // 2), {"weight_scale": ("F32", (24, 1536))})],
    ids=["mxfp4", "mxfp6", "blocks of 128", "int4 that no header names"],
)  # fmt: skip
def test_a_packing_without_layers_in_the_host_is_refused(
    tmp_path: Path, dtype: str, shape: tuple[int, ...],
    beside: dict[str, tuple[str, tuple[int, ...]]],
) -> None:  # fmt: skip
    shapes = TWO | {f"{BLOCK}.weight": shape} | {f"{BLOCK}.{k}": s for k, (_, s) in beside.items()}
    dtypes = {f"{BLOCK}.weight": dtype} | {f"{BLOCK}.{k}": d for k, (d, _) in beside.items()}
    path = header_only(tmp_path / NAME, shapes, dtypes=dtypes)
    with pytest.raises(BadInput, match=rf"{BLOCK}.weight as {dtype}.*use an fp8, NVFP4, int8 or"):
        open_checkpoint(path)


def test_a_stated_format_that_we_do_not_know_is_refused_by_name(tmp_path: Path) -> None:
    listing = json.dumps({"layers": {BLOCK: {"format": "svdquant_w4a4"}}})
    path = saved(tmp_path / NAME, state(), _quantization_metadata=listing)
    with pytest.raises(
        BadInput, match=rf"{BLOCK}.weight is svdquant_w4a4, a format that Longtake "
    ):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("text", "form"),
    [('{"format": "float8_e4m3fn_blockwise"}', "float8_e4m3fn_blockwise"),
     ("{}", "a format that its header does not name"), ("[1]", "a format that its header does not"),
     ("nonsense", "a format that its header does not")],
)  # fmt: skip
def test_a_layers_own_mark_of_such_a_format_is_read_too(
    tmp_path: Path, text: str, form: str
) -> None:
    """The core would stop with a KeyError."""
    weights = state()
    weights[f"{BLOCK}.weight"] = weights[f"{BLOCK}.weight"].to(torch.float8_e4m3fn)
    weights[f"{BLOCK}.weight_scale"] = torch.ones(SMALL.dim // 16, SMALL.dim // 16)
    weights[f"{BLOCK}.comfy_quant"] = torch.tensor([*text.encode()], dtype=torch.uint8)
    opened = open_checkpoint(saved(tmp_path / NAME, weights))
    with pytest.raises(BadInput, match=rf"{BLOCK}.weight is {form}"):
        opened.state()


def test_a_rotated_int8_layer_is_not_run_as_a_plain_one(tmp_path: Path) -> None:
    weights = state()
    weights[f"{BLOCK}.weight"] = torch.zeros(SMALL.dim, SMALL.dim, dtype=torch.int8)
    weights[f"{BLOCK}.weight_scale"] = torch.ones(SMALL.dim, 1)
    form = {"format": "int8_tensorwise", "convrot": True}
    listing = json.dumps({"layers": {BLOCK: form}})
    path = saved(tmp_path / NAME, weights, _quantization_metadata=listing)
    assert "rotated int8" in inspect(path)["formats"][0]
    with pytest.raises(BadInput, match="needs ComfyUI"):
        load_dit(path)
