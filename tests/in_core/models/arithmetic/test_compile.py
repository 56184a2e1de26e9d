"""Compile Model (Stream) in the real core: any weights that it holds, in three graphs, equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.model.arithmetic.compiled import inductor
from longtake.samplers.compilation import is_compiled
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.tests.in_core.support.small_wan import TIMELINE, plain, with_lora
from longtake.tests.support.model.compilers import CountingCompiler, compiled
from longtake.tests.support.model.family_files import SMALL
from longtake.tests.support.tiny_model import settings

SHOT = replace(
    settings(length=9, cache=WindowSink(5, 1), guidance=cfg(2.0)), prompts=TIMELINE, rows=8,
    columns=12,
)  # fmt: skip


KINDS: dict[str, Callable[[Path], Any]] = {
    "float32": plain,
    "fp8, cast on use": lambda folder: plain(folder, torch.float8_e4m3fn),
    "bfloat16": lambda folder: plain(folder, torch.bfloat16),
    "LoRA": with_lora,
}


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_compiled_shot_equals_a_plain_one_whatever_the_weights(
    core: Any, tmp_path: Path, kind: str
) -> None:
    from longtake.nodes.runtime.resolved_model import denoiser

    model, compiler = denoiser(KINDS[kind](tmp_path)), CountingCompiler()
    ours = compiled(model, compiler)
    made, expected = (
        torch.cat([chunk.latents for chunk in generate(SHOT, each)]) for each in (ours, model)
    )
    assert is_compiled(ours) and compiler.graphs == 3
    assert compiler.calls > 4 * SMALL.num_layers * 6
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_lora_of_these_shots_acts(core: Any, tmp_path: Path) -> None:
    from longtake.nodes.runtime.resolved_model import denoiser

    first, other = (
        next(generate(SHOT, denoiser(make(tmp_path)))).latents for make in (plain, with_lora)
    )
    assert (first - other).abs().max() > 1e-2


def test_the_node_gives_the_model_its_compiler_and_keeps_it_in_clones(
    core: Any, tmp_path: Path
) -> None:
    from longtake.nodes.runtime.compiler import compiler_of
    from longtake.nodes.runtime.resolved_model import ResolvedModel
    from longtake.nodes.sampling.compile_model import CompileModel

    model = plain(tmp_path)
    prepared = type("Prepared", (CompileModel,), {"hidden": SimpleNamespace(unique_id=None)})
    [carrier] = prepared.execute(model).args
    assert compiler_of(model) is None
    assert compiler_of(carrier.clone()) is compiler_of(carrier) is inductor
    ours, theirs = (ResolvedModel.of(each) for each in (carrier, model))
    assert ours.identity == theirs.identity and ours.engine.compiler is inductor
    assert not ours.ignored_patches


def test_the_cores_own_compiler_is_named_as_without_effect(core: Any, tmp_path: Path) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    from longtake.nodes.models.patches import ignored_patches

    model = plain(tmp_path).clone()
    set_torch_compile_wrapper(model, "inductor")
    assert any("torch.compile" in name for name in ignored_patches(model))
