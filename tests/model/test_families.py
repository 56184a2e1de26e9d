"""Every family is recognised by its header alone: by the container and the published names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.checkpoint import Checkpoint, open_checkpoint
from longtake.model.families.names import copies, from_diffusers
from longtake.model.families.recognise import Recognition, recognise
from longtake.model.families.table import FAMILIES
from longtake.model.families.tensors import expected_shapes
from longtake.model.files.weights import open_weights
from longtake.tests.support.model.family_files import (
    SIZES,
    SMALL,
    State,
    block_fsdp,
    fps_state,
    header_only,
    image_shapes,
    official_shapes,
    prefix,
    rename,
    state,
)

CAUSAL = json.dumps({"transformer": {"causal_ar": True}})


def found_in(path: Path, **choices: str) -> Recognition:
    return recognise(open_weights(path).header, **choices)


def pt(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def two_sets(names: Callable[[str], str], ema_names: Callable[[str], str]) -> dict[str, State]:
    """A trainer's file: raw and averaged weights, told apart by their values."""
    return {
        "generator": rename(state(seed=0), names),
        "generator_ema": rename(state(seed=1), ema_names),
    }


MODEL, FSDP = prefix("model."), prefix("model._fsdp_wrapped_module.")
PUBLISHED = [  # where a file lies, what it holds, family, seed of the copy to take
    ("self_forcing_dmd.pt", two_sets(MODEL, MODEL), "self-forcing", 1),
    ("ode_init.pt", {"generator": rename(state(), MODEL)}, "self-forcing", 0),
    ("autoregressive_checkpoint/model.pt", {"generator": rename(state(), MODEL)}, "causvid", 0),
    ("longlive_base.pt", {"model": rename(state(), MODEL)}, "longlive", 0),
    ("longlive_infinity.pt", two_sets(MODEL, FSDP), "longlive-infinity", 1),
    ("rolling_forcing_dmd.pt", two_sets(MODEL, FSDP), "rolling-forcing", 1),
    ("chunkwise/causal_forcing.pt", two_sets(FSDP, FSDP), "causal-forcing", 0),
    ("framewise/causal_forcing.pt", two_sets(block_fsdp, MODEL), "causal-forcing-framewise", 1),
    ("causal-forcing++/framewise-1step.pt", two_sets(MODEL, block_fsdp), "causal-forcing-1step", 1),
    ("causal-forcing++/framewise-2step.pt", two_sets(MODEL, MODEL), "causal-forcing-2step", 1),
    ("rewardforcing.pt", rename(state(), MODEL), "reward-forcing", 0),
    ("memflow/base.pt", {"generator": rename(state(), MODEL)}, "memflow", 0),
    (
        "wan_causal_dmd_v2v/model.pt",
        {"generator": rename(state(), MODEL)},
        "streamdiffusionv2",
        0,
    ),
    ("wan_causal_dmd_v2v_14b/model.pt", {"generator": rename(state(), MODEL)},
     "streamdiffusionv2-14b", 0),
    ("checkpoints/one_forcing.pt", two_sets(FSDP, MODEL), "one-forcing", 0),
    ("models--JunhaoZhuang--Self_Gradient_Forcing/framewise/ar/model.pt", two_sets(MODEL, FSDP),
     "sgf-framewise", 1),
    ("models--JunhaoZhuang--Self_Gradient_Forcing/init/framewise/causal_cd.pt",
     two_sets(MODEL, MODEL), "causal-forcing-cd-framewise", 1),
    ("checkpoints/framewise/ar/model.pt", two_sets(MODEL, MODEL), "sgf-framewise", 1),
    ("models--JunhaoZhuang--Self_Gradient_Forcing/chunkwise/ar/model.pt", two_sets(MODEL, FSDP),
     "sgf", 1),
    ("checkpoints/chunkwise/ar/model.pt", two_sets(MODEL, MODEL), "sgf", 1),
    ("framewise/causal_cd.pt", two_sets(FSDP, MODEL), "causal-forcing-cd-framewise", 1),
    ("chunkwise/causal_cd.pt", two_sets(FSDP, MODEL), "causal-forcing-cd", 0),
    ("framewise/causal_ode.pt", {"generator": rename(state(), FSDP)},
     "causal-forcing-ode-framewise", 0),
    ("chunkwise/causal_ode.pt", {"generator": rename(state(), MODEL)}, "causal-forcing-ode", 0),
    ("framewise/ar_diffusion.pt", {"generator": rename(state(), MODEL)},
     "causal-forcing-ar-framewise", 0),
    ("chunkwise/ar_diffusion.pt", {"generator": rename(state(), FSDP)}, "causal-forcing-ar", 0),
    ("wan_causal_ode_checkpoint_model_003000/model.pt", {"generator": rename(state(), MODEL)},
     "causvid", 0),
    ("self_forcing_compiled.pth", {"state_dict": rename(state(), prefix("_orig_mod."))},
     "self-forcing", 0),
]  # fmt: skip
IDS = [place for place, *_ in PUBLISHED]  # the text of a state would take long to write


@pytest.mark.parametrize(("place", "content", "key", "seed"), PUBLISHED, ids=IDS)
def test_a_published_pickle_is_recognised_and_the_right_copy_taken(
    tmp_path: Path, place: str, content: State, key: str, seed: int
) -> None:
    opened = open_checkpoint(pt(tmp_path / place, content))
    assert opened.recognition.family.key == key
    assert opened.recognition.config == SMALL
    mine = opened.state()
    assert mine.keys() == state().keys()
    for name, value in state(seed=seed).items():
        assert torch.equal(mine[name], value), name


FLAT = [  # file, size, prefix, metadata, family
    ("self_forcing_dmd_14b.safetensors", "14B", "model.", {}, "self-forcing"),
    ("Wan2.1-T2V-14B-StepDistill-CfgDistill-Lightx2v/distill_models/distill_model.safetensors",
     "14B", "", {}, "stepdistill-t2v"),
    ("Wan2.1-I2V-14B-480P-StepDistill-CfgDistill-Lightx2v/distill_model.safetensors", "I2V-14B",
     "", {}, "stepdistill-i2v"),
    ("krea-realtime-video-14b.safetensors", "14B", "model.", {}, "krea-realtime"),
    ("causal_forcing-framewise.safetensors", "1.3B", "", {"config": CAUSAL},
     "causal-forcing-framewise"),
    ("mine.safetensors", "1.3B", "", {"config": CAUSAL}, "causal-ar"),
    ("renamed.safetensors", "1.3B", "", {"longtake": '{"family": "longlive"}'}, "longlive"),
    ("Wan2_1-T2V-1_3B_bf16.safetensors", "1.3B", "", {}, "wan21-t2v"),
    ("Wan2_1-I2V-14B-480P.safetensors", "I2V-14B", "model.diffusion_model.", {}, "wan21-i2v"),
    ("wan2.2_ti2v_5B_fp16.safetensors", "5B", "", {}, "wan22-ti2v-5b"),
    ("LongLive-2.0-5B/model_bf16.safetensors", "5B", "generator_ema.model.", {}, "longlive2"),
    ("Wan2_1-SkyReels-V2-DF-14B-540P.safetensors", "14B", "", {}, "skyreels-df"),
    ("lingbot-world-base-cam/lingbot_world_fast/model.safetensors", "LingBot-14B", "", {},
     "lingbot-world-fast"),
    ("lingbot-world-v2-1.3b-causal-fast/model.safetensors", "LingBot-1.3B", "", {},
     "lingbot-world-2"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "size", "prefix", "metadata", "key"), FLAT, ids=lambda x: str(x))
def test_a_published_safetensors_file_is_recognised_at_its_real_size(
    tmp_path: Path, place: str, size: str, prefix: str, metadata: dict[str, str], key: str
) -> None:
    shapes = {prefix + name: shape for name, shape in official_shapes(size).items()}
    found = found_in(header_only(tmp_path / place, shapes, **metadata))
    assert (found.family.key, found.copy.prefix, found.unused) == (key, prefix, ())
    assert found.config.head_dim == 128


COMMIT = "0123456789abcdef0123456789abcdef01234567"
FOLDERS = [  # where a file lies, `_class_name` of config.json and of model_index.json, family
    ("SkyReels-V2-DF-14B-540P-Diffusers/transformer", "SkyReelsV2Transformer3DModel", "",
     "skyreels-df"),
    ("mine/transformer", "SkyReelsV2Transformer3DModel", "SkyReelsV2DiffusionForcingPipeline",
     "skyreels-df"),
    ("mine/transformer", "SkyReelsV2Transformer3DModel", "", "skyreels-df"),
    ("mine/transformer", "SkyReelsV2Transformer3DModel", "SkyReelsV2Pipeline", "wan21-t2v"),
    ("mine", "CausalWanModel", "", "causal-ar"),
    ("SFWan2.1-T2V-1.3B-Diffusers/transformer", "CausalWanTransformer3DModel", "", "self-forcing"),
    (f"models--Skywork--SkyReels-V2-DF-14B-540P/snapshots/{COMMIT}", "", "", "skyreels-df"),
    (f"models--tianweiy--CausVid/snapshots/{COMMIT}/a/b/c/d", "", "", "causvid"),
    (f"models--gdhe17--Self-Forcing/snapshots/{COMMIT}/checkpoints", "WanModel", "",
     "self-forcing"),
    (f"longlive/models--Wan-AI--Wan2.1-T2V-1.3B/snapshots/{COMMIT}", "", "", "wan21-t2v"),
    ("Self-Forcing/wan_models/Wan2.1-T2V-1.3B", "WanModel", "", "wan21-t2v"),
    ("longlive/models/diffusion_models/mine", "", "", "wan21-t2v"),
    ("LongLive-1.3B/first/models", "", "", "longlive"),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "model", "pipeline", "key"), FOLDERS)
def test_the_folders_and_the_configs_around_a_file_name_its_family(
    tmp_path: Path, folder: str, model: str, pipeline: str, key: str
) -> None:
    path = tmp_path / folder / "diffusion_pytorch_model.safetensors"
    header_only(path, official_shapes("1.3B"))
    if model:
        path.with_name("config.json").write_text(json.dumps({"_class_name": model}))
    if pipeline:
        index = path.parent.parent / "model_index.json"
        index.write_text(json.dumps({"_class_name": pipeline}))
    assert found_in(path).family.key == key


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"[" * 100_000, b'{"_class_name": [1]}'])
def test_an_unreadable_config_beside_a_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = header_only(tmp_path / "x" / "m.safetensors", official_shapes("1.3B"))
    path.with_name("config.json").write_bytes(content)
    assert found_in(path).family.key == "wan21-t2v"


def test_the_small_skyreels_is_known_by_its_fps_embedding(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state() | fps_state(SMALL.dim), path)
    assert found_in(path).family.key == "skyreels-df-fps"


def test_shards_are_one_model_by_index_by_folder_and_by_any_of_them(tmp_path: Path) -> None:
    weights, folder = state(), tmp_path / "SkyReels-V2-DF-14B-540P"
    folder.mkdir()
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    place = {name: names[i % 3] for i, name in enumerate(weights)}
    for shard in names:
        save_file({n: t for n, t in weights.items() if place[n] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": place}))
    for path in (index, folder, folder / names[1]):
        opened = open_checkpoint(path)
        assert opened.recognition.family.key == "skyreels-df"
        assert all(torch.equal(opened.read(name), value) for name, value in weights.items())
    (folder / names[2]).unlink()
    for path in (index, folder / names[0]):
        with pytest.raises(BadInput, match=rf"{names[2]}, which is not beside it; download all"):
            open_checkpoint(path)


def test_diffusers_names_lead_to_every_official_one_and_back(tmp_path: Path) -> None:
    """Against diffusers' own models at their real sizes, and diffusers' own converter."""
    diffusers = pytest.importorskip("diffusers")
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    for size, extra in (("1.3B", {}), ("I2V-14B", {"image_dim": 1280, "added_kv_proj_dim": 5120})):
        ours, (dim, ffn, _, inputs, outputs) = official_shapes(size, 2), SIZES[size]
        with torch.device("meta"):
            theirs = diffusers.WanTransformer3DModel(
                num_attention_heads=dim // 128, ffn_dim=ffn, num_layers=2, in_channels=inputs,
                out_channels=outputs, **extra,
            ).state_dict()  # fmt: skip
        shapes = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
        assert {from_diffusers(name): shape for name, shape in shapes.items()} == ours
        meta = {name: torch.empty(shape, device="meta") for name, shape in ours.items()}
        assert convert_wan_transformer_to_diffusers(meta).keys() == shapes.keys()
        path = header_only(tmp_path / size / "diffusion_pytorch_model.safetensors", shapes)
        stated = {"num_attention_heads": dim // 128, "attention_head_dim": 128, "num_layers": 2}
        path.with_name("config.json").write_text(json.dumps(stated))
        found = found_in(path)
        assert (found.copy.layout, found.unused) == ("diffusers", ())
        assert expected_shapes(found.config, image=size != "1.3B") == ours


def test_scaled_fp8_is_whole_and_its_scales_travel_with_it(tmp_path: Path) -> None:
    shapes = official_shapes("14B")
    scales: dict[str, tuple[int, ...]] = {
        name.replace(".weight", ".scale_weight"): (1,)
        for name in shapes
        if ".self_attn." in name and name.endswith((".q.weight", ".k.weight"))
    }
    marker: dict[str, tuple[int, ...]] = {"scaled_fp8": (2,)}
    path = tmp_path / "krea-realtime-14b_fp8_e4m3fn_scaled.safetensors"
    packed = {name.replace(".scale_weight", ".weight"): "F8_E4M3" for name in scales}
    found = found_in(header_only(path, shapes | scales | marker, dtypes=packed))
    assert found.family.key == "krea-realtime" and not found.unused
    assert found.copy.names.keys() == {*shapes, *scales, *marker}


def test_critics_of_a_raw_training_file_are_left_out(tmp_path: Path) -> None:
    weights = rename(state(), MODEL)
    weights["model._cls_pred_branch.0.weight"] = torch.zeros(2)
    content = {"critic": rename(state(seed=9), MODEL), "generator": weights, "step": 100}
    opened = open_checkpoint(pt(tmp_path / "self_forcing_raw.pt", content))
    assert (
        opened.recognition.copy.prefix == "generator.model."
        and opened.state().keys() == state().keys()
    )


def test_the_user_decides_between_copies_and_between_families(tmp_path: Path) -> None:
    path = pt(tmp_path / "self_forcing.pt", two_sets(MODEL, MODEL))
    key = "blocks.1.ffn.0.weight"
    raw, ema = (open_checkpoint(path, copy=which) for which in ("raw", "ema"))
    assert torch.equal(raw.read(key), state(seed=0)[key])
    assert torch.equal(ema.read(key), state(seed=1)[key])
    assert found_in(path, family="reward-forcing").family.key == "reward-forcing"
    with pytest.raises(BadInput, match="cannot be 'wan21-i2v': its tensors are those of t2v"):
        found_in(path, family="wan21-i2v")


def test_reasons_say_what_a_conclusion_rests_on(tmp_path: Path) -> None:
    reasons = " / ".join(
        found_in(pt(tmp_path / "my_self-forcing.pt", two_sets(MODEL, FSDP))).reasons
    )
    assert "16 channels" in reasons and "its name has 'self_forcing'" in reasons
    assert "ema, at 'generator_ema.model.' (also there: 'generator.model.')" in reasons
    plain = found_in(pt(tmp_path / "mystery.pt", state())).reasons
    assert "assumed, since nothing in file or name says causal" in plain[1]


def lora(name: str) -> dict[str, tuple[int, ...]]:
    return {name.format("A"): (4, 256), name.format("B"): (256, 4)}


REFUSED = [  # what a file holds beside (or instead of) a model, and what the sentence says
    (lora("diffusion_model.blocks.0.self_attn.q.lora_{}.weight"), "is a LoRA: .*LoRA loader"),
    (lora("base_model.model.blocks.0.self_attn.q.lora_{}.default.weight"), "is a LoRA"),
    ({"videodit_blocks.layers.0.self_attention.linear_qkv.q.weight": (2, 2)}, "is MAGI-1: "),
    ({"encoder.conv1.weight": (2, 2), "decoder.middle.0.residual.0.gamma": (2, 1, 1, 1)},
     "is a Wan VAE: load it with Load VAE"),
    ({"decoder.upsamples.0.upsamples.0.residual.2.weight": (2, 2)}, "is the Wan 2.2 VAE: "),
    ({"decoder.1.weight": (2, 2), "decoder.3.conv.0.weight": (2, 2)}, "is a tiny VAE"),
    ({"shared.weight": (2, 2), "encoder.block.0.layer.0.SelfAttention.q.weight": (2, 2)},
     "is a text encoder"),
    ({"vision_model.embeddings.class_embedding": (2,)}, "is a CLIP vision model"),
    ({"double_blocks.0.img_attn.qkv.weight": (2, 2)}, "is HunyuanVideo or Flux"),
    ({"stack.0.0.weight": (2, 2)}, "is no Wan-family model"),
]  # fmt: skip
BESIDE = [
    ({"vace_patch_embedding.weight": (256, 96, 1, 2, 2)}, "is Wan VACE: "),
    ({"blocks.0.action_model.keyboard_embed.0.weight": (2, 2)}, "is Matrix-Game 2 Temple Run: "),
    (
        {"blocks.0.action_model.t_qkv.weight": (2, 2), "blocks.0.cam_injector_layer1.bias": (2,)},
        "is Matrix-Game 3: ",
    ),
    ({"blocks.29.action_model.t_qkv.weight": (2, 2)}, "is Matrix-Game 2's foundation model: "),
    ({"patch_short.weight": (2, 2)}, "is Helios: "),
    ({"face_adapter.weight": (2, 2)}, "is a Wan control, audio or character model"),
]


@pytest.mark.parametrize(("shapes", "sentence"), REFUSED, ids=lambda x: str(x)[:40])
def test_other_files_are_refused_with_what_they_are_and_what_to_do(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], sentence: str
) -> None:
    path = header_only(tmp_path / "file.safetensors", shapes)
    with pytest.raises(BadInput, match=sentence) as caught:
        found_in(path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize(("extra", "sentence"), BESIDE, ids=lambda x: str(x)[:40])
def test_relatives_of_wan_that_need_more_are_refused(
    tmp_path: Path, extra: dict[str, tuple[int, ...]], sentence: str
) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in state().items()}
    with pytest.raises(BadInput, match=sentence):
        found_in(header_only(tmp_path / "file.safetensors", shapes | extra))


def test_models_with_control_channels_are_named(tmp_path: Path) -> None:
    shapes = dict(official_shapes("1.3B")) | {"patch_embedding.weight": (1536, 48, 1, 2, 2)}
    with pytest.raises(BadInput, match="such as Fun-Control .*takes 48 channels and gives 16"):
        found_in(header_only(tmp_path / "fun.safetensors", shapes))


def test_models_of_wan_2_2s_pairs_are_known_by_name_and_inputs(tmp_path: Path) -> None:
    shapes = official_shapes("14B")
    no_clip = dict(official_shapes("I2V-14B"))
    for name in image_shapes(5120, 40):
        del no_clip[name]
    layout = "Diffusers/transformer_2/diffusion_pytorch_model.safetensors"
    for name, tensors, key, boundary in (
        ("wan2.2_t2v_high_noise_14B_fp16.safetensors", shapes, "wan22-a14b", 0.875),
        (f"Wan2.2-T2V-A14B-{layout}", shapes, "wan22-a14b", 0.875),
        ("i2v.safetensors", no_clip, "wan22-i2v-a14b", 0.9),
        (f"CausalWan2.2-I2V-A14B-Preview-{layout}", shapes, "causal-wan22", 0.875),
        (f"models--rand0nmr--SFWan2.2-T2V-A14B-{layout}", shapes, "causal-wan22", 0.875),
    ):
        family = found_in(header_only(tmp_path / name, tensors)).family
        assert (family.key, family.preset.boundary) == (key, boundary), name
        assert "join both" in family.preset.note


def test_a_lora_as_pickle_is_refused_too(tmp_path: Path) -> None:
    weights = {"base_model.model.blocks.0.ffn.0.lora_A.weight": torch.zeros(4, 256)}
    with pytest.raises(BadInput, match="is a LoRA"):
        found_in(pt(tmp_path / "lora.pt", {"generator_lora": weights}))


def test_keys_are_unique_and_every_row_can_be_reached() -> None:
    assert len({row.key for row in FAMILIES}) == len(FAMILIES)
    for row in FAMILIES:
        assert row.source and row.licence and row.preset.steps >= 1
        if row.preset.timesteps:
            assert len(row.preset.timesteps) == row.preset.steps


def test_one_name_has_one_wrapper_free_form() -> None:
    stored = [block_fsdp(name) for name in state()]
    [copy] = copies(stored)
    assert copy.prefix == "model." and copy.names.keys() == state().keys()
    assert sorted(copy.names.values()) == sorted(stored)


def checkpoint_of(path: Path, weights: State) -> Checkpoint:
    save_file(weights, path)
    return open_checkpoint(path)


@pytest.mark.parametrize(("fps", "row"), [(16.0, 0), (24.0, 1), (None, 1)])
def test_the_fps_embedding_becomes_part_of_the_time_projection(
    tmp_path: Path, fps: float | None, row: int
) -> None:
    extra = fps_state(SMALL.dim)
    mine = checkpoint_of(tmp_path / "m.safetensors", state() | extra).at_rate(fps).state()
    assert not any(name.startswith("fps") for name in mine)
    hidden = extra["fps_projection.0.weight"] @ extra["fps_embedding.weight"][row]
    hidden = (hidden + extra["fps_projection.0.bias"]).double()
    added = extra["fps_projection.2.weight"].double() @ (hidden * hidden.sigmoid())
    expected_bias = (
        state()["time_projection.1.bias"] + (added + extra["fps_projection.2.bias"]).float()
    )
    torch.testing.assert_close(mine["time_projection.1.bias"], expected_bias, rtol=0, atol=1e-5)
