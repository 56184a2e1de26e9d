"""A GGUF file through ComfyUI-GGUF's own loader node: its MODEL streams by our forward.

The pack is looked for in `custom_nodes/ComfyUI-GGUF` and in $COMFYUI_GGUF.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.model.checkpoint import build_dit
from longtake.model.config import DiTConfig
from longtake.model.lora.file import open_lora
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.compilers import CountingCompiler, compiled
from longtake.tests.support.model.family_files import State, state
from longtake.tests.support.model.lora_files import safetensors
from longtake.tests.support.tiny_model import randn

CONFIG = DiTConfig(dim=256, ffn_dim=64, num_heads=2, num_layers=2, text_dim=4096)
LAYER, RANK = "blocks.1.ffn.0", 4
PLACES = [Path("custom_nodes/ComfyUI-GGUF"), Path(os.environ.get("COMFYUI_GGUF", "/nowhere"))]


@pytest.fixture(scope="module")
def pack(core: Any) -> Any:
    """The node pack, imported as the core imports it."""
    pytest.importorskip("gguf", reason="needs `pip install gguf` in the core's Python")
    folder = next((one for one in PLACES if (one / "__init__.py").is_file()), None)
    if folder is None:
        pytest.skip("needs the node pack ComfyUI-GGUF in custom_nodes, or in $COMFYUI_GGUF")
    where = {"submodule_search_locations": [str(folder)]}
    spec = importlib.util.spec_from_file_location("gguf_pack", folder / "__init__.py", **where)
    assert spec is not None and spec.loader is not None
    sys.modules["gguf_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["gguf_pack"])
    return sys.modules["gguf_pack"]


def written(path: Path, kind: str) -> State:
    """A small Wan model as GGUF, matrices quantised; gives what its weights then are."""
    import gguf
    from gguf import quants

    writer, weights = gguf.GGUFWriter(path, "wan"), {}
    for name, tensor in state(CONFIG).items():
        is_matrix = tensor.ndim == 2 and ".weight" in name
        form = gguf.GGMLQuantizationType[kind if is_matrix else "F32"]
        flat = tensor.flatten(1) if tensor.ndim > 4 else tensor  # GGUF has four axes at most
        data = quants.quantize(flat.contiguous().numpy(), form)
        if tensor.ndim > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", [*tensor.shape])
        writer.add_tensor(name, data, raw_dtype=form)
        weights[name] = torch.from_numpy(quants.dequantize(data, form)).view(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def rolled(engine: Denoiser) -> Tensor:
    """A shot of three chunks with a window and guidance."""
    context = randn(1, 9, CONFIG.text_dim, seed=2)[0]
    settings = RolloutSettings(
        PromptTimeline((TimedPrompt(0, context, "a"),), torch.zeros_like(context)), 4, 6,
        causal_chunks(flow_ladder(2, 3.0), 1), length=4, cache=WindowSink(2), guidance=cfg(2.0),
    )  # fmt: skip
    return torch.cat([chunk.latents for chunk in generate(settings, engine)])


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16"])
@torch.inference_mode()
def test_a_gguf_model_streams_as_its_weights_say(
    pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import folder_paths

    from longtake.nodes import host
    from longtake.nodes.models.identity import identity
    from longtake.nodes.models.model_facts import facts
    from longtake.nodes.runtime.resolved_model import denoiser

    path = tmp_path / f"wan-{kind}.gguf"
    weights = written(path, kind)
    monkeypatch.setattr(folder_paths, "get_full_path", lambda folder, name: str(path))
    [model] = pack.NODE_CLASS_MAPPINGS["UnetLoaderGGUF"]().load_unet(path.name)
    assert facts(model).family.key == "wan21-t2v" and identity(model)[1] is None
    ours, own = rolled(denoiser(model)), local_denoiser(build_dit(weights, CONFIG, path), CONFIG)
    torch.testing.assert_close(ours, rolled(own), rtol=0, atol=2e-3)

    compiler = CountingCompiler()
    quick = rolled(compiled(denoiser(model), compiler))
    assert compiler.graphs == 3 and compiler.calls
    torch.testing.assert_close(quick, ours, rtol=1e-5, atol=1e-5)

    up, down = randn(CONFIG.ffn_dim, RANK, seed=3), randn(RANK, CONFIG.dim, seed=4)
    names = {f"transformer.blocks.1.ffn.net.0.proj.lora_{x}.weight": t
             for x, t in (("B", up), ("A", down))}  # fmt: skip
    lora = open_lora(safetensors(tmp_path / "l.safetensors", names), host.layer_shapes(model))
    patched = host.with_lora(model, lora.parts, 0.5)
    merged = weights | {f"{LAYER}.weight": weights[f"{LAYER}.weight"] + 0.5 * up @ down}
    with_lora = rolled(denoiser(patched))
    assert (with_lora - ours).abs().max() > 0.05 and identity(patched) != identity(model)
    own = local_denoiser(build_dit(merged, CONFIG, path), CONFIG)
    torch.testing.assert_close(with_lora, rolled(own), rtol=0, atol=2e-2)
