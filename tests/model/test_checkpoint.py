"""Loading is strict, and whatever is wrong with a file is one sentence with its path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.checkpoint import load_dit, load_text_encoder, load_tiny_vae
from longtake.model.config import DiTConfig
from longtake.model.text import TextEncoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.tiny_model import TINY, randn, random_dit, randomise

SMALL = replace(TINY, in_channels=16, out_channels=16)
HEADER = {"config": json.dumps({"transformer": {"causal_ar": True, "num_heads": TINY.num_heads}})}
PATCHES = "patch_embedding.weight"
Loader = Callable[[Path], object]


def save(path: Path, state: dict[str, Tensor], header: dict[str, str] | None = None) -> Path:
    """A safetensors file of half-precision tensors."""
    save_file({key: value.half().contiguous() for key, value in state.items()}, path, header)
    return path


def dit_state() -> dict[str, Tensor]:
    """The tensors of a genuine file."""
    return dict(random_dit(SMALL).state_dict())


def sentence(load: Loader, path: Path) -> str:
    """The refusal: one sentence that names the file."""
    with pytest.raises(BadInput) as caught:
        load(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_dit_file_comes_back_with_its_sizes_and_values(tmp_path: Path) -> None:
    path = save(tmp_path / "dit.safetensors", dit_state(), HEADER)
    dit = load_dit(path)
    assert (dit.dim, dit.num_heads, len(dit.blocks)) == (24, 2, 2)
    for key, value in random_dit(SMALL).state_dict().items():
        loaded = dit.state_dict()[key]
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(loaded, value.half().float(), rtol=0, atol=0)
    assert not any(p.requires_grad for p in dit.parameters())


def test_heads_are_128_wide_without_a_header(tmp_path: Path) -> None:
    config = DiTConfig(dim=256, ffn_dim=8, num_heads=2, num_layers=1, text_dim=4)
    path = save(tmp_path / "dit.safetensors", dict(random_dit(config).state_dict()))
    assert load_dit(path).num_heads == 2


@pytest.mark.parametrize("load", [load_dit, load_tiny_vae, load_text_encoder])
def test_files_that_are_no_safetensors_are_refused(load: Loader, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    assert "is not there" in sentence(load, path)
    for content in (b"", b"PK\x03\x04 a zip file", b"\xff" * 100):
        path.write_bytes(content)
        reason = sentence(load, path).removeprefix(str(path))
        assert " safetensors" in reason or "is a zip" in reason or "is empty" in reason


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = save(tmp_path / "dit.safetensors", dit_state(), HEADER)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert "download it again" in sentence(load_dit, path)


@pytest.mark.parametrize("load", [load_dit, load_tiny_vae, load_text_encoder])
def test_another_architecture_is_refused(load: Loader, tmp_path: Path) -> None:
    path = save(tmp_path / "unet.safetensors", {"stack.0.0.weight": torch.zeros(4, 4)})
    assert "is no" in sentence(load, path)


@pytest.mark.parametrize(
    "key", ["blocks.1.ffn.2.bias", "head.head.weight", "blocks.0.ffn.0.weight", "head.modulation"]
)
def test_a_missing_tensor_is_named(tmp_path: Path, key: str) -> None:
    state = dit_state()
    del state[key]
    assert key in sentence(load_dit, save(tmp_path / "dit.safetensors", state, HEADER))


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    state = dit_state() | {"img_emb.proj.0.weight": torch.zeros(3)}
    path = save(tmp_path / "dit.safetensors", state, HEADER)
    assert "img_emb.proj.0.weight" in sentence(load_dit, path)


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    state = dit_state() | {"blocks.0.self_attn.q.weight": torch.zeros(24, 23)}
    path = save(tmp_path / "dit.safetensors", state, HEADER)
    assert "blocks.0.self_attn.q.weight" in sentence(load_dit, path)


@pytest.mark.parametrize(
    "config",
    ["{", "[]", '{"transformer": {"num_heads": "two"}}', '{"transformer": {"num_heads": 5}}'],
)
def test_a_header_that_cannot_be_right_is_refused(tmp_path: Path, config: str) -> None:
    sentence(load_dit, save(tmp_path / "dit.safetensors", dit_state(), {"config": config}))


def test_a_small_model_without_a_header_is_refused(tmp_path: Path) -> None:
    sentence(load_dit, save(tmp_path / "dit.safetensors", dit_state()))


@pytest.mark.parametrize("key", ["patch_embedding.weight", "text_embedding.0.weight"])
def test_a_tensor_of_too_few_axes_is_refused(tmp_path: Path, key: str) -> None:
    state = dit_state() | {key: torch.zeros(3)}
    sentence(load_dit, save(tmp_path / "dit.safetensors", state, HEADER))


def in_rcm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model as rCM's trainer stores it (NVlabs/rcm `rcm/networks/wan2pt1.py`)."""
    flat = state | {PATCHES: state[PATCHES].flatten(1)}
    blocks = re.compile(r"^(blocks\.\d+|head)\.")
    return {blocks.sub(r"\1._checkpoint_wrapped_module.", f"{n}"): t for n, t in flat.items()}


def test_a_matrix_that_embeds_patches_is_read_as_the_convolution_it_is(tmp_path: Path) -> None:
    stored = {f"net.{name}": tensor for name, tensor in in_rcm(dit_state()).items()}
    dit = load_dit(save(tmp_path / "rCM_Wan2.1_T2V.safetensors", stored, HEADER))
    for key, value in dit_state().items():
        assert torch.equal(dit.state_dict()[key], value.half().float())
    x = randn(2, 16, 3, 4, 6, seed=1)
    theirs = rearrange(x, "b c f (h p) (w q) -> b f h w (c p q)", p=2, q=2)
    weight, bias = (stored[f"net.patch_embedding.{n}"].half().float() for n in ("weight", "bias"))
    torch.testing.assert_close(
        dit.patch_embedding(x).movedim(1, -1), theirs @ weight.T + bias, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("extra", "said"), [
    ({"blocks.0.self_attn.attn_op.local_attn.proj_l.weight": torch.zeros(2, 2)},
     "is TurboDiffusion: Longtake lacks the linear part of its attention"),
    ({PATCHES: torch.zeros(24, 63)}, "no known model takes 63 channels"),
])  # fmt: skip
def test_other_matrices_of_turbodiffusion_are_refused(
    tmp_path: Path, extra: dict[str, Tensor], said: str
) -> None:
    path = save(tmp_path / "turbo.safetensors", in_rcm(dit_state()) | extra, HEADER)
    assert said in sentence(load_dit, path)


def test_a_vae_file_comes_back_with_its_widths(tmp_path: Path) -> None:
    vae = TinyVAE(TinyVAEConfig((4, 6, 8), (5, 7, 9)))
    randomise(vae, 1)
    path = save(tmp_path / "vae.safetensors", dict(vae.state_dict()))
    for key, value in load_tiny_vae(path).state_dict().items():
        assert torch.equal(value, vae.state_dict()[key].half().float())
    state = dict(vae.state_dict())
    del state["decoder.2.join.bias"]
    assert "decoder.2.join.bias" in sentence(load_tiny_vae, save(path, state))


def test_no_random_weights_are_drawn_before_those_of_a_file(tmp_path: Path) -> None:
    dit = save(tmp_path / "dit.safetensors", dit_state(), HEADER)
    vae = save(tmp_path / "vae.safetensors", dict(TinyVAE(TinyVAEConfig()).state_dict()))
    before = torch.get_rng_state()
    load_dit(dit)
    load_tiny_vae(vae)
    assert torch.equal(torch.get_rng_state(), before)
    TinyVAE(TinyVAEConfig())
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_text_encoder_file_comes_back_with_its_words(tmp_path: Path) -> None:
    encoder = TextEncoder(["red", "ball"], 6, 4)
    header = {"vocabulary": json.dumps(encoder.vocabulary), "text_len": "4"}
    path = save(tmp_path / "text.safetensors", dict(encoder.state_dict()), header)
    loaded = load_text_encoder(path)
    assert (loaded.vocabulary, loaded.text_len) == (("red", "ball"), 4)
    for broken in ({"vocabulary": "["}, {"text_len": "four"}):
        sentence(load_text_encoder, save(path, dict(encoder.state_dict()), header | broken))
    sentence(
        load_text_encoder,
        save(path, dict(encoder.state_dict()), {"vocabulary": '["red"]', "text_len": "4"}),
    )
