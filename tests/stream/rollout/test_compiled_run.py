"""A run of a compiled model: one warm-up before the first chunk, then edits, forks and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from longtake.attention.cache.policy import WindowSink
from longtake.model.arithmetic.compiled import GraphCompiler
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import Chunk
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.observer import SilentObserver
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.run import Run
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model.compilers import CountingCompiler, FailingCompiler
from longtake.tests.support.stream.rollouts import (
    MODEL,
    Words,
    assert_same_bits,
    cut_after,
    edit_fork,
)
from longtake.tests.support.tiny_model import settings


class Page(SilentObserver):
    """Notes the warm-up among the chunks, and what users are told."""

    def __init__(self) -> None:
        self.notes: list[object] = []

    def on_compile(self) -> None:
        self.notes.append("compile")

    def on_compiled(self) -> None:
        self.notes.append("compiled")

    def on_chunk(self, chunk: Chunk) -> None:
        self.notes.append(chunk.index)

    def notify(self, sentence: str) -> None:
        self.notes.append(sentence)


def spec(folder: Path, compiler: GraphCompiler | None) -> RolloutSpec:
    shot = settings(length=12, cache=WindowSink(5, 1), guidance=cfg(2.0))
    model = replace(MODEL, compiler=compiler)
    return RolloutSpec(shot, model, "model", Journal(folder), prompter=Words())


def chunks(made: RolloutSpec, page: Page, edit_after: int | None = None) -> list[Chunk]:
    """All chunks of a run; another prompt and guidance come in after chunk `edit_after`."""
    run, seen = Run(made, page), []
    for chunk in run.chunks:
        seen.append(chunk)
        if chunk.index == edit_after:
            run.controls.set_prompt("77")
            run.controls.set_number("guidance", 3.0)
    return seen


def test_the_warm_up_comes_before_the_first_chunk_and_once(tmp_path: Path) -> None:
    compiler, page = CountingCompiler(), Page()
    ours = chunks(spec(tmp_path / "ours", compiler), page, edit_after=1)
    assert page.notes == ["compile", "compiled", 0, 1, 2, 3]
    assert compiler.graphs == 3
    assert_same_bits(ours, chunks(spec(tmp_path / "plain", None), Page(), edit_after=1))


def test_stored_chunks_are_read_without_a_warm_up(tmp_path: Path) -> None:
    compiler = CountingCompiler()
    expected = chunks(spec(tmp_path, None), Page())
    page = Page()
    assert_same_bits(chunks(spec(tmp_path, compiler), page), expected)
    assert page.notes == [] and compiler.graphs == 0


def test_resumed_and_forked_runs_take_the_graphs_of_the_first(tmp_path: Path) -> None:
    compiler = CountingCompiler()
    made = spec(tmp_path / "cut", compiler)
    cut_after(Rollout(made), 2)
    resumed = chunks(made, Page())
    assert_same_bits(resumed, chunks(spec(tmp_path / "whole", compiler), Page()))
    forked = replace(made, settings=edit_fork(6).apply(made.settings))
    ours = chunks(forked, Page())
    plain = replace(forked, model=MODEL, journal=Journal(tmp_path / "plain"))
    assert_same_bits(ours, chunks(plain, Page()))
    assert compiler.graphs == 3


def test_the_journal_says_which_chunks_compiled_code_made(tmp_path: Path) -> None:
    made = spec(tmp_path, None)
    cut_after(Rollout(made), 2)
    chunks(spec(tmp_path, CountingCompiler()), Page())
    facts = [made.journal.read_meta(made.key(index)) or {} for index in range(4)]
    assert [meta.get("compiled") for meta in facts] == [None, None, "yes", "yes"]


def test_a_compiler_that_fails_is_told_once_and_the_shot_is_whole(tmp_path: Path) -> None:
    page, compiler = Page(), FailingCompiler(OSError("cc1plus is missing"))
    ours = chunks(spec(tmp_path / "ours", compiler), page, edit_after=1)
    sentence = "The model runs uncompiled: cc1plus is missing."
    assert page.notes == ["compile", "compiled", sentence, 0, 1, 2, 3]
    assert_same_bits(ours, chunks(spec(tmp_path / "plain", None), Page(), edit_after=1))
