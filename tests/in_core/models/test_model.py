"""The demo's weights inside the real core: the host's own Wan model, our forward over it, other
nodes' LoRA.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.errors import BadInput
from longtake.model.checkpoint import load_dit
from longtake.model.dit import predict, project_text
from longtake.tests.in_core.support.places import DEMO
from longtake.tests.support.model.lora_files import random_lora
from longtake.tests.support.model.other_loader import load_by_host


@pytest.fixture(scope="module")
def host(core: Any) -> Any:
    from longtake.nodes import host

    return host


@pytest.fixture(scope="module")
def model(host: Any) -> Any:
    return load_by_host(DEMO / "dit.safetensors")


@torch.inference_mode()
def velocity(tree: Any, frames: int = 4) -> Tensor:
    """Our forward over a module tree on fixed inputs, every latent frame at its own noise level."""
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(2, frames, 16, 8, 12, generator=seeded)
    context = torch.zeros(2, 1, 24, 64)
    context[:, :, :9] = torch.randn(2, 1, 9, 64, generator=seeded)
    t = torch.linspace(1000, 0, frames).expand(2, -1)
    attention = WholeSequence(rotation(range(frames), 4, 6, 48))
    return predict(tree, x, t, project_text(tree, context), attention).velocity


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_the_host_builds_its_own_wan_model_from_our_file(core: Any, model: Any) -> None:
    assert type(model.model) is core.model_base.WAN21_CausalAR
    assert isinstance(model, core.model_patcher.ModelPatcher)


def test_our_forward_over_the_hosts_modules_equals_the_headless_one(host: Any, model: Any) -> None:
    host.claim([model], 0)
    own = velocity(load_dit(DEMO / "dit.safetensors"))
    assert difference(velocity(host.module_tree(model)), own) < 1e-5


@torch.inference_mode()
def test_our_forward_equals_the_hosts_own(host: Any, model: Any) -> None:
    host.claim([model], 0)
    x, context = torch.randn(1, 16, 3, 8, 12), torch.randn(1, 24, 64)
    t = torch.tensor([[900.0, 500.0, 0.0]])
    tree = host.module_tree(model)
    theirs = tree(x, t, context=context).transpose(1, 2)
    attention = WholeSequence(rotation(range(3), 4, 6, 48))
    ours = predict(
        tree, x.transpose(1, 2), t, project_text(tree, context.unsqueeze(1)), attention
    ).velocity
    assert difference(ours, theirs) < 1e-4


def with_lora(core: Any, model: Any, strength: float = 1.0) -> Any:
    """The model with a LoRA on one of its layers, as the host's Load LoRA puts it there."""
    return core.sd.load_lora_for_models(model, None, random_lora(), strength, 0)[0]


def test_load_lora_takes_the_demos_text_encoder_too(core: Any, model: Any) -> None:
    from longtake.model.checkpoint import load_text_encoder
    from longtake.nodes.models.demo_objects import DemoCLIP

    clip = DemoCLIP(load_text_encoder(DEMO / "text.safetensors"))
    patched, other = core.sd.load_lora_for_models(model, clip, random_lora(), 1.0, 1.0)
    assert patched.patches and torch.equal(other.encode("a red ball"), clip.encode("a red ball"))


def test_another_nodes_lora_between_chunks_does_not_leak(core: Any, host: Any, model: Any) -> None:
    """Law of claiming per chunk: after every claim, the weights are those of the claimed MODEL."""
    patched = with_lora(core, model)
    host.claim([model], 0)
    plain = velocity(host.module_tree(model))
    host.claim([patched], 0)
    changed = velocity(host.module_tree(patched))
    assert difference(changed, plain) > 1e-3
    host.claim([model], 0)
    assert torch.equal(velocity(host.module_tree(model)), plain)
    host.claim([patched], 0)
    assert torch.equal(velocity(host.module_tree(patched)), changed)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_shot_that_the_garbage_collector_frees_leaves_no_dead_model(
    core: Any, host: Any, model: Any, factor: float
) -> None:
    """Else the host warns of a memory leak and collects garbage at every later request."""
    from longtake.nodes.runtime.resolved_model import denoiser

    claim = denoiser(with_lora(core, with_lora(core, model))).host
    claim.scale_loras(factor)
    claim.claim(0)
    cycle = [claim]  # as a shot's run, its streams and its observer are one
    cycle.append(cycle)
    del claim, cycle
    gc.collect()
    loaded = core.model_management.current_loaded_models
    assert not any(each.is_dead() for each in loaded if each.real_model is not None)
    assert any(each.model is model for each in loaded)


def test_a_model_is_known_by_its_weights_and_its_loras(core: Any, host: Any, model: Any) -> None:
    """The host's patch ids are random; strengths and tensors are not, and loading must not
    matter.
    """
    from longtake.nodes.models.identity import identity

    plain, patched = identity(model), identity(with_lora(core, model))
    assert plain[1] is None and patched[1] is None and plain[0] != patched[0]
    host.claim([with_lora(core, model)], 0)  # patches the shared weights in place
    again = load_by_host(DEMO / "dit.safetensors")
    assert identity(model) == identity(again) == plain
    assert identity(with_lora(core, again)) == patched
    assert identity(with_lora(core, model, strength=0.5)) != patched


def test_a_model_with_code_on_it_is_known_for_this_session_only(model: Any) -> None:
    from longtake.nodes.models.identity import identity

    changed = model.clone()
    changed.add_object_patch("diffusion_model.blocks.0.self_attn.q", torch.nn.Linear(192, 192))
    name, reason = identity(changed)
    assert name != identity(model)[0]
    assert reason and "replaced diffusion_model.blocks.0.self_attn.q" in reason


def merged(core: Any, model: Any, other: Any, share: float) -> Any:
    """Two models as the host's ModelMergeSimple merges them."""
    twin = model.clone()
    for name, stack in other.get_key_patches("diffusion_model.").items():
        twin.add_patches({name: stack}, share, 1 - share)
    return twin


def test_a_merge_is_known_after_a_restart(core: Any, host: Any, model: Any) -> None:
    """The host stores with each weight of the other model a function that gives it back."""
    from longtake.nodes.models.identity import identity

    other = with_lora(core, load_by_host(DEMO / "dit.safetensors"))
    name, reason = identity(merged(core, model, other, 0.5))
    assert reason is None
    assert identity(merged(core, model, other, 0.5)) == (name, None)
    others = merged(core, model, other, 0.25), merged(core, model, model, 0.5), model
    assert name not in [identity(each)[0] for each in others]


def with_injection(core: Any, model: Any) -> Any:
    """The model with code in one of its layers, as the host's Load LoRA (Bypass) puts it there."""
    layer = model.model.diffusion_model.blocks[0].self_attn.q
    own = layer.forward

    def inject(_: Any) -> None:
        layer.forward = lambda x: own(x) * 2

    def eject(_: Any) -> None:
        layer.forward = own

    twin = model.clone()
    injection = core.patcher_extension.PatcherInjection(inject, eject)
    twin.set_injections("bypass_lora", [injection])
    return twin


def test_the_model_that_was_used_last_does_not_change_a_models_name(
    core: Any, host: Any, model: Any
) -> None:
    """All clones share their modules, and those hold the injected code of the last one loaded."""
    from longtake.nodes.models.identity import identity

    injected = with_injection(core, model)
    names = identity(model), identity(injected)
    assert names[0][1] is None and "injection bypass_lora" in str(names[1][1])
    for used in (injected, model):
        host.claim([used], 0)
        assert (identity(model), identity(injected)) == names
        assert used.is_injected is (used is injected)


def test_other_kinds_of_model_are_refused_in_one_sentence(host: Any, model: Any) -> None:
    class NotWan:
        model = torch.nn.Module()

    NotWan.model.diffusion_model = torch.nn.Linear(1, 1)
    with pytest.raises(BadInput, match="not a Wan model"):
        host.module_tree(NotWan)


def test_patches_that_our_forward_would_ignore_are_named(core: Any, host: Any, model: Any) -> None:
    from longtake.nodes.models.patches import ignored_patches

    patched = with_lora(core, model)
    assert ignored_patches(patched) == []

    def use_sage_attention(model: Any) -> None: ...

    patched.add_callback("on_pre_run", use_sage_attention)
    patched.add_wrapper_with_key("diffusion_model", "EasyCache", lambda *_: None)
    patched.set_model_patch_replace(lambda *_: None, "dit", "double_block", 3)
    patched.model_options["transformer_options"]["optimized_attention_override"] = lambda *_: None
    patched.add_object_patch("diffusion_model.blocks.0.forward", lambda *_: None)
    patched.add_object_patch("diffusion_model.blocks.0.self_attn.q.forward", lambda *_: None)
    assert ignored_patches(patched) == [
        "EasyCache (diffusion_model wrapper)",
        "use_sage_attention (before sampling)",
        "optimized_attention_override",
        "dit double_block 3 replacement",
        "replaced diffusion_model.blocks.0.forward",
    ]
    assert ignored_patches(model) == []


def test_a_dtype_that_a_node_sets_holds_for_its_model_alone(host: Any, model: Any) -> None:
    """Whichever clone is loaded; and it names the chunks, since they are others."""
    from longtake.nodes.models.identity import identity
    from longtake.nodes.models.patches import ignored_patches

    half = model.clone()
    half.set_model_compute_dtype(torch.float16)
    for loaded in (model, half, model):
        host.claim([loaded], 0)
        assert host.compute_place(model)[1] == torch.float32
        assert host.compute_place(half)[1] == torch.float16
    assert identity(half)[0] != identity(model)[0] and identity(half)[1] is None
    assert ignored_patches(half) == []
    half.set_model_compute_dtype(None)  # its choice `default`
    assert host.compute_place(half)[1] == torch.float32
    assert identity(half) == identity(model)


def test_cancel_stops_our_forward_within_one_layer(core: Any, host: Any, model: Any) -> None:
    """Every layer of the host's checks for Cancel: the one after the press is not computed."""
    host.claim([model], 0)
    tree = host.module_tree(model)
    computed: list[str] = []
    pressed = "blocks.1.self_attn.k"

    def note(name: str) -> Any:
        def hook(*_: Any) -> None:
            computed.append(name)
            if name == pressed:
                core.model_management.interrupt_current_processing(True)

        return hook

    layers = {
        name: part for name, part in tree.named_modules() if isinstance(part, torch.nn.Linear)
    }
    hooks = [part.register_forward_hook(note(name)) for name, part in layers.items()]
    try:
        with pytest.raises(core.model_management.InterruptProcessingException):
            velocity(tree)
    finally:
        for hook in hooks:
            hook.remove()
    assert computed[-1] == pressed and "blocks.2.self_attn.q" not in computed
    velocity(tree)  # the press is used up
