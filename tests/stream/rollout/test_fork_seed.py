"""Laws of the seed that waits for a fork: the next edit takes it, with the bits of a fork."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.samplers.conditioning.prompts import TimedPrompt
from longtake.samplers.guidance import cfg
from longtake.samplers.settings import TimedSeed
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.fork import Fork
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.run import Run
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.stream.rollouts import MODEL, Words, assert_same_bits
from longtake.tests.support.tiny_model import embedding, settings, timeline

START = 6  # the latent frame of chunk 2
HOW: dict[str, Any] = {"guidance": cfg(2.0), "cache": WindowSink(5, 1), "length": 12}


def rollout(folder: Path, **changes: Any) -> Rollout:
    made = settings(**{**HOW, **changes})
    return Rollout(RolloutSpec(made, MODEL, "model", Journal(folder), prompter=Words()))


def performance(run: Run, *, seed: int = 7, prompt: str = "77") -> list[Any]:
    """All chunks of a run in which a seed and then a prompt come while chunk 1 is there."""
    chunks = []
    for chunk in run.chunks:
        chunks.append(chunk)
        if chunk.index == 1:
            run.controls.edit_queue.hold_seed(seed)
            run.controls.set_prompt(prompt)
    return chunks


def test_an_edit_with_a_seed_is_a_fork_with_prompt_and_seed(tmp_path: Path) -> None:
    run = rollout(tmp_path / "live").run
    live = performance(run)
    [edit] = run.controls.edits
    assert (edit.status, edit.seed, edit.line) == ("applied", 7, None)
    assert edit.summary == "77; seed 7" and run.controls.edit_queue.fork_seed is None
    prompt = TimedPrompt(START, embedding(77), "77", active_from=START)
    forked = Fork(START, prompt=prompt, seed=7).apply(settings(**HOW))
    workflow = Rollout(RolloutSpec(forked, MODEL, "model", Journal(tmp_path / "fork")))
    assert_same_bits(live, list(workflow.chunks))
    assert [run.state.chain.key(i) for i in range(4)] == [workflow.spec.key(i) for i in range(4)]
    plain = list(rollout(tmp_path / "plain").chunks)
    same = [torch.equal(a.latents, b.latents) for a, b in zip(live, plain, strict=True)]
    assert same == [True, True, False, False]


def test_a_seed_before_the_first_chunk_makes_chunks_of_its_own(tmp_path: Path) -> None:
    """Else the shot of the same prompt and the old seed would find them at its addresses."""
    source = settings(**HOW, prompts=timeline(0))
    run = rollout(tmp_path, prompts=source.prompts).run
    run.controls.edit_queue.hold_seed(7)
    run.controls.set_prompt("77")
    live, prompt = list(run.chunks), TimedPrompt(0, embedding(77), "77")

    def forked(seed: int | None, folder: Path = tmp_path) -> RolloutSpec:
        made = Fork(0, prompt=prompt, seed=seed).apply(source)
        return RolloutSpec(made, MODEL, "model", Journal(folder))

    assert (forked(None).stored_chunks(), forked(7).stored_chunks()) == (0, 4)
    assert_same_bits(list(Rollout(forked(7, tmp_path / "new")).chunks), live)


def test_a_performance_is_replayed_bit_for_bit_and_read_from_the_journal(tmp_path: Path) -> None:
    first = performance(rollout(tmp_path / "a").run)
    assert_same_bits(performance(rollout(tmp_path / "b").run), first)
    again = rollout(tmp_path / "a").run
    assert_same_bits(performance(again), first)
    assert again.resumed_from is None, "every chunk came from the journal"
    other = performance(rollout(tmp_path / "b").run, seed=8)
    assert not torch.equal(other[2].latents, first[2].latents), "the seed, not only the prompt"


def test_a_seed_alone_changes_nothing_until_a_fork_takes_it(tmp_path: Path) -> None:
    run = rollout(tmp_path / "live").run
    run.controls.edit_queue.hold_seed(7)
    assert_same_bits(list(run.chunks), list(rollout(tmp_path / "plain").chunks))
    assert run.controls.edits == () and run.controls.edit_queue.fork_seed == 7


def test_an_edit_that_fails_leaves_the_seed_to_the_next(tmp_path: Path) -> None:
    run = rollout(tmp_path).run
    run.controls.edit_queue.hold_seed(7)
    run.controls.set_number("lora", 2.0)  # there is no LoRA
    for chunk in run.chunks:
        if chunk.index == 0:
            run.controls.set_number("guidance", 3.0)
    failed, applied = run.controls.edits
    assert (failed.status, failed.seed) == ("failed", None)
    assert (applied.status, applied.seed, run.controls.edit_queue.fork_seed) == ("applied", 7, None)


def test_a_newer_seed_that_comes_while_a_prompt_is_encoded_waits_for_the_next_edit() -> None:
    from longtake.stream.rollout.live.controls import Controls

    controls = Controls()
    queue = controls.edit_queue
    queue.hold_seed(7)
    controls.set_prompt("a")
    edit = queue.take()
    assert edit is not None and edit.seed == 7
    queue.hold_seed(8)
    queue.apply(edit, 9, 9 / 16, None)
    assert queue.fork_seed == 8
    controls.end(stopped=False)
    queue.hold_seed(9)
    assert queue.fork_seed == 8, "too late"


@pytest.mark.parametrize("frame", [0, 3, 6])
def test_a_seed_keeps_those_before_and_after_it(frame: int) -> None:
    made = settings(length=12, seed_changes=(TimedSeed(3, 1), TimedSeed(9, 2)))
    changed = made.with_seed(TimedSeed(frame, 7))
    expected = [7 if start == frame else made.seed_at(start) for start in (0, 3, 9)]
    assert [changed.seed_at(start) for start in (0, 3, 9)] == expected
    assert changed.seed_at(frame) == 7
