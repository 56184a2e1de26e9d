"""Community files in the real core: each container and naming gives the host's own MODEL, whose
own forward and ours over its modules agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.errors import BadInput
from longtake.model.checkpoint import Checkpoint, open_checkpoint
from longtake.model.dit import predict, project_text
from longtake.tests.support.model.diffusers_names import to_diffusers
from longtake.tests.support.model.family_files import (
    SMALL,
    State,
    block_fsdp,
    fps_state,
    image_state,
    prefix,
    rename,
    state,
)
from longtake.tests.support.model.other_loader import load_by_host

FRAMES, ROWS, COLUMNS = 3, 8, 12


@pytest.fixture(scope="module")
def host(core: Any) -> Any:
    from longtake.nodes import host

    return host


def built(host: Any, checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> Any:
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), dtype)
    host.claim([model], 0)
    return model


def inputs(channels: int = 16) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels, FRAMES, ROWS, COLUMNS, generator=seeded)
    context = torch.randn(1, 9, SMALL.text_dim, generator=seeded)
    picture = torch.randn(1, 257, 1280, generator=seeded)
    return x, torch.tensor([[900.0, 500.0, 20.0]]), context, picture


@torch.inference_mode()
def ours(tree: Any, x: Tensor, t: Tensor, context: Tensor, picture: Tensor | None = None) -> Tensor:
    attention = WholeSequence(rotation(range(FRAMES), ROWS // 2, COLUMNS // 2, SMALL.head_dim))
    text = project_text(tree, context.unsqueeze(1), picture)
    return predict(tree, x.transpose(1, 2), t, text, attention).velocity.transpose(1, 2)


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


LAYOUTS: list[tuple[str, Callable[[State], object]]] = [
    ("self_forcing.safetensors", lambda w: w),
    ("krea.safetensors", lambda w: rename(w, prefix("model."))),
    ("causvid.safetensors", lambda w: rename(w, prefix("model.diffusion_model."))),
    ("wan-diffusers.safetensors", lambda w: rename(w, to_diffusers)),
    ("rolling_forcing.pt", lambda w: {"generator_ema": rename(w, block_fsdp)}),
    ("rewardforcing.pth", lambda w: rename(w, prefix("model."))),
]


@pytest.mark.parametrize(("name", "laid_out"), LAYOUTS, ids=[name for name, _ in LAYOUTS])
@torch.inference_mode()
def test_every_layout_gives_the_hosts_model_and_the_same_forward(
    host: Any, tmp_path: Path, name: str, laid_out: Callable[[State], Any]
) -> None:
    content = laid_out(state())
    path = tmp_path / name
    torch.save(content, path) if path.suffix != ".safetensors" else save_file(content, path)
    checkpoint = open_checkpoint(path)
    model = built(host, checkpoint)
    causal = checkpoint.recognition.family.causal
    assert type(model.model).__name__ == ("WAN21_CausalAR" if causal else "WAN21")
    x, t, context, _ = inputs()
    tree = host.module_tree(model)
    theirs = tree(x, t, context=context)
    assert apart(ours(tree, x, t, context), theirs) < 1e-4
    from longtake.tests.support.tiny_model import random_dit

    assert apart(ours(random_dit(SMALL), x, t, context), theirs) < 1e-4  # the very same weights


@torch.inference_mode()
def test_an_image_to_video_model_and_its_clip_branch(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "Wan2_1-I2V.safetensors"
    save_file(image_state(), path)
    checkpoint = open_checkpoint(path)
    assert checkpoint.recognition.family.key == "wan21-i2v"
    model = built(host, checkpoint)
    x, t, context, picture = inputs(36)
    tree = host.module_tree(model)
    theirs = tree(x, t, context=context, clip_fea=picture)
    assert apart(ours(tree, x, t, context, picture), theirs) < 1e-4
    assert apart(ours(tree, x, t, context), theirs) > 1e-2  # the branch matters


@torch.inference_mode()
def test_skyreels_fps_embedding_reaches_the_hosts_model(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "skyreels.safetensors"
    save_file(state() | fps_state(SMALL.dim), path)
    checkpoint = open_checkpoint(path)
    x, t, context, _ = inputs()
    outs = []
    for fps in (16.0, 24.0):
        model = host.build_diffusion_model(
            checkpoint.at_rate(fps).state, checkpoint.metadata(), None
        )
        host.claim([model], 0)
        tree = host.module_tree(model)
        outs.append(tree(x, t, context=context))
        assert apart(ours(tree, x, t, context), outs[-1]) < 1e-4
    assert apart(*outs) > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("form", ["scale_weight", "quantization metadata"])
def test_scaled_fp8_is_computed_by_the_hosts_own_layers(
    host: Any, tmp_path: Path, form: str
) -> None:
    """Both forms of the same file: with a marker tensor, and with the list in the header."""
    weights, metadata, layers = state(), {}, {}
    for name in [n for n in weights if ".self_attn.q.weight" in n or ".ffn.0.weight" in n]:
        scale = weights[name].abs().max() / 448
        weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)
        layer = name.removesuffix(".weight")
        if form == "scale_weight":
            weights[f"{layer}.scale_weight"] = scale.reshape(1)
        else:
            weights[f"{layer}.weight_scale"] = scale
            layers[f"model.{layer}"] = {"format": "float8_e4m3fn"}
    if form == "scale_weight":
        weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    else:
        metadata["_quantization_metadata"] = json.dumps({"layers": layers})
    path = tmp_path / "self_forcing_fp8_scaled.safetensors"
    save_file(rename(weights, prefix("model.")), path, metadata)
    model = built(host, open_checkpoint(path))
    tree = host.module_tree(model)
    x, t, context, _ = inputs()
    from longtake.model.checkpoint import load_dit

    mine = ours(tree, x, t, context)
    assert apart(mine, tree(x, t, context=context)) < 2e-2  # the host computes in half precision
    if form == "scale_weight":
        assert apart(mine, ours(load_dit(path), x, t, context)) < 2e-2


@torch.inference_mode()
def test_fp8_storage_is_the_hosts_and_lora_and_reload_work(
    core: Any, host: Any, tmp_path: Path
) -> None:
    path = tmp_path / "self_forcing.safetensors"
    save_file(state(), path)
    checkpoint = open_checkpoint(path)
    model = built(host, checkpoint, torch.float8_e4m3fn)
    weight = host.module_tree(model).blocks[0].ffn[0].weight
    assert weight.dtype == torch.float8_e4m3fn
    model = built(host, checkpoint)
    layer = "diffusion_model.blocks.1.ffn.0"
    lora = {f"{layer}.lora_up.weight": torch.ones(SMALL.ffn_dim, 2),
            f"{layer}.lora_down.weight": 0.1 * torch.ones(2, SMALL.dim)}  # fmt: skip
    patched = core.sd.load_lora_for_models(model, None, lora, 1.0, 0)[0]
    x, t, context, _ = inputs()
    plain = ours(host.module_tree(model), x, t, context)
    host.claim([patched], 0)
    assert apart(ours(host.module_tree(patched), x, t, context), plain) > 1e-3
    factory, arguments = model.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)  # how the host makes another one
    host.claim([again], 0)
    assert torch.equal(ours(host.module_tree(again), x, t, context), plain)


@torch.inference_mode()
def test_a_converted_file_needs_no_longtake_in_the_core(host: Any, tmp_path: Path) -> None:
    from longtake.headless.commands.convert import Conversion, convert

    source, out = tmp_path / "framewise" / "causal_forcing.pt", tmp_path / "clean.safetensors"
    source.parent.mkdir()
    torch.save({"generator_ema": rename(state(), block_fsdp)}, source)
    convert(open_checkpoint(source), out, Conversion(), lambda done, all_: None)
    model = load_by_host(out)  # the host's own loader, and nothing of ours
    assert type(model.model).__name__ == "WAN21_CausalAR"
    host.claim([model], 0)
    x, t, context, _ = inputs()
    direct = built(host, open_checkpoint(source))
    assert torch.equal(
        ours(host.module_tree(model), x, t, context), ours(host.module_tree(direct), x, t, context)
    )


@pytest.mark.parametrize(
    ("name", "title", "chunk", "window", "sink", "cfg"),
    [("self_forcing_dmd.pt", "Self-Forcing", 3, 18, 0, 1.0),
     ("rewardforcing.pt", "Reward Forcing", 3, 6, 3, 1.0),
     ("framewise/causal_forcing.pt", "Causal Forcing framewise", 1, 20, 0, 1.0),
     ("SkyReels-V2-DF-14B.pt", "SkyReels-V2 Diffusion Forcing", 5, 20, 0, 6.0)],
)  # fmt: skip
def test_a_family_brings_its_settings_and_says_what_was_assumed(  # noqa: PLR0913
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, title: str, chunk: int, window: int, sink: int, cfg: float,
) -> None:  # fmt: skip
    """The authors' figures, of a file told by its name alone; and each to be set otherwise."""
    from types import SimpleNamespace

    from longtake.nodes.memory.cache_spec import KVCacheSpec
    from longtake.nodes.models.model_facts import facts, remember
    from longtake.nodes.sampling.model_settings import SettingsFromModel
    from longtake.nodes.sampling.schedule_spec import ScheduleSpec
    from longtake.samplers.history.settings import CacheSettings

    (tmp_path / name).parent.mkdir(exist_ok=True)
    torch.save({"generator_ema": rename(state(), prefix("model."))}, tmp_path / name)
    checkpoint = open_checkpoint(tmp_path / name)
    model = built(host, checkpoint)
    remember(model, checkpoint.recognition)
    said: list[str] = []
    monkeypatch.setattr(host, "show_status", lambda node_id, text, *_: said.append(text))
    monkeypatch.setattr(host, "warn", lambda node_id, text: None)  # there is no server
    node = type("Prepared", (SettingsFromModel,), {"hidden": SimpleNamespace(unique_id="1")})
    schedule, cache, strength, *_ = node.execute(model=model.clone()).args
    policy = cache.policy
    assert (schedule.schedule.chunk_frames, policy.window_frames, policy.sink_frames, strength) == (
        chunk, window, sink, cfg,
    )  # fmt: skip
    assert said[0].startswith(f"{title}: its name has") and facts(model).assumed in said[0]
    assert ScheduleSpec().resolve(facts(model).preset) == schedule  # the nodes left alone
    assert KVCacheSpec(CacheSettings).resolve(facts(model).preset) == cache
    other, cache, strength, *_ = node.execute(
        model=model, chunk_frames=2, window_frames=9, guidance_scale=2.0
    ).args
    assert (other.schedule.chunk_frames, cache.policy.window_frames, strength) == (2, 9, 2.0)
    assert f"Changed: chunk_frames 2 (from model: {chunk})" in said[-1]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_the_node(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """Not only when the first chunk has come out black."""
    from types import SimpleNamespace

    from longtake.nodes.models.load_model import LoadCausalVideoModel

    weights = state()
    weights["blocks.1.cross_attn.v.weight"][3, 5] = value
    save_file(weights, tmp_path / "self_forcing.safetensors")
    monkeypatch.setattr(host, "model_file", lambda folder, name: tmp_path / name)
    node = type("Prepared", (LoadCausalVideoModel,), {"hidden": SimpleNamespace(unique_id="1")})
    given = {"family": "auto", "weights": "auto", "weight_dtype": "auto", "fps": "from model"}
    with pytest.raises(BadInput, match=r"NaN or infinity in blocks\.1\.cross_attn\.v\.weight"):
        node.execute(model_name="self_forcing.safetensors", **given)


def test_an_order_of_pictures_for_layers_of_video_is_named(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With this switch the core itself fails at the first layer of any video model."""
    from comfy.cli_args import args

    path = tmp_path / "self_forcing.safetensors"
    save_file(state(), path)
    monkeypatch.setattr(args, "force_channels_last", True)
    with pytest.raises(BadInput, match="--force-channels-last.*required rank 4.*start it without"):
        built(host, open_checkpoint(path))
