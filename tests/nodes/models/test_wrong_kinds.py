"""A file of the wrong kind is called what it is by the loaders of models, VAEs and LoRAs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.model.checkpoint import open_checkpoint
from longtake.model.families.others import other
from longtake.model.lora.file import open_lora
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.model.diffusers_models import CONFIGS, vae
from longtake.tests.support.model.family_files import header_only, state
from longtake.tests.support.model.lora_files import shapes

CLIP_L = "encoder.layers.0.self_attn.k_proj.weight"
KINDS = {  # names as their authors publish them
    "an SDXL checkpoint": [
        "conditioner.embedders.0.transformer.text_model." + CLIP_L,
        "first_stage_model.decoder.mid.block_1.norm1.weight",
        "model.diffusion_model.input_blocks.0.0.weight",
    ],
    "a Stable Diffusion model": [
        "cond_stage_model.transformer.text_model." + CLIP_L,
        "first_stage_model.decoder.mid.block_1.norm1.weight",
        "model.diffusion_model.input_blocks.0.0.weight",
    ],
    "Stable Diffusion 3": ["model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight"],
    "a ControlNet": ["control_model.input_blocks.0.0.weight",
                     "control_model.input_hint_block.0.weight"],
    "a CLIP text encoder": ["text_model." + CLIP_L, "text_model.embeddings.position_ids"],
    "a CLIP vision model": ["vision_model." + CLIP_L, "vision_model.post_layernorm.weight"],
    "a text encoder": ["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"],
    "an upscaler": ["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"],
    "an embedding (textual inversion)": ["clip_g", "clip_l"],
}  # fmt: skip
OTHER_NAMES = [  # of further layouts
    (["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"], "a Stable Diffusion model"),
    (["controlnet_down_blocks.0.weight", "down_blocks.0.resnets.0.conv1.weight"], "a ControlNet"),
    (["transformer_blocks.0.attn.to_q.weight", "controlnet_blocks.0.weight"], "a ControlNet"),
    (["transformer.resblocks.0.attn.in_proj_weight", "token_embedding.weight"],
     "a CLIP text encoder"),
    (["transformer.resblocks.0.ln_1.weight", "visual.transformer.resblocks.0.ln_1.weight"],
     "a CLIP vision model"),
    (["params_ema.body.0.rdb1.conv1.weight", "params_ema.conv_first.weight"], "an upscaler"),
    (["params.body.0.weight", "params.body.1.weight"], "an upscaler"),
    (["layers.0.residual_group.blocks.0.norm1.weight"], "an upscaler"),
    (["string_to_param.*"], "an embedding (textual inversion)"),
    (["encoder.mid.block_1.norm1.weight", "decoder.mid.block_1.norm1.weight"],
     "a VAE of another model, such as Stable Diffusion or Flux"),
    (["decoder.mid_block.resnets.0.norm1.weight"],
     "a VAE of another model, such as Stable Diffusion or Flux"),
]  # fmt: skip


@pytest.fixture
def vaes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "models" / "vae"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with lasting_host(tmp_path / "out", lambda event: None):
        yield folder


@pytest.mark.parametrize("title", KINDS)
def test_each_loader_says_what_a_file_is(vaes: Path, title: str) -> None:
    from longtake.nodes.models.load_vae import LoadWanVAE

    path = header_only(vaes / "x.safetensors", dict.fromkeys(KINDS[title], (2, 2)))
    with pytest.raises(BadInput) as as_model:
        open_checkpoint(path)
    assert str(as_model.value).startswith(f"{path} is {title}: ")
    with pytest.raises(BadInput) as as_lora:
        open_lora(path, shapes())
    assert str(as_lora.value) == f"{path} is {title} and no LoRA; choose a LoRA file."
    with pytest.raises(BadInput) as as_vae:
        LoadWanVAE.execute(path.name, "auto", "auto")
    assert str(as_vae.value).endswith(f"{path.name} is {title}; choose a Wan VAE.")


@pytest.mark.parametrize(("name", "title"), [
    ("taehv", "HunyuanVideo"), ("TAEHV_fp16", "HunyuanVideo"), ("taecvx", "CogVideoX"),
    ("taeos1_3", "Open-Sora"), ("taew2_1", ""), ("taehv_wan2_1", ""), ("lighttaew2_1", ""),
])  # fmt: skip
def test_a_tiny_vae_of_another_model_is_refused_by_its_name(
    vaes: Path, name: str, title: str
) -> None:
    """All of these have the same tensors; the stand-in has no tiny VAE for those of Wan."""
    from longtake.nodes.models.load_vae import LoadWanVAE

    shapes = {"decoder.1.weight": (256, 16, 3, 3), "decoder.22.bias": (3,)}
    path = header_only(vaes / f"{name}.safetensors", shapes)
    said = f"is the tiny VAE of {title} by its name" if title else "VAE files need ComfyUI"
    with pytest.raises(BadInput, match=said):
        LoadWanVAE.execute(path.name, "auto", "auto")


@pytest.mark.parametrize(("names", "title"), OTHER_NAMES, ids=lambda value: str(value)[:40])
def test_other_layouts_of_these_kinds_are_known(names: list[str], title: str) -> None:
    kind = other(names)
    assert kind is not None and kind.title == title and not kind.is_vae


@pytest.mark.parametrize("name", CONFIGS)
def test_wans_own_vae_in_diffusers_layout_is_no_other_models(name: str) -> None:
    kind = other(vae(name).state_dict())
    assert kind is not None and kind.is_vae and "Wan" in kind.title


def test_no_wan_model_is_taken_for_another_kind() -> None:
    assert other(state()) is None
    assert other(f"model.diffusion_model.{name}" for name in state()) is None


def test_a_lokr_of_another_model_is_a_lora(tmp_path: Path) -> None:
    name = "diffusion_model.double_blocks.0.img_attn.qkv.lokr_w1"
    path = header_only(tmp_path / "x.safetensors", {name: (2, 2)})
    with pytest.raises(BadInput, match="is a LoRA that changes no layer of any Wan model") as error:
        open_lora(path, shapes())
    assert "(it changes diffusion_model.double_blocks.0.img_attn.qkv);" in str(error.value)
