"""`longtake convert`: the same weights under official names, in constant memory, all or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longtake.errors import BadInput, StorageError
from longtake.headless import cli
from longtake.headless.commands.convert import Conversion, convert
from longtake.model.checkpoint import load_dit, open_checkpoint
from longtake.model.config import DiTConfig
from longtake.model.files import safetensors_writer
from longtake.model.files.number_checks import check_numbers
from longtake.tests.support.model.family_files import (
    SMALL,
    block_fsdp,
    fps_state,
    prefix,
    rename,
    state,
)


def converted(source: Path, out: Path, how: Conversion | None = None) -> dict[str, torch.Tensor]:
    convert(open_checkpoint(source), out, how or Conversion(), lambda done, all_: None)
    return load_file(out)


def test_a_trainers_file_becomes_one_clean_copy(tmp_path: Path) -> None:
    source, out = tmp_path / "rolling_forcing_dmd.pt", tmp_path / "out.safetensors"
    ema = rename(state(seed=1), block_fsdp)
    ema["model._fsdp_wrapped_module.freqs"] = torch.zeros(3)
    torch.save({"generator": rename(state(), prefix("model.")), "generator_ema": ema}, source)
    result = CliRunner().invoke(cli.main, ["convert", str(source), str(out)])
    assert result.exit_code == 0 and "Rolling Forcing" in result.output
    made = load_file(out)
    assert made.keys() == state().keys()
    for name, value in state(seed=1).items():
        assert torch.equal(made[name], value)
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["config"])["transformer"]["causal_ar"] is True
    assert json.loads(metadata["longtake"])["from"] == "rolling_forcing_dmd.pt"
    again = open_checkpoint(out.rename(tmp_path / "whatever.safetensors")).recognition
    assert again.family.key == "rolling-forcing" and not again.unused
    assert load_dit(tmp_path / "whatever.safetensors").num_heads == SMALL.num_heads


def test_an_assumed_family_does_not_become_a_stated_one(tmp_path: Path) -> None:
    """The name of the output may say what that of the source did not."""
    source, out = tmp_path / "model.pt", tmp_path / "self_forcing_dmd.safetensors"
    torch.save(rename(state(), prefix("model.")), source)
    result = CliRunner().invoke(cli.main, ["convert", str(source), str(out)])
    assert "not in its header, since it was only assumed" in result.output
    assert open_checkpoint(out).recognition.family.key == "self-forcing"
    chosen = tmp_path / "self_forcing_2.safetensors"
    command = ["convert", str(source), str(chosen), "--family", "wan21-t2v"]
    assert "only assumed" not in CliRunner().invoke(cli.main, command).output
    assert open_checkpoint(chosen).recognition.family.key == "wan21-t2v"


def test_a_family_that_the_name_makes_doubtful_is_not_stated(tmp_path: Path) -> None:
    source, out = tmp_path / "wan2.2_high_lightning.pt", tmp_path / "out.safetensors"
    torch.save(rename(state(), prefix("model.")), source)
    result = CliRunner().invoke(cli.main, ["convert", str(source), str(out)])
    said = " ".join(result.output.split())
    assert "Its name has 'lightning'" in said and "not in its header" in said
    assert open_checkpoint(out).recognition.family.key == "wan21-t2v"


def test_tensors_that_are_left_out_are_said(tmp_path: Path) -> None:
    source, out = tmp_path / "causvid.safetensors", tmp_path / "out.safetensors"
    save_file(state() | {"blocks.0.spare_encoder.weight": torch.zeros(3)}, source)
    result = CliRunner().invoke(cli.main, ["convert", str(source), str(out)])
    said = " ".join(result.output.split())
    assert "Left out: 1 tensors that no such model has, for example blocks.0.spare_encoder" in said


@pytest.mark.parametrize(
    ("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_dtype_changes_weights_and_not_scales(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    weights = state()
    layer = "blocks.0.self_attn.q"
    weights[f"{layer}.weight"] = (weights[f"{layer}.weight"] * 99).to(torch.float8_e4m3fn)
    weights[f"{layer}.scale_weight"] = torch.tensor([1 / 99])
    weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(weights, tmp_path / "self_forcing.safetensors")
    made = converted(
        tmp_path / "self_forcing.safetensors", tmp_path / "out.safetensors", Conversion(name)
    )
    for key, value in made.items():
        kept = key.startswith(layer) and not key.endswith("bias") or key == "scaled_fp8"
        assert value.dtype == (weights[key].dtype if kept else dtype), key
        assert torch.equal(value, weights[key] if kept else weights[key].to(dtype))


def test_a_number_that_the_output_has_no_room_for_is_refused(tmp_path: Path) -> None:
    """It would become infinity: black pictures from a file that looks whole."""
    source, out = tmp_path / "self_forcing.safetensors", tmp_path / "out.safetensors"
    weights = state()
    weights["blocks.1.ffn.2.bias"][0] = 70_000
    save_file(weights, source)
    with pytest.raises(BadInput, match=r"blocks\.1\.ffn\.2\.bias that is too large for F16"):
        converted(source, out, Conversion("fp16"))
    assert not out.exists()
    assert converted(source, out, Conversion("bf16"))["blocks.1.ffn.2.bias"][0].isfinite()


@pytest.mark.skipif(not hasattr(torch, "float8_e8m0fnu"), reason="this torch has no such numbers")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_scales_that_are_powers_of_two_stay(tmp_path: Path, suffix: str) -> None:
    """MXFP8's scales have exponents only."""
    source, layer = tmp_path / f"self_forcing{suffix}", "blocks.0.self_attn.q"
    weights = state()
    weights[f"{layer}.weight"] = weights[f"{layer}.weight"].to(torch.float8_e4m3fn)
    scales = torch.full((SMALL.dim, SMALL.dim // 32), 0.5).to(torch.float8_e8m0fnu)
    weights[f"{layer}.weight_scale"] = scales
    mark = json.dumps({"format": "mxfp8"}).encode()
    weights[f"{layer}.comfy_quant"] = torch.tensor([*mark], dtype=torch.uint8)
    torch.save(weights, source) if suffix == ".pt" else save_file(weights, source)
    made = converted(source, tmp_path / "out.safetensors", Conversion("bf16"))
    assert made[f"{layer}.weight_scale"].dtype == torch.float8_e8m0fnu
    assert torch.equal(made[f"{layer}.weight_scale"].float(), scales.float())


@pytest.mark.parametrize(("fps", "rate"), [(16.0, 16.0), (24.0, 24.0), (None, 24.0)])
def test_the_fps_embedding_is_folded_in_and_family_and_rate_stay(
    tmp_path: Path, fps: float | None, rate: float
) -> None:
    source = tmp_path / "skyreels.safetensors"
    save_file(state() | fps_state(SMALL.dim), source)
    made = converted(source, tmp_path / "out.safetensors", Conversion(fps=fps))
    whole = open_checkpoint(source).at_rate(rate).state()
    assert torch.equal(made["time_projection.1.bias"], whole["time_projection.1.bias"])
    found = open_checkpoint(
        (tmp_path / "out.safetensors").rename(tmp_path / "x.safetensors")
    ).recognition
    assert found.family.key == "skyreels-df" and not found.unused
    assert found.family.preset.fps == rate


@pytest.mark.parametrize(("asked", "rate"), [(("--fps", "16"), 16.0), ((), 24.0)])
def test_the_commands_frame_rate_is_that_of_the_file(
    tmp_path: Path, asked: tuple[str, ...], rate: float
) -> None:
    source, out = tmp_path / "skyreels.safetensors", tmp_path / "out.safetensors"
    save_file(state() | fps_state(SMALL.dim), source)
    result = CliRunner().invoke(cli.main, ["convert", str(source), str(out), *asked])
    assert result.exit_code == 0, result.output
    assert open_checkpoint(out).recognition.family.preset.fps == rate


def test_a_model_of_one_frame_rate_takes_no_other(tmp_path: Path) -> None:
    source = tmp_path / "self_forcing.safetensors"
    save_file(state(), source)
    with pytest.raises(BadInput, match="is Self-Forcing.*, which has one frame rate; leave --fps"):
        converted(source, tmp_path / "out.safetensors", Conversion(fps=16.0))
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_an_existing_file_is_never_overwritten_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "self_forcing.safetensors", tmp_path / "out.safetensors"
    weights = state()
    weights["blocks.1.ffn.2.bias"][0] = float("nan")
    save_file(weights, source)
    with pytest.raises(BadInput, match=r"NaN or infinity in blocks\.1\.ffn\.2\.bias"):
        converted(source, out)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
    with pytest.raises(BadInput, match="exists already"):
        converted(source, source)
    with pytest.raises(BadInput, match="The folder .* does not exist"):
        converted(source, tmp_path / "none" / "out.safetensors")


@pytest.mark.parametrize("kind", ["weight", "int8", "scale", "scale_int8"])
def test_a_matrix_of_zeros_is_refused_in_any_number_format(tmp_path: Path, kind: str) -> None:
    """A download that was cut short behind reserved room; loading refuses it too."""
    source, layer = tmp_path / "self_forcing.safetensors", "blocks.1.self_attn.q"
    weights = state()
    matrix, scale = weights[f"{layer}.weight"], torch.tensor([1 / 99])
    weights[f"{layer}.weight"] = {
        "weight": torch.zeros_like(matrix),
        "int8": torch.zeros_like(matrix, dtype=torch.int8),
        "scale": (99 * matrix).to(torch.float8_e4m3fn),
        "scale_int8": (99 * matrix).to(torch.int8),
    }[kind]
    if kind != "weight":
        weights[f"{layer}.weight_scale"] = scale if kind == "int8" else torch.zeros_like(scale)
    save_file(weights, source)
    name = f"{layer}.weight_scale" if kind.startswith("scale") else f"{layer}.weight"
    with pytest.raises(BadInput, match=f"nothing but zeros in {name}; download it again"):
        converted(source, tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
    with pytest.raises(BadInput, match=f"nothing but zeros in {name}; download it again"):
        check_numbers(open_checkpoint(source).state(), source)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_complex_weights_are_refused_by_name_before_anything_is_written(
    tmp_path: Path, suffix: str
) -> None:
    """Torch would drop their imaginary parts with a warning; a complex table is never read."""
    source, name = tmp_path / f"self_forcing{suffix}", "blocks.1.self_attn.q.weight"
    table = {"freqs": torch.ones(4, 2, dtype=torch.complex64)}
    plain = state() | table
    for weights in (plain, plain | {name: plain[name].to(torch.complex64)}):
        torch.save(weights, source) if suffix == ".pt" else save_file(weights, source)
        if weights is plain:
            assert open_checkpoint(source).state().keys() == state().keys()
            continue
        result = CliRunner().invoke(
            cli.main, ["convert", str(source), str(tmp_path / "out.safetensors")]
        )
        kind = "complex64" if suffix == ".pt" else "C64"
        said = " ".join(result.output.split())
        assert f"{name} is {kind}, which no layer has; use the unmodified file" in said
        assert result.exit_code == 1 and len(list(tmp_path.iterdir())) == 1
        with pytest.raises(BadInput, match=f"holds {name} as complex numbers"):
            check_numbers({name: weights[name]}, source)


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    save_file(state(), tmp_path / "self_forcing.safetensors")
    monkeypatch.setattr(safetensors_writer, "_data", full)
    with pytest.raises(StorageError, match=r"\(No space left on device\); free some room there"):
        converted(tmp_path / "self_forcing.safetensors", tmp_path / "out.safetensors")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("letters", [230, 300])
def test_a_name_that_is_too_long_is_one_sentence_about_the_name(
    tmp_path: Path, letters: int
) -> None:
    """Of 230 letters only the temporary name is too long, which the sentence does not show."""
    source, name = tmp_path / "self_forcing.safetensors", "a" * letters
    save_file(state(), source)
    for out in (tmp_path / f"{name}.safetensors", tmp_path / name / name / "x.safetensors"):
        result = CliRunner().invoke(cli.main, ["convert", str(source), str(out)])
        said = " ".join(result.output.split())
        assert result.exit_code == 1 and "--debug" not in said and ".tmp" not in said
        assert "choose another name or folder" in said or "does not exist" in said
    result = CliRunner().invoke(cli.main, ["inspect", str(tmp_path / f"{name}.safetensors")])
    assert result.exit_code == 1 and "--debug" not in result.output
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_that_leads_nowhere_stays(tmp_path: Path) -> None:
    source, link = tmp_path / "self_forcing.safetensors", tmp_path / "out.safetensors"
    save_file(state(), source)
    link.symlink_to("a disk that is not mounted")
    with pytest.raises(BadInput, match="exists already"):
        converted(source, link)
    assert link.is_symlink()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".gguf", ".safetensors.index.json"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The permissions are made here: an administrator may read everything."""
    source = tmp_path / f"self_forcing{suffix}"
    source.write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BadInput, match="may not be read by this user; change its permissions"):
        open_checkpoint(source)


def anonymous_kb() -> int:
    """Return this process's memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


@pytest.mark.some_cases(1)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_memory_stays_that_of_one_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    config = DiTConfig(dim=512, ffn_dim=2048, num_heads=4, num_layers=16, text_dim=64)
    source = tmp_path / f"self_forcing{suffix}"
    whole = state(config)
    torch.save(whole, source) if suffix == ".pt" else save_file(whole, source)
    total_kb = sum(t.numel() * t.element_size() for t in whole.values()) // 1024
    assert total_kb > 250_000
    del whole
    monkeypatch.setattr(safetensors_writer, "PIECE_VALUES", 100_000)
    checkpoint, peaks = open_checkpoint(source), []
    before = anonymous_kb()
    convert(
        checkpoint,
        tmp_path / "out.safetensors",
        Conversion("bf16"),
        lambda done, all_: peaks.append(anonymous_kb() - before),
    )
    assert max(peaks) < total_kb / 8
