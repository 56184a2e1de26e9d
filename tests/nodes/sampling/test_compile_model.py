"""Compile Model (Stream) under the stand-in: what it attaches, what the sampler's node shows."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest
import torch

from longtake.model.arithmetic.compiled import CompiledFunction, GraphCompiler, inductor
from longtake.samplers.loop import Chunk, generate
from longtake.tests.support.model.compilers import CountingCompiler, FailingCompiler
from longtake.tests.support.node_bench import Bench

SHOT = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}


def compiles_with(monkeypatch: pytest.MonkeyPatch, compiler: GraphCompiler) -> None:
    """Put another compiler in the place of torch's own."""
    from longtake.nodes.sampling import compile_model  # needs the host's modules

    monkeypatch.setattr(compile_model, "inductor", compiler)


def compiled_model(bench: Bench) -> Any:
    model, _, _ = bench.run("LongtakeLoadDemoModel")
    return bench.run("LongtakeCompileModel", model=model)[0]


def shot(bench: Bench, model: Any) -> Any:
    """A rollout of two prompts with guidance."""
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    text = "0: a red ball\n1: a blue ball"
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text=text)
    [schedule] = bench.run("LongtakeSchedule", steps=2, first_steps=0)
    return bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, cfg=2.0, **SHOT
    )[0]


def report_of(bench: Bench, rollout: Any) -> str | None:
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    return frames.report([]).versions.get("compiled")


def latents(chunks: Iterable[Chunk]) -> torch.Tensor:
    return torch.cat([chunk.latents for chunk in chunks])


def test_the_shot_is_compiled_and_equal_to_a_plain_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    compiler = CountingCompiler()
    compiles_with(monkeypatch, compiler)
    rollout = shot(bench, compiled_model(bench))
    assert report_of(bench, rollout) is None, "it is not known before the run"
    ours = latents(rollout.chunks.read_from(0))
    assert compiler.graphs == 3
    assert str(report_of(bench, rollout)).startswith("yes: 3 graphs in ")
    assert caplog.text.count("Compiling the model") == 1
    assert not isinstance(rollout.model.arithmetic.gate, CompiledFunction)
    plain = latents(generate(rollout.settings, rollout.model))
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def test_the_address_of_a_shot_is_that_of_the_plain_model(bench: Bench) -> None:
    plain, _, _ = bench.run("LongtakeLoadDemoModel")
    assert shot(bench, compiled_model(bench)).id == shot(bench, plain).id
    assert shot(bench, plain).model.compiler is None
    assert shot(bench, compiled_model(bench)).model.compiler is inductor


def test_a_failure_is_a_sentence_at_the_node_and_in_the_report(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiles_with(monkeypatch, FailingCompiler(OSError("cc1plus is missing")))
    rollout = shot(bench, compiled_model(bench))
    assert len([*rollout.chunks.read_from(0)]) == 3
    assert report_of(bench, rollout) == "no: cc1plus is missing"
    assert caplog.messages.count("The model runs uncompiled: cc1plus is missing.") == 1


def test_what_this_machine_lacks_is_shown_before_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.nodes.sampling import compile_model  # needs the host's modules

    monkeypatch.setattr(compile_model, "compiler_reason", lambda device: "no C++ compiler")
    compiled_model(bench)
    assert "The model runs uncompiled: no C++ compiler." in caplog.messages


@pytest.mark.parametrize("before", [True, False], ids=["before the pair", "after the pair"])
def test_a_pair_is_compiled_wherever_the_node_stands(bench: Bench, before: bool) -> None:
    first, _, _ = bench.run("LongtakeLoadDemoModel")
    second = compiled_model(bench) if before else bench.run("LongtakeLoadDemoModel")[0]
    [pair] = bench.run("LongtakeModelPair", model=first, second_model=second)
    if not before:
        [pair] = bench.run("LongtakeCompileModel", model=pair)
    assert shot(bench, pair).model.compiler is inductor


def test_a_derived_rollout_is_compiled_too(bench: Bench) -> None:
    source = shot(bench, compiled_model(bench))
    [fork] = bench.run("LongtakeEditRollout", action="fork", rollout=source, at=0.6)
    assert fork.model.compiler is inductor
