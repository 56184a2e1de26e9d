"""Load Wan LoRA under the stand-in: the weights in use, several at once, off again; identity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.model.family_files import State, prefix, rename, state
from longtake.tests.support.model.lora_files import (
    alphas,
    layers,
    merge,
    pairs,
    safetensors,
)
from longtake.tests.support.model.other_loader import load_by_host

KOHYA = (".lora_up.weight", ".lora_down.weight")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for folder in ("loras", "diffusion_models"):
        (tmp_path / "models" / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    save_file(state(), tmp_path / "models" / "diffusion_models" / "m.safetensors")
    pair = layers("diffusion_model.", *KOHYA)
    safetensors(tmp_path / "models" / "loras" / "l.safetensors", alphas(pair, KOHYA[0], 2.0))
    with lasting_host(tmp_path / "out", lambda event: None):
        yield load_by_host(tmp_path / "models" / "diffusion_models" / "m.safetensors")


def load(model: Any, strength: float, name: str = "l.safetensors") -> Any:
    from longtake.headless.hosts.stand_in.io_types import HiddenHolder
    from longtake.nodes.models.load_lora import LoadWanLora

    node = type("Prepared", (LoadWanLora,), {"hidden": HiddenHolder(unique_id="1")})
    return node.execute(model=model, lora_name=name, strength=strength).args[0]


def in_use(model: Any) -> State:
    """The weights when the model is claimed."""
    from longtake.nodes import host

    host.claim([model], 0)
    return {name: tensor.clone() for name, tensor in host.module_tree(model).state_dict().items()}


def same(one: State, other: State) -> None:
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-5)


def test_the_weights_in_use_are_those_of_the_model_that_was_claimed_last(model: Any) -> None:
    """Handles share one set of weights: each claim puts its own LoRAs on, and takes others off."""
    patched, twice = load(model, 0.8), load(load(model, 0.8), -0.4)
    same(in_use(patched), merge(0.8 * 0.5))
    same(in_use(twice), merge(0.4 * 0.5))
    same(in_use(model), state())
    assert all(torch.equal(tensor, state()[name]) for name, tensor in in_use(model).items())
    same(in_use(patched), merge(0.8 * 0.5))


def test_a_models_identity_follows_its_loras_and_not_what_is_loaded(model: Any) -> None:
    from longtake.nodes.models.identity import identity

    patched = load(model, 0.8)
    plain, one, again, other = (
        identity(m) for m in (model, patched, load(model, 0.8), load(model, 0.7))
    )
    assert one == again and len({plain, one, other}) == 3 and one[1] is None
    in_use(patched)
    assert (identity(model), identity(patched)) == (plain, one)


CODE = ("replaced", "injection", "weight wrapper", "weight hook", "PyTorch hook", "forward")


def carrying(model: Any, kind: str, part: Any) -> Any:
    """A clone of a MODEL with live code of another pack on it."""
    layer = "diffusion_model.blocks.0.self_attn.q"
    twin = model.clone()
    if kind == "replaced":
        twin.object_patches[f"{layer}.forward"] = part
    elif kind == "injection":
        twin.injections["pack"] = [part]
    elif kind == "weight wrapper":
        twin.weight_wrapper_patches[f"{layer}.weight"] = [part]
    elif kind == "weight hook":
        twin.forced_hooks = SimpleNamespace(hooks=[part])
    elif kind == "PyTorch hook":
        twin.model.get_submodule(layer).register_forward_hook(part)
    else:
        twin.model.get_submodule(layer).forward = part
    return twin


@pytest.mark.parametrize("kind", CODE)
def test_live_code_on_a_model_gives_a_name_for_this_session_only(model: Any, kind: str) -> None:
    """Code cannot be hashed: without it, with it and with other code are three models."""
    from longtake.nodes.models.identity import identity

    def first(*args: Any) -> None: ...
    def second(*args: Any) -> None: ...

    plain = identity(model)
    one = carrying(model, kind, first)
    name, reason = identity(one)
    assert name != plain[0] and identity(one)[0] == name
    assert reason and kind in reason
    assert identity(carrying(model, kind, second))[0] not in (name, plain[0])


def test_a_replaced_shift_says_where_the_shift_is_set(model: Any) -> None:
    from longtake.nodes.models.patches import ignored_patches

    twin = model.clone()
    twin.object_patches["model_sampling"] = object()
    assert ignored_patches(twin) == [
        "replaced model_sampling (use `shift` of Diffusion-Forcing Schedule instead)"
    ]


def test_a_callback_of_the_hosts_samplers_has_no_effect_here(model: Any) -> None:
    """As packs switch SageAttention on, or float16 sums; our own callbacks are not named."""
    from longtake.nodes import host
    from longtake.nodes.models.patches import ignored_patches

    def use_sage_attention(model: Any) -> None: ...

    twin = model.clone()
    host.watch_sampling(twin, "longtake.attention", use_sage_attention, use_sage_attention)
    assert ignored_patches(twin) == []
    host.watch_sampling(twin, "a_pack", use_sage_attention, use_sage_attention)
    assert ignored_patches(twin) == ["use_sage_attention (before sampling)"]


def test_a_choice_of_the_hosts_attention_has_no_effect_here(model: Any) -> None:
    """Newer hosts have a module beside q, k and v that names a kernel; other code replaces it."""
    from longtake.nodes.models.identity import identity
    from longtake.nodes.models.patches import ignored_patches

    names = [f"blocks.{n}.self_attn.comfy_attention" for n in range(2)]
    for name in names:
        parent = model.model.diffusion_model.get_submodule(name.rpartition(".")[0])
        parent.comfy_attention = torch.nn.Module()
    twin = model.clone()
    twin.object_patches |= {f"diffusion_model.{name}": torch.nn.Module() for name in names}
    assert ignored_patches(twin) == ["choice of an attention (see ANN-Sparse Attention)"]
    assert identity(twin) == identity(model)


def test_code_at_the_address_of_code_that_is_gone_has_another_name(model: Any) -> None:
    from longtake.nodes.models.identity import identity

    names = [identity(carrying(model, "weight wrapper", lambda *_: None))[0] for _ in range(20)]
    assert len(set(names)) == 20


def test_strength_0_is_the_model_itself(model: Any) -> None:
    assert load(model, 0.0) is model


def test_differences_of_weights_and_biases_are_added(model: Any, tmp_path: Path) -> None:
    weights, layer = state(), "blocks.0.ffn.0"
    parts = {f"{layer}.diff": "weight", f"{layer}.diff_b": "bias"}
    full = {name: torch.ones_like(weights[f"{layer}.{word}"]) for name, word in parts.items()}
    path = tmp_path / "models" / "loras" / "full.safetensors"
    safetensors(path, rename(full, prefix("diffusion_model.")))
    got = in_use(load(model, 0.5, path.name))
    for word in parts.values():
        torch.testing.assert_close(got[f"{layer}.{word}"], weights[f"{layer}.{word}"] + 0.5)


@pytest.mark.parametrize("end", ["diff_m", "modulation.diff"], ids=["LightX2V", "Kijai"])
def test_differences_of_modulations_are_added(model: Any, tmp_path: Path, end: str) -> None:
    weights, names = state(), ("blocks.0", "blocks.1", "head")
    full = {f"{n}.{end}": torch.ones_like(weights[f"{n}.modulation"]) for n in names}
    path = tmp_path / "models" / "loras" / "full.safetensors"
    safetensors(path, rename(full, prefix("diffusion_model.")))
    same(in_use(load(model, 0.5, path.name)), {
        n: t + 0.5 if n.endswith(".modulation") else t for n, t in weights.items()})  # fmt: skip


def test_what_only_comfyui_can_is_said(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "models" / "loras" / "lokr.safetensors"
    safetensors(
        path,
        {
            "diffusion_model.blocks.0.ffn.0.lokr_w1": torch.ones(2, 2),
            "diffusion_model.blocks.0.ffn.0.lokr_w2": torch.ones(24, 128),
        },
    )
    with pytest.raises(BadInput, match="needs ComfyUI"):
        load(model, 1.0, path.name)


def test_what_it_is_and_what_fits_nothing_is_said(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extra = {"diffusion_model.blocks.7.ffn.0.lora_up.weight": torch.zeros(2, 2)}
    path = tmp_path / "models" / "loras" / "more.safetensors"
    safetensors(path, layers("diffusion_model.", *KOHYA) | extra)
    with caplog.at_level("INFO", "longtake"):
        load(model, 1.0, path.name)
    said = " ".join(record.message for record in caplog.records)
    assert f"{len(pairs())} layers are changed by alpha / rank 1 (alpha: nowhere" in said
    assert "1 tensor of the LoRA fits no layer of this model, for example diffusion_model" in said


def test_a_distilled_lora_is_warned_of_where_the_model_takes_many_steps(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it needs is not in the file; with a family of few steps nothing is said."""
    from longtake.model.families.table import BY_KEY
    from longtake.nodes.models.model_facts import attach_family

    name = "Wan21_T2V_14B_lightx2v_cfg_step_distill_rank32.safetensors"
    safetensors(tmp_path / "models" / "loras" / name, layers("diffusion_model.", *KOHYA))
    load(model, 1.0, name)
    assert caplog.messages == [
        "Its name has 'lightx2v', so it may be distilled to few steps; Wan 2.1 text to video takes "
        "50 at cfg 5. Set cfg 1 and its author's number of steps, or choose the family "
        "stepdistill-t2v (4 steps)."
    ]
    caplog.clear()
    load(model, 0.0, name)
    few = model.clone()
    attach_family(few, BY_KEY["self-forcing"], "as chosen")
    load(few, 1.0, name)
    assert not caplog.messages


def test_warnings_stand_beside_what_the_lora_is(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the node, the next text takes the place of the one before."""
    from longtake.nodes.host import progress

    texts: list[str] = []
    monkeypatch.setattr(progress, "show_text", lambda node_id, text: texts.append(text))
    extra = {"diffusion_model.blocks.7.ffn.0.lora_up.weight": torch.zeros(2, 2)}
    path = tmp_path / "models" / "loras" / "more.safetensors"
    safetensors(path, layers("diffusion_model.", *KOHYA) | extra)
    load(model, 1.0, path.name)
    [text] = texts
    assert "layers are changed" in text and "1 tensor of the LoRA fits no layer" in text


@pytest.mark.parametrize(("changes", "reason"), [
    ({"alpha": 0.0}, "its alpha is 0"),
    ({"lora_up.weight": 0.0}, "one half of each pair is zeros"),
    ({"lora_up.weight": 0.0, "alpha": 0.0}, "its alpha is 0"),
    ({}, ""),
])  # fmt: skip
def test_a_lora_that_changes_nothing_is_said(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    changes: dict[str, float], reason: str,
) -> None:  # fmt: skip
    """By an alpha of 0, or untrained; one layer of zeros alone is a layer that was left out."""
    stored = alphas(layers("diffusion_model.", *KOHYA), KOHYA[0], 2.0)
    for name, tensor in stored.items():
        factor = next((f for end, f in changes.items() if name.endswith(end)), 1.0)
        stored[name] = tensor * factor
    if not reason:
        stored["diffusion_model.blocks.0.ffn.0.alpha"] = torch.zeros(())
    path = safetensors(tmp_path / "models" / "loras" / "zero.safetensors", stored)
    with caplog.at_level("WARNING", "longtake"):
        patched = load(model, 1.0, path.name)
    said = " ".join(record.message for record in caplog.records)
    assert (f"The LoRA changes nothing: {reason}" in said) == bool(reason)
    changed = any(not torch.equal(in_use(patched)[n], t) for n, t in state().items())
    assert changed != bool(reason)
