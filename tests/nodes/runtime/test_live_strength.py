"""Strength of a control video and level of a known video, changed while the shot is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at, forget_chunks
from longtake.tests.support.nodes.vace_files import controlled_shot, pictures, vace_bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a VACE module for it."""
    with vace_bench(tmp_path, monkeypatch) as made:
        yield made


def decoded(bench: Bench, rollout: Any) -> Any:
    """FRAMES of a rollout."""
    return bench.run(
        "LongtakeVAEDecode", rollout=rollout, vae=bench.run("LongtakeLoadDemoModel")[2]
    )[0]


def latents(rollout: Any) -> torch.Tensor:
    return torch.cat([chunk.latents for chunk in rollout.chunks.read_from(0)])


def test_a_strength_in_mid_shot_is_the_nodes_own_line_at_that_time(bench: Bench) -> None:
    shown = pictures(33)
    frames = decoded(bench, controlled_shot(bench, control_frames=shown, strength="0: 1"))
    ask_at(bench, 0, lambda: frames.controls.set_number("strength", 0.3))
    bench.collect(frames)
    [edit] = frames.controls.edits
    assert edit.status == "applied" and frames.report([]).edits == ["control strength 0.3"]
    live, addresses = latents(frames.rollout), frames.rollout.run.state.chain
    bench.state.start_prompt()
    forget_chunks(bench)
    strength = f"0: 1\n{edit.start_s}: 0.3"
    typed = controlled_shot(bench, control_frames=shown, strength=strength)
    assert torch.equal(latents(typed), live)
    count = typed.chunk_count
    assert count == 3 and [typed.spec.key(i) for i in range(count)] == [
        addresses.key(i) for i in range(count)
    ]
    plain = latents(controlled_shot(bench, control_frames=shown, strength="0: 1"))
    assert torch.equal(plain[:3], live[:3]) and not torch.equal(plain[3:], live[3:])


def test_the_next_run_has_the_workflows_own_level(bench: Bench) -> None:
    [vae] = bench.run("LongtakeLoadDemoModel")[2:]
    [known] = bench.run(
        "LongtakeKnownVideo", frames=pictures(33), vae=vae, start=0.0, start_unit="seconds",
        level=0.7,
    )  # fmt: skip
    rollout = bench.rollout(text="0: a red ball", known_frames=known)[0]
    frames = decoded(bench, rollout)
    ask_at(bench, 0, lambda: frames.controls.set_number("level", 0.2))
    edited = bench.collect(frames)
    assert frames.report([]).edits == ["level 0.2"]
    bench.state.start_prompt()
    assert not torch.equal(bench.collect(frames), edited)
