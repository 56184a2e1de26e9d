"""VACE's module beside our forward equals the core's own VACE model, over one whole clip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.dit import PassOptions, TextKV, predict, project_layers, project_text
from longtake.model.vace.file import open_module
from longtake.model.vace.hints import ControlPass, Hints
from longtake.model.vace.module import VaceModule, control_channels
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.tiny_model import randomise

FRAMES, ROWS, COLUMNS, STRENGTHS = 5, 8, 12, (1.0, 0.6)
TIMESTEP = 700.0
CONFIG = replace(SMALL, num_layers=4, control_blocks=2)


def core_model() -> Any:
    """The core's VACE model, all weights random, in float32."""
    import comfy.ops
    from comfy.ldm.wan.model import VaceWanModel

    model = VaceWanModel(
        dim=CONFIG.dim, ffn_dim=CONFIG.ffn_dim, text_dim=CONFIG.text_dim, in_dim=16, out_dim=16,
        num_heads=CONFIG.num_heads, num_layers=CONFIG.num_layers,
        vace_layers=CONFIG.control_blocks, vace_in_dim=control_channels(16),
        device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    randomise(model, 3)
    return model.eval()


def our_module(model: Any) -> VaceModule:
    """Our module with the weights of the core's."""
    module = VaceModule(CONFIG)
    state = {n: w for n, w in model.state_dict().items() if n.startswith("vace_")}
    module.load_state_dict(state, strict=True)
    return module


def ours(model: Any, x: Tensor, text: Tensor, control: Tensor, strengths: Sequence[float]) -> Any:
    """Our forward over the core's tree, with hints of our module."""
    module, positions = our_module(model), range(FRAMES)
    embedded = model.text_embedding(text)
    of_module = TextKV(project_layers(module.vace_blocks, embedded[:, None], CONFIG.num_heads))
    tokens = module.first_block.before_proj(module.embed(control, torch.float32))
    given = ControlPass(tokens, torch.tensor(strengths), positions, of_module, ROWS, COLUMNS)
    hooks = Hints(model, module, given, lambda parameter: parameter).hooks
    attention = WholeSequence(rotation(positions, ROWS // 2, COLUMNS // 2, CONFIG.head_dim))
    times = torch.full((len(x), FRAMES), TIMESTEP)
    return predict(
        model, x, times, project_text(model, text[:, None]), attention, PassOptions(hooks=hooks)
    ).velocity


@torch.inference_mode()
@pytest.mark.parametrize("strength", [*STRENGTHS, 0.0])
def test_one_pass_over_a_whole_clip_equals_the_cores_vace_model(core: Any, strength: float) -> None:
    model, seeded = core_model(), torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=seeded)

    x, text = randn(2, FRAMES, 16, ROWS, COLUMNS), randn(2, 9, CONFIG.text_dim)
    control = randn(FRAMES, control_channels(16), ROWS, COLUMNS)
    context = control.transpose(0, 1)[None, None].expand(2, -1, -1, -1, -1, -1)
    theirs = model(
        x.transpose(1, 2), torch.full((2,), TIMESTEP), text,
        vace_context=context, vace_strength=[strength],
    ).transpose(1, 2)  # fmt: skip
    made = ours(model, x, text, control, [strength] * FRAMES)
    torch.testing.assert_close(made, theirs, atol=1e-4, rtol=0)
    without = model(
        x.transpose(1, 2), torch.full((2,), TIMESTEP), text,
        vace_context=context, vace_strength=[0.0],
    ).transpose(1, 2)  # fmt: skip
    assert torch.allclose(made, without, atol=1e-3) == (strength == 0.0)


@torch.inference_mode()
def test_the_hosts_model_carries_a_module_in_its_own_care(core: Any, tmp_path: Path) -> None:
    """A file beside a MODEL of the core: claimed with it, in its dtype, the same sums."""
    from longtake.nodes import host
    from longtake.nodes.models.vace import model_sizes, vace_of, with_vace

    weights = state(CONFIG)
    header = {"config": json.dumps({"transformer": {"text_dim": CONFIG.text_dim}})}
    model = host.build_diffusion_model(lambda: weights, header, torch.float32)
    module = our_module(core_model())
    path = tmp_path / "vace.safetensors"
    save_file(dict(module.state_dict()), path)
    loaded, sizes = open_module(path, model_sizes(model))
    assert sizes.control_blocks == CONFIG.control_blocks
    dtype = host.compute_place(model)[1]
    carried = with_vace(model, loaded.computing_in(dtype), sizes.control_blocks, "digest")
    attachment = vace_of(carried)
    assert attachment is not None and vace_of(model) is None
    assert vace_of(carried.clone()) is not None
    host.claim([carried, attachment.patcher], 0)
    for name, parameter in attachment.module.named_parameters():
        kept = torch.float32 if name.startswith("vace_patch") else dtype
        assert parameter.dtype == kept and parameter.device == carried.load_device
        torch.testing.assert_close(parameter, module.get_parameter(name).to(kept))
