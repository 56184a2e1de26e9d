"""LoRA files of every naming change the weights as their own trainers compute it."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.families.names import from_diffusers, to_diffusers
from longtake.model.lora.file import Lora, open_lora
from longtake.model.lora.roles import DOWN, UP
from longtake.tests.support.model.family_files import (
    SMALL,
    State,
    block_fsdp,
    official_shapes,
    state,
)
from longtake.tests.support.model.lora_files import (
    LAYERS,
    RANK,
    alphas,
    layers,
    merge,
    pairs,
    safetensors,
    shapes,
)
from longtake.tests.support.tiny_model import randn

PEFT = (".lora_B.weight", ".lora_A.weight")
KOHYA = (".lora_up.weight", ".lora_down.weight")


def underscored(name: str) -> str:
    return name.replace(".", "_")


def their_underscored(name: str) -> str:
    return underscored(LAYERS[name])


def fsdp(name: str) -> str:
    return block_fsdp(name).removeprefix("model.")


def file_of(make: Callable[[Path], Path], folder: Path) -> Lora:
    return open_lora(make(folder), shapes())


def pickled(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def peft_folder(folder: Path, tensors: State, **config: object) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return safetensors(folder / "adapter_model.safetensors", tensors)


def diffusers_file(folder: Path, **config: object) -> Path:
    tensors = layers("transformer.", *PEFT, LAYERS.__getitem__)
    said = json.dumps({f"transformer.{key}": value for key, value in config.items()})
    return safetensors(folder / "l.safetensors", tensors, lora_adapter_metadata=said)


BARE = "base_model.model."
FILES: dict[str, tuple[Callable[[Path], Path], float]] = {
    "ComfyUI": (
        lambda f: safetensors(f / "l.safetensors",
                              alphas(layers("diffusion_model.", *KOHYA), KOHYA[0], 2.0)), 0.5),
    "ComfyUI, no alpha": (
        lambda f: safetensors(f / "l.safetensors", layers("diffusion_model.", *PEFT)), 1.0),
    "kohya": (
        lambda f: safetensors(f / "l.safetensors", alphas(
            layers("lora_unet_", *KOHYA, underscored), KOHYA[0], 8.0)), 2.0),
    "Wan Fun": (
        lambda f: safetensors(f / "l.safetensors", alphas(
            layers("lora_unet__", *KOHYA, underscored), KOHYA[0], 1.0)), 0.25),
    "diffusers": (lambda f: diffusers_file(f, r=RANK, lora_alpha=6), 1.5),
    "diffusers, an alpha of its own layer": (
        lambda f: diffusers_file(f, r=RANK, lora_alpha=6, alpha_pattern=dict.fromkeys(
            LAYERS.values(), 2)), 0.5),
    "diffusers, lora.up": (
        lambda f: safetensors(f / "l.safetensors", layers(
            "transformer.", ".lora.up.weight", ".lora.down.weight", LAYERS.__getitem__)), 1.0),
    "OneTrainer": (
        lambda f: safetensors(f / "l.safetensors", alphas(layers(
            "lora_transformer_", *KOHYA, their_underscored), KOHYA[0], 8.0)), 2.0),
    "OneTrainer, dotted": (
        lambda f: safetensors(f / "l.safetensors", alphas(layers(
            "transformer.", *KOHYA, LAYERS.__getitem__), KOHYA[0], 8.0)), 2.0),
    "LyCORIS": (
        lambda f: safetensors(f / "l.safetensors", alphas(
            layers("lycoris_", *KOHYA, underscored), KOHYA[0], 8.0)), 2.0),
    "LyCORIS, diffusers' layers": (
        lambda f: safetensors(f / "l.safetensors", alphas(
            layers("lycoris_", *KOHYA, their_underscored), KOHYA[0], 8.0)), 2.0),
    "bare PEFT": (lambda f: safetensors(f / "l.safetensors", layers(BARE, *PEFT)), 1.0),
    "PEFT with its config": (
        lambda f: peft_folder(f, layers(BARE, *PEFT), r=RANK, lora_alpha=12), 3.0),
    "PEFT, rank-stabilised": (
        lambda f: peft_folder(f, layers(BARE, *PEFT), r=RANK, lora_alpha=6, use_rslora=True), 3.0),
    "PEFT, named adapter, diffusers' layers": (
        lambda f: safetensors(f / "l.safetensors", layers(
            BARE + "model.", ".lora_B.default.weight", ".lora_A.default.weight",
            LAYERS.__getitem__)), 1.0),
    "LongLive": (
        lambda f: pickled(f / "lora.pt", {"generator_lora": layers(
            BARE + "model.", *PEFT, fsdp), "critic_lora": layers(BARE + "model.", *PEFT)}), 1.0),
}  # fmt: skip


def added(lora: Lora) -> State:
    """The small model with the LoRA, by the definition of what its parts mean to the host."""
    weights = {name: tensor.clone() for name, tensor in state().items()}
    for (module, role), up in lora.parts.items():
        if role == UP:
            down, alpha = lora.parts[module, DOWN], float(lora.parts[module, "alpha"])
            weights[f"{module}.weight"] += alpha / len(down) * (up @ down)
    return weights


def same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("naming", FILES)
def test_every_naming_changes_the_same_layers_by_its_own_scale(tmp_path: Path, naming: str) -> None:
    make, scale = FILES[naming]
    lora = file_of(make, tmp_path)
    assert lora.layers == len(LAYERS) and lora.scales == (scale,)
    same(added(lora), merge(scale))
    critics = [name for name in lora.unused if not name.startswith("critic_lora")]
    assert not critics


def test_pefts_own_merge_is_the_same(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from longtake.tests.support.model.family_files import SMALL
    from longtake.tests.support.tiny_model import random_dit

    config = peft.LoraConfig(
        r=RANK, lora_alpha=10, target_modules=r"blocks\.\d\.(self_attn\.q|ffn\.0)",
        alpha_pattern={"blocks.1.ffn.0": 2},
    )  # fmt: skip
    model = peft.get_peft_model(random_dit(SMALL), config)
    for i, (name, weight) in enumerate(model.named_parameters()):
        if "lora_" in name:
            weight.data = randn(*weight.shape, seed=i)
    model.save_pretrained(tmp_path)
    lora = open_lora(tmp_path / "adapter_model.safetensors", shapes())
    assert lora.scales == (0.5, 2.5)
    same(added(lora), dict(model.merge_and_unload().state_dict()))


def test_a_bias_of_the_up_projection_is_scaled_too(tmp_path: Path) -> None:
    bias: Tensor = randn(shapes()["blocks.0.ffn.0"][0], seed=9)
    tensors = layers(BARE, *PEFT) | {f"{BARE}blocks.0.ffn.0.lora_B.bias": bias}
    lora = open_lora(peft_folder(tmp_path, tensors, r=RANK, lora_alpha=8), shapes())
    torch.testing.assert_close(lora.parts["blocks.0.ffn.0", "diff_b"], 2 * bias)


@pytest.mark.parametrize("names", [PEFT, (".lora_B.second.weight", ".lora_A.second.weight")])
def test_of_two_loras_in_a_file_none_is_taken_at_random(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    both = layers("generator_lora.", *PEFT) | layers("generator_ema_lora.", *names)
    path = safetensors(tmp_path / "l.safetensors", both)
    with pytest.raises(BadInput, match=r"more than one LoRA \(generator_.*lora_[AB]"):
        open_lora(path, shapes())


def test_an_alpha_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, layers(BARE, *PEFT), r=RANK, lora_alpha=math.inf)
    with pytest.raises(BadInput, match=r"its alpha cannot be read \(it is inf\)"):
        open_lora(folder, shapes())


@pytest.mark.parametrize("lost", [(0, 1), (0,), (1,)])
def test_a_lora_that_ends_in_zeros_is_no_whole_download(
    tmp_path: Path, lost: tuple[int, ...]
) -> None:
    """Half a pair of zeros is a layer that training left as it was."""
    whole = layers(BARE, *PEFT)
    pair = [BARE + next(iter(pairs())) + end for end in PEFT]
    names = [pair[half] for half in lost]
    path = safetensors(
        tmp_path / "l.safetensors", whole | {name: torch.zeros_like(whole[name]) for name in names}
    )
    if len(lost) == 1:
        assert open_lora(path, shapes()).layers == len(whole) // 2
        return
    with pytest.raises(BadInput, match=f"but zeros for {next(iter(pairs()))}; download it again"):
        open_lora(path, shapes())


def test_layers_that_the_model_lacks_are_named(tmp_path: Path) -> None:
    extra = {"diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight": torch.zeros(2, 2)}
    path = safetensors(tmp_path / "l.safetensors", layers("diffusion_model.", *KOHYA) | extra)
    assert open_lora(path, shapes()).unused == tuple(extra)


@pytest.mark.parametrize("layer", ["lycoris_blocks_0_ffn_0", "lora_transformer_blocks_1_attn2_to_v",
                                   "transformer.blocks.0.attn1.to_out.0"])  # fmt: skip
@pytest.mark.parametrize("roles", [
    ("lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    ("oft_blocks", "rescale"),
])  # fmt: skip
def test_what_lycoris_holds_reaches_the_host_under_its_own_words(
    tmp_path: Path, layer: str, roles: tuple[str, ...]
) -> None:
    tensors = {f"{layer}.{role}": torch.ones(2, 2) for role in roles}
    lora = open_lora(safetensors(tmp_path / "l.safetensors", tensors), shapes())
    assert {role for _, role in lora.parts} == set(roles) and lora.layers == 1 and not lora.unused


def test_every_layer_has_its_name_in_diffusers_and_back() -> None:
    layers = [n.removesuffix(".weight") for n in official_shapes("I2V-14B", 2) if ".weight" in n]
    back = {layer: from_diffusers(f"{to_diffusers(layer)}.weight") for layer in layers}
    odd = {layer for layer, name in back.items() if name != f"{layer}.weight"}
    assert odd <= {"patch_embedding", "blocks.0.norm3", "blocks.1.norm3"} | {
        name for name in layers if name.startswith("img_emb.proj.")
    }


def half(tensors: State) -> State:
    return dict(list(tensors.items())[1:])


def not_a_number(tensors: State) -> State:
    name, tensor = next(iter(tensors.items()))
    return tensors | {name: torch.full_like(tensor, torch.nan)}


def factors(role: str, shape: tuple[int, ...]) -> State:
    return {f"lycoris_blocks_0_self_attn_q.{role}": torch.ones(shape)}


def in_int8(tensors: State) -> State:
    return {n: t.mul(10).to(torch.int8) if ".lora_" in n else t for n, t in tensors.items()}


def test_a_lora_of_image_to_video_fits_text_to_video(tmp_path: Path) -> None:
    """LightX2V's holds a difference of the layer for latents, which reads 36 channels there."""
    head = "diffusion_model.patch_embedding"
    extra = {f"{head}.diff": torch.ones(256, 36, 1, 2, 2), f"{head}.diff_b": torch.ones(256)}
    stored = layers("diffusion_model.", *KOHYA) | extra
    lora = open_lora(safetensors(tmp_path / "l.safetensors", stored), shapes())
    assert lora.unused == (f"{head}.diff",) and ("patch_embedding", "diff_b") in lora.parts


def with_scale(tensors: State) -> State:
    layer = "diffusion_model.blocks.0.self_attn.q"
    return tensors | {f"{layer}.lora_up.scale_weight": torch.tensor(0.1)}


REFUSED: dict[str, tuple[Callable[[State], State], str]] = {
    "half a pair": (half, "no whole LoRA: blocks.0.self_attn.q has half a pair"),
    "NaN": (not_a_number, "NaN or infinity in diffusion_model.blocks.0.self_attn.q.lora_up.weight"),
    "another size": (
        lambda t: {n: torch.cat([x, x], int(".lora_down" in n)) for n, x in t.items()},
        "made for a model of another size"),
    "another model": (
        lambda t: {n.replace("blocks.", "double_layers."): x for n, x in t.items() if "block" in n},
        "changes no layer of any Wan model"),
    "more blocks": (
        lambda t: {re.sub(r"blocks\.\d", "blocks.39", n): x for n, x in t.items() if "bl" in n},
        r"changes no layer of this model \(it changes diffusion_model.blocks.39"),
    "a difference of another size": (
        lambda t: t | {"diffusion_model.blocks.0.norm3.diff": torch.ones(128)},
        "another size: blocks.0.norm3 has 256 numbers and it changes 128"),
    "a bias of another size": (
        lambda t: {"diffusion_model.blocks.0.ffn.0.diff_b": torch.ones(64)},
        "another size: blocks.0.ffn.0 has 48 numbers and it changes 64"),
    "a LoKr of another size": (
        lambda t: factors("lokr_w1", (4, 4)) | factors("lokr_w2_a", (32, 2))
        | factors("lokr_w2_b", (2, 32)),
        "blocks.0.self_attn.q has 65536 numbers and it changes 16384"),
    "half a LoKr": (lambda t: factors("lokr_w1", (4, 4)), "blocks.0.self_attn.q lacks a factor"),
    "a LoHa of another size": (
        lambda t: factors("hada_w1_a", (128, 2)) | factors("hada_w1_b", (2, 128))
        | factors("hada_w2_a", (128, 2)) | factors("hada_w2_b", (2, 128)),
        "blocks.0.self_attn.q has 65536 numbers and it changes 16384"),
    "a pair and a difference": (
        lambda t: t | {"diffusion_model.blocks.0.ffn.0.diff": torch.ones(48, 256)},
        "changes the weight of blocks.0.ffn.0 by a pair and by a difference"),
    "a pair and a new weight": (
        lambda t: t | {"diffusion_model.blocks.0.ffn.0.set_weight": torch.ones(48, 256)},
        "changes the weight of blocks.0.ffn.0 by a pair and by a new weight"),
    "half a GLoRA": (
        lambda t: factors("a1.weight", (2, 256)), "blocks.0.self_attn.q lacks a factor"),
    "a norm of another size": (
        lambda t: {"diffusion_model.blocks.0.norm3.w_norm": torch.ones(128)},
        "another size: blocks.0.norm3 has 256 numbers and it changes 128"),
    "a magnitude alone": (
        lambda t: factors("dora_scale", (256, 1)),
        "blocks.0.self_attn.q has dora_scale and nothing that it belongs to"),
    "a whole model": (lambda t: state(), "is a whole model and no LoRA"),
    "a whole model behind a prefix": (
        lambda t: {f"model.diffusion_model.{n}": x for n, x in state().items()}, "a whole model"),
    "rank 0": (
        lambda t: {n: x[:, :0] if ".lora_up" in n else x[:0] for n, x in t.items()}, "has rank 0"),
    "whole numbers": (
        in_int8, r"is a quantised LoRA \(blocks\.\S+ is int8\)"),
    "fp8 with a scale": (
        lambda t: with_scale({n: x.to(torch.float8_e4m3fn) for n, x in t.items()}),
        r"is a quantised LoRA \(diffusion_model.blocks.0.self_attn.q.lora_up.scale_weight\)"),
    "an alpha for every row": (
        lambda t: t | {"diffusion_model.blocks.0.self_attn.q.alpha": torch.ones(4)},
        "has 4 numbers as the alpha of blocks.0.self_attn.q instead of one"),
    "alphas alone": (
        lambda t: {"diffusion_model.blocks.0.self_attn.q.alpha": torch.ones(())}, "is no LoRA"),
    "no LoRA": (lambda t: {"a": torch.zeros(1)}, "is no LoRA"),
    "a DoRA of PEFT": (
        lambda t: t | {"diffusion_model.blocks.0.self_attn.q.lora_magnitude_vector": torch.ones(2)},
        "is a DoRA of PEFT"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    change, sentence = REFUSED[case]
    path = safetensors(tmp_path / "l.safetensors", change(layers("diffusion_model.", *KOHYA)))
    with pytest.raises(BadInput, match=sentence) as caught:
        open_lora(path, shapes())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    ["[1]", "{", '{"lora_alpha": "x"}', '{"alpha_pattern": {"(": 1}}', '{"lora_alpha": []}'],
)
def test_an_unreadable_config_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "adapter_config.json").write_text(config)
    path = safetensors(tmp_path / "adapter_model.safetensors", layers(BARE, *PEFT))
    with pytest.raises(BadInput, match="alpha cannot be read"):
        open_lora(path, shapes())


def test_random_damage_never_gets_past_the_border(tmp_path: Path) -> None:
    """Whatever bytes are wrong: the LoRA, or one sentence."""
    whole = safetensors(tmp_path / "whole.safetensors", layers("diffusion_model.", *KOHYA))
    good, spoilt = whole.read_bytes(), tmp_path / "spoilt.safetensors"
    for seed in range(30):
        draw = random.Random(seed)
        data = bytearray(good[: draw.choice([len(good), draw.randrange(len(good))])])
        for _ in range(draw.randrange(1, 6)):
            if data:
                data[draw.randrange(min(len(data), 4000))] = draw.randrange(256)
        spoilt.write_bytes(data)
        try:
            assert open_lora(spoilt, shapes()).layers > 0
        except BadInput as refusal:
            assert "\n" not in str(refusal)


def clean_forcing(order: type) -> dict[str, object]:
    """`torch.save({"lora": ...})`: down and up of each layer of self-attention, without names."""
    tensors = []
    for block in range(SMALL.num_layers):
        for number, _ in enumerate("qkvo"):
            seed = 1 + 4 * block + number
            tensors += [randn(RANK, SMALL.dim, seed=-seed), randn(SMALL.dim, RANK, seed=seed)]
    return {"lora": tensors if order is list else dict(enumerate(tensors)), "step": 4000}


@pytest.mark.parametrize("order", [list, dict])
def test_clean_forcings_tensors_without_names_belong_to_self_attention(
    tmp_path: Path, order: type
) -> None:
    """illustro1/clean-forcing `wan/modules/lora.py`: x + scale B(A(x)), with a scale of 1."""
    lora = open_lora(pickled(tmp_path / "lora_cf_v1.pt", clean_forcing(order)), shapes())
    weights = {name: tensor.clone() for name, tensor in state().items()}
    for block in range(SMALL.num_layers):
        for number, letter in enumerate("qkvo"):
            seed = 1 + 4 * block + number
            up, down = randn(SMALL.dim, RANK, seed=seed), randn(RANK, SMALL.dim, seed=-seed)
            weights[f"blocks.{block}.self_attn.{letter}.weight"] += up @ down
    assert lora.layers == 4 * SMALL.num_layers and not lora.unused
    for name, tensor in added(lora).items():
        torch.testing.assert_close(tensor, weights[name])
