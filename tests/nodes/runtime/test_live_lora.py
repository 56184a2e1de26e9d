"""A LoRA's strength changed while the shot is made: from the next chunk on, with a history made
anew by the changed weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.samplers.loop import Chunk, generate
from longtake.stream.rollout.live.controls import Controls
from longtake.tests.support.model.lora_files import safetensors
from longtake.tests.support.node_bench import CONFIG, Bench
from longtake.tests.support.nodes.steps import ask_at, forget_chunks, pictures
from longtake.tests.support.tiny_model import randn


@pytest.fixture
def shot(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a shot of three chunks with a LoRA of that strength on the demo model."""
    layer, rank = "diffusion_model.blocks.0.ffn.0", 2
    lora = {f"{layer}.lora_up.weight": randn(CONFIG.ffn_dim, rank, seed=1),
            f"{layer}.lora_down.weight": randn(rank, CONFIG.dim, seed=2)}  # fmt: skip
    safetensors(tmp_path / "models" / "loras" / "l.safetensors", lora)
    monkeypatch.chdir(tmp_path)

    def make(strength: float, *, with_lora: bool = True, text: str = "0: a red ball") -> Any:
        model, clip, vae = bench.run("LongtakeLoadDemoModel")
        if with_lora:
            [model] = bench.run(
                "LongtakeLoadLora", model=model, lora_name="l.safetensors", strength=strength
            )
        [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text=text)
        [schedule] = bench.run("LongtakeSchedule", steps=1)
        size = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
        [rollout] = bench.run(
            "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, **size
        )
        return bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)[0]

    return make


def latents(frames: Any) -> Tensor:
    return torch.cat([chunk.latents for chunk in frames.rollout.chunks.read_from(0)])


def test_the_next_chunk_and_its_whole_history_are_made_with_the_changed_weights(
    bench: Bench, shot: Any
) -> None:
    frames = shot(0.8)
    ask_at(bench, 0, lambda: frames.controls.set_number("lora", 0.25))
    pictures(bench, frames)
    made = latents(frames)
    [edit] = frames.controls.edits
    assert (edit.status, edit.lora) == ("applied", 0.25)
    assert frames.report([]).edits == [edit.line] == ["0.5625 (lora 0.25): a red ball"]
    bench.state.start_prompt()
    plain = latents(shot(0.8))
    assert torch.equal(made[:3], plain[:3]) and not torch.allclose(made[3:], plain[3:])
    halved = shot(0.2).rollout
    first = Chunk(0, 0, made[:3])
    rest = [chunk.latents for chunk in generate(halved.settings, halved.model, [first])]
    torch.testing.assert_close(made[3:], torch.cat(rest))


def test_the_next_run_is_the_workflows_own_again(bench: Bench, shot: Any) -> None:
    frames = shot(0.8)
    ask_at(bench, 0, lambda: frames.controls.set_number("lora", 0.0))
    edited = pictures(bench, frames)
    bench.state.start_prompt()
    again = pictures(bench, frames)
    assert not torch.equal(again, edited)
    bench.state.start_prompt()
    assert torch.equal(again, pictures(bench, shot(0.8)))


def test_a_line_of_the_timeline_makes_the_same_shot_as_the_edit(bench: Bench, shot: Any) -> None:
    frames = shot(0.8)
    ask_at(bench, 0, lambda: frames.controls.set_number("lora", 0.25))
    pictures(bench, frames)
    made, [edit] = latents(frames), frames.controls.edits
    key = frames.rollout.run.state.chain.key(2)
    bench.state.start_prompt()
    written = shot(0.8, text=f"0: a red ball\n{edit.line}")
    assert written.rollout.spec.key(2) == key
    assert torch.equal(latents(written), made)
    forget_chunks(bench)
    bench.state.start_prompt()
    assert torch.equal(latents(shot(0.8, text=f"0: a red ball\n{edit.line}")), made)


def test_a_later_line_holds_after_an_edit_before_it(bench: Bench, shot: Any) -> None:
    text = "0: a red ball\n1.3125 (lora 0): a red ball"
    frames = shot(0.8, text=text)
    ask_at(bench, 0, lambda: frames.controls.set_number("lora", 0.25))
    pictures(bench, frames)
    changes = frames.rollout.run.state.settings.lora_changes
    assert [(change.start_frame, change.factor) for change in changes] == [(3, 0.25), (6, 0.0)]
    made, bare = latents(frames), shot(0.8, with_lora=False).rollout
    finished = [Chunk(0, 0, made[:3]), Chunk(1, 3, made[3:6])]
    rest = [chunk.latents for chunk in generate(bare.settings, bare.model, finished)]
    torch.testing.assert_close(made[6:], torch.cat(rest))


def test_a_line_without_a_lora_is_refused_before_anything_is_made(bench: Bench, shot: Any) -> None:
    with pytest.raises(BadInput, match=r"has \(lora\), and the model has no LoRA"):
        shot(0.8, with_lora=False, text="0: a red ball\n1 (lora 0.5): a red ball")


def test_strength_0_is_the_model_without_it(bench: Bench, shot: Any) -> None:
    frames = shot(0.8)
    ask_at(bench, 0, lambda: frames.controls.set_number("lora", 0.0))
    pictures(bench, frames)
    made = latents(frames)
    bare = shot(0.8, with_lora=False).rollout
    first = Chunk(0, 0, made[:3])
    rest = [chunk.latents for chunk in generate(bare.settings, bare.model, [first])]
    torch.testing.assert_close(made[3:], torch.cat(rest))


def test_without_a_lora_the_edit_fails_in_one_sentence(bench: Bench, shot: Any) -> None:
    frames = shot(0.8, with_lora=False)
    ask_at(bench, 0, lambda: frames.controls.set_number("lora", 0.5))
    pictures(bench, frames)
    [edit] = frames.controls.edits
    assert edit.status == "failed" and "has no LoRA" in str(edit.error)


def test_the_terminal_says_once_why_edits_without_a_lora_fail(
    bench: Bench, shot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Edits that came by OSC are in no player that somebody looks at."""
    frames = shot(0.8, with_lora=False)
    for chunk in frames.rollout.run.chunks:
        frames.controls.set_number("lora", 0.5 + chunk.index)
    assert [edit.status for edit in frames.controls.edits][:2] == ["failed", "failed"]
    assert sum("has no LoRA" in record.message for record in caplog.records) == 1


def test_without_a_lora_an_edit_with_a_factor_fails_as_a_whole(bench: Bench, shot: Any) -> None:
    plain = pictures(bench, shot(0.8, with_lora=False))
    forget_chunks(bench)
    frames = shot(0.8, with_lora=False)
    change = {"guidance": 3.0, "lora": 0.5}
    ask_at(bench, 0, lambda: frames.controls.change("a blue ball", change))
    assert torch.equal(pictures(bench, frames), plain)
    [edit] = frames.controls.edits
    assert (edit.status, edit.text, edit.guidance) == ("failed", "a blue ball", 3.0)


@pytest.mark.parametrize("factor", [float("nan"), 20.5, -21])
def test_impossible_factors_are_refused(factor: float) -> None:
    with pytest.raises(BadInput, match="give a number from -20 to 20"):
        Controls().set_number("lora", factor)


def test_a_shot_made_of_an_edited_one_begins_with_the_loras_as_they_are_wired(
    bench: Bench, shot: Any
) -> None:
    """A factor of a run is the run's: no rollout that is made of it starts from its weights."""
    frames = shot(0.8)
    source = frames.rollout
    ask_at(bench, 0, lambda: frames.controls.set_number("lora", 0.0))
    pictures(bench, frames)
    [forked] = bench.run("LongtakeEditRollout", action="fork", rollout=source, at=0.6, new_seed=5)
    assert source.claim.model is not source.claim.connected_model
    assert forked.claim.connected_model is forked.claim.model is source.claim.connected_model
    made = torch.cat([chunk.latents for chunk in forked.chunks])
    bench.state.start_prompt()
    for path in forked.spec.journal.folder.iterdir():
        path.unlink()
    plain = shot(0.8).rollout
    [expected] = bench.run("LongtakeEditRollout", action="fork", rollout=plain, at=0.6, new_seed=5)
    assert expected.spec.key(2) == forked.spec.key(2)
    assert torch.equal(made, torch.cat([chunk.latents for chunk in expected.chunks]))
