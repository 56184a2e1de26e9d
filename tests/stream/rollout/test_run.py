"""Laws of a run under live controls: an edit equals its timeline line bit for bit, the rollout
never changes, and stopped, paused and rebuilt runs give the same chunks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import WindowSink
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.errors import BadInput
from longtake.samplers.conditioning.prompts import TimedPrompt
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Guidance, cfg
from longtake.samplers.loop import Chunk
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import pyramid
from longtake.samplers.settings import RolloutSettings, TimedGuidance
from longtake.stream.journal import disk_limit
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.live.edit_queue import TOO_LATE, Edit
from longtake.stream.rollout.observer import SilentObserver
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.run import Run
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model_hosts import model_with_hooks
from longtake.tests.support.stream.rollouts import Words, assert_same_bits, cut_after
from longtake.tests.support.tiny_model import (
    TINY,
    embedding,
    random_dit,
    settings,
    timeline,
)

MODEL = local_denoiser(random_dit(), TINY)
WINDOW = WindowSink(5, 1)
CFG = {"guidance": cfg(2.0), "cache": WINDOW, "length": 15}


def rollout(folder: Path, model: Any = MODEL, **changes: Any) -> Rollout:
    made = settings(**{**CFG, **changes})
    return Rollout(RolloutSpec(made, model, "model", Journal(folder), prompter=Words()))


Ask = Callable[[Run], None]


def watched(run: Run, asks: dict[int, Ask]) -> list[Chunk]:
    """Collect all chunks of a run; calls `asks[i]` after chunk i."""
    chunks = []
    for chunk in run.chunks:
        chunks.append(chunk)
        asks.get(chunk.index, lambda run: None)(run)
    return chunks


def prompt(text: str) -> Ask:
    return lambda run: run.controls.set_prompt(text)


def guide(strength: float) -> Ask:
    return lambda run: run.controls.set_number("guidance", strength)


def with_prompt(start: int, text: str, **changes: Any) -> dict[str, Any]:
    """Settings with an unforeseen prompt; for causal chunks the same as a timeline's line."""
    entry = TimedPrompt(start, embedding(int(text)), text, active_from=start)
    return {"prompts": timeline(0, 3).with_prompt(entry), **changes}


def with_guidance(start: int, then: Guidance, **changes: Any) -> dict[str, Any]:
    return {"guidance_changes": (TimedGuidance(start, then),), **changes}


@pytest.mark.parametrize(
    ("first", "asked", "same_as"),
    [
        ({}, prompt("77"), with_prompt(6, "77")),
        ({}, guide(3.0), with_guidance(6, cfg(3.0))),
        ({}, guide(1.0), with_guidance(6, cfg(1.0))),  # the negative branch goes
        ({"guidance": cfg(1.0)}, guide(2.0), with_guidance(6, cfg(2.0), guidance=cfg(1.0))),
    ],
    ids=["prompt", "strength", "off", "on"],
)
def test_an_edit_gives_the_bits_of_settings_that_contain_it(
    tmp_path: Path, first: dict[str, Any], asked: Ask, same_as: dict[str, Any]
) -> None:
    run = rollout(tmp_path / "live", **first).run
    edited = watched(run, {1: asked})
    written = rollout(tmp_path / "written", **same_as)
    assert_same_bits(edited, list(written.chunks))
    assert [run.state.chain.key(i) for i in range(5)] == [written.spec.key(i) for i in range(5)]
    [edit] = run.controls.edits
    assert (edit.status, edit.first_frame, edit.start_s) == ("applied", 21, 21 / 16)
    plain = list(rollout(tmp_path / "plain", **first).chunks)
    assert [torch.equal(a.latents, b.latents) for a, b in zip(edited, plain, strict=True)] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_the_line_of_an_edit_has_time_guidance_and_the_prompt_in_force(tmp_path: Path) -> None:
    run = rollout(tmp_path).run
    watched(run, {0: prompt("77"), 2: guide(3.0)})
    assert [edit.line for edit in run.controls.edits] == ["0.5625 None: 77", "2.0625 3.0: 77"]


def test_a_timeline_continues_after_an_edit(tmp_path: Path) -> None:
    """The prompt at latent frame 9 takes over as in the timeline with the edit's line."""
    given = {"prompts": timeline(0, 9)}
    edited = watched(rollout(tmp_path, **given).run, {0: prompt("77")})
    assert [chunk.prompt for chunk in edited] == ["prompt 0", "77", "77", "prompt 9", "prompt 9"]


def test_the_next_run_is_unedited_and_the_rollout_unchanged(tmp_path: Path) -> None:
    scopes = [object(), object()]
    made = Rollout(rollout(tmp_path).spec, scope=lambda: scopes[-1])
    before = made.settings
    plain = list(rollout(tmp_path / "plain").chunks)
    edited = watched(made.run, {0: prompt("77"), 2: guide(3.0)})
    assert_same_bits(list(made.chunks), edited)  # a later reader of the same run
    scopes.append(object())
    assert made.run.controls.edits == () and made.run.controls.state == "running"
    assert_same_bits(list(made.chunks), plain)
    assert made.settings is before and made.resumed_from == 1  # what they share was kept


def test_an_interrupted_edited_run_continues_from_the_kept_edit(tmp_path: Path) -> None:
    """ "Keep edit", then run again: the edited chunks are found in the journal."""
    source = rollout(tmp_path)
    chunks = iter(source.chunks)
    next(chunks)
    source.controls.set_prompt("77")
    cut = [next(chunks), next(chunks)]
    del chunks
    kept = rollout(tmp_path, **with_prompt(3, "77"))
    assert kept.spec.stored_chunks() == 3 and kept.spec.resume_at_s == 33 / 16
    again = list(kept.chunks)
    assert kept.resumed_from == 3
    assert_same_bits(again[1:3], cut)
    assert_same_bits(again, list(rollout(tmp_path / "new", **with_prompt(3, "77")).chunks))
    assert source.spec.stored_chunks() == 1  # the unedited one has only what came before


def test_an_edit_while_stored_chunks_are_read_branches_there(tmp_path: Path) -> None:
    list(rollout(tmp_path).chunks)
    made = rollout(tmp_path)
    assert made.spec.stored_chunks() == 5  # their addresses are known already
    run = made.run
    edited = watched(run, {1: prompt("77")})
    assert run.resumed_from == 2
    assert_same_bits(edited, list(rollout(tmp_path / "new", **with_prompt(6, "77")).chunks))


def test_switching_guidance_on_and_off_equals_a_resumed_run(tmp_path: Path) -> None:
    """The KV cache fits the branches in force, whatever came before."""
    on_and_off = {
        "guidance": cfg(1.0),
        "guidance_changes": (TimedGuidance(3, cfg(2.0)), TimedGuidance(9, cfg(1.0))),
    }
    whole = list(rollout(tmp_path / "whole", **on_and_off).chunks)
    for kept in range(1, 5):
        chunks = iter(rollout(tmp_path / str(kept), **on_and_off).chunks)
        for _ in range(kept):
            next(chunks)
        del chunks
        assert_same_bits(list(rollout(tmp_path / str(kept), **on_and_off).chunks), whole)


def test_edits_while_chunks_overlap_equal_a_resumed_run(tmp_path: Path) -> None:
    """Chunks in flight at an edit continue under it, in one run as in two."""
    overlapping = {"schedule": pyramid(flow_ladder(4, 3.0)), "length": 7}
    run = rollout(tmp_path / "live", **overlapping).run
    edited = watched(run, {1: guide(1.0), 3: prompt("77"), 4: guide(3.0)})
    assert {edit.status for edit in run.controls.edits} == {"applied"}
    changes = (TimedGuidance(2, cfg(1.0)), TimedGuidance(5, cfg(3.0)))
    written = {**overlapping, **with_prompt(4, "77"), "guidance_changes": changes}
    assert_same_bits(edited, list(rollout(tmp_path / "written", **written).chunks))
    chunks = iter(rollout(tmp_path / "cut", **written).chunks)
    for _ in range(3):
        next(chunks)
    del chunks
    assert_same_bits(edited, list(rollout(tmp_path / "cut", **written).chunks))


@pytest.mark.parametrize("prompter", [Words(), None], ids=["unknown word", "no encoder"])
def test_a_failed_edit_says_why_and_the_shot_continues(tmp_path: Path, prompter: Any) -> None:
    made = Rollout(dataclasses.replace(rollout(tmp_path).spec, prompter=prompter))
    chunks = watched(made.run, {0: prompt("what")})
    [edit] = made.controls.edits
    assert edit.status == "failed" and edit.error is not None
    assert ("came without a text encoder" if prompter is None else "no prompt") in edit.error
    assert_same_bits(chunks, list(rollout(tmp_path / "plain").chunks))


def test_a_broken_text_encoder_does_not_end_the_shot(tmp_path: Path) -> None:
    broken = dataclasses.make_dataclass("Broken", [])()  # has no `encode`
    made = Rollout(dataclasses.replace(rollout(tmp_path).spec, prompter=broken))
    assert len(watched(made.run, {0: prompt("77")})) == 5
    assert "AttributeError" in (made.controls.edits[0].error or "")


def test_edits_that_come_too_late_fail_with_a_reason(tmp_path: Path) -> None:
    run = rollout(tmp_path).run
    watched(run, {3: lambda run: None, 4: prompt("77")})
    assert run.controls.state == "done"
    assert [edit.status for edit in run.controls.edits] == ["failed"]
    other = rollout(tmp_path / "stopped").run
    watched(other, {2: lambda run: (prompt("77")(run), run.controls.stop())[1]})
    assert other.controls.edits == (Edit("failed", "77", error=TOO_LATE),)


def test_a_stop_keeps_finished_chunks_and_the_next_run_continues(tmp_path: Path) -> None:
    scopes = [object()]
    made = Rollout(rollout(tmp_path).spec, scope=lambda: scopes[-1])
    stopped = watched(made.run, {2: lambda run: run.controls.stop()})
    assert len(stopped) == 3 and made.controls.state == "stopped"
    assert len(list(made.chunks)) == 3  # for later readers of the same run too
    scopes.append(object())
    assert made.spec.resume_at_s == 33 / 16
    whole = list(made.chunks)
    assert made.resumed_from == 3 and made.controls.state == "done"
    assert_same_bits(whole, list(rollout(tmp_path / "plain").chunks))


def test_a_stop_before_the_first_chunk_still_gives_one(tmp_path: Path) -> None:
    run = rollout(tmp_path).run
    run.controls.stop()
    assert [chunk.index for chunk in run.chunks] == [0]


def test_a_pause_checks_the_host_and_a_long_one_frees_memory(tmp_path: Path) -> None:
    asked: list[str] = []

    def look() -> None:
        if run.controls.state == "paused":
            asked.append("look")
            if asked.count("look") == 2:
                run.controls.resume()

    watching = model_with_hooks(MODEL, on_check=look, on_offload=partial(asked.append, "release"))
    run = rollout(tmp_path, watching).run
    run.controls.long_pause_s = 0.0
    chunks = watched(run, {1: lambda run: run.controls.pause()})
    assert asked == ["look", "release", "look"]
    assert_same_bits(chunks, list(rollout(tmp_path / "plain").chunks))


def test_a_cancel_during_a_pause_ends_the_run_and_the_next_one_continues(tmp_path: Path) -> None:
    class Cancelled(BaseException):
        """A host's interrupt."""

    def cancel() -> None:
        if made.controls.state == "paused":
            raise Cancelled

    made = rollout(tmp_path, model_with_hooks(MODEL, on_check=cancel))
    with pytest.raises(Cancelled):
        watched(made.run, {1: lambda run: run.controls.pause()})
    assert made.controls.state == "stopped" and made.spec.stored_chunks() == 2


def test_a_dropped_kv_cache_is_rebuilt_with_the_same_bits(tmp_path: Path) -> None:
    caches: list[KVCache] = []
    model = model_with_hooks(MODEL, on_register=caches.append)
    run = rollout(tmp_path, model).run
    chunks = watched(run, {1: lambda run: caches[-1].drop(), 3: lambda run: caches[-1].drop()})
    assert len(caches) == 3 and caches[0].bytes == 0
    assert_same_bits(chunks, list(rollout(tmp_path / "plain").chunks))


def test_a_shot_without_an_end_stops_at_the_disk_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk_bytes = 3 * 4 * 4 * 6 * 4
    monkeypatch.setattr(disk_limit, "DISK_CAP_BYTES", 20 * chunk_bytes)
    run = rollout(tmp_path, length=None).run
    run.disk.files.append(lambda: run.disk.journal_bytes)  # a video of the same size
    said: list[str | None] = []
    run.controls.listen(lambda: said.append(run.controls.message))
    assert len(list(run.chunks)) == 10 and run.controls.state == "stopped"
    near, full = [text for text in dict.fromkeys(said) if text]
    assert "will stop at" in near and full.startswith("Stopped: the shot has filled")
    assert len(list(rollout(tmp_path, length=36).chunks)) == 12  # a length lifts the cap


def test_a_plan_makes_no_chunks(tmp_path: Path) -> None:
    made = Rollout(RolloutSpec(settings(), MODEL, "model", Journal(tmp_path), plan_only=True))
    assert list(made.chunks) == [] and not any(tmp_path.iterdir())
    assert made.controls.state == "done" and made.frames == 25


def test_guidance_times_must_increase() -> None:
    changes = (TimedGuidance(3, cfg(2.0)), TimedGuidance(3, cfg(3.0)))
    with pytest.raises(BadInput, match="guidance times must increase"):
        settings(guidance_changes=changes)


def test_settings_at_a_frame_have_its_guidance() -> None:
    made: RolloutSettings = settings(guidance=cfg(2.0)).with_guidance(TimedGuidance(3, cfg(4.0)))
    made = made.with_guidance(TimedGuidance(3, cfg(3.0)))
    assert [made.at(frame).guidance for frame in (0, 2, 3, 6)] == [cfg(2.0)] * 2 + [cfg(3.0)] * 2


def test_sparse_statistics_cover_the_whole_run_across_producers(
    tmp_path: Path,
) -> None:
    """The edit starts another producer; the sums equal those of both parts."""
    sparsity = Sparsity(SparseSelf(0.3, min_keys=0, dense_layers=()))
    begun = {"guidance": cfg(1.0), "sparsity": sparsity}
    made, seen = rollout(tmp_path / "live", **begun).run, []
    for chunk in made.chunks:
        seen.append(made.sparse)
        if chunk.index == 1:
            made.controls.set_number("guidance", 2.0)
    whole = rollout(tmp_path / "cut", **begun, **with_guidance(6, cfg(2.0)))
    chunks = iter(whole.chunks)
    for _ in range(2):
        next(chunks)
    del chunks
    rest = rollout(tmp_path / "cut", **begun, **with_guidance(6, cfg(2.0))).run
    assert len(list(rest.chunks)) == len(seen)
    parts = dataclasses.astuple(seen[1]), dataclasses.astuple(rest.sparse)
    assert dataclasses.astuple(seen[-1]) == pytest.approx(
        [a + b for a, b in zip(*parts, strict=True)]
    )
    assert all(a.dense_pairs < b.dense_pairs for a, b in itertools.pairwise(seen))


class Noted(SilentObserver):
    """An observer that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def on_edit(self) -> None:
        self.calls.append(("edit",))

    def on_encode(self, text: str) -> None:
        self.calls.append(("encode", text))

    def on_encoded(self) -> None:
        self.calls.append(("encoded",))

    def on_open(self, first: int, start_s: float) -> None:
        self.calls.append(("open", first, start_s))

    def on_chunk(self, chunk: Chunk) -> None:
        self.calls.append(("chunk", chunk.index))

    def on_close(self, lines: Sequence[str], others: Sequence[str]) -> None:
        self.calls.append(("close", *lines, *others))

    def on_delivered(self, chunk: Chunk, drift: float | None) -> str | None:
        self.calls.append(("delivered", chunk.index, drift))
        return "That was the first." if chunk.index == 0 else None

    def notify(self, sentence: str) -> None:
        self.calls.append(("notify", sentence))


def test_an_observer_sees_the_run_in_order(tmp_path: Path) -> None:
    spec = rollout(tmp_path, length=6).spec
    first, second = Noted(), Noted()
    run = Run(spec, first)
    watched(run, {0: prompt("77")})
    assert first.calls == [
        ("open", 0, 0.0), ("chunk", 0), ("delivered", 0, None), ("notify", "That was the first."),
        ("encode", "77"), ("encoded",), ("edit",), ("chunk", 1), ("delivered", 1, None),
        ("close", "0.5625 None: 77"),
    ]  # fmt: skip
    assert run.controls.message == "That was the first."
    list(Run(spec, second).chunks)
    assert second.calls[0] == ("delivered", 0, None)  # stored chunks are delivered, not made
    assert ("open", 1, 9 / 16) in second.calls and second.calls[-1] == ("close",)


def test_a_second_run_of_an_unfinished_shot_ends_before_its_first_chunk(tmp_path: Path) -> None:
    cut_after(rollout(tmp_path), 2)
    second = rollout(tmp_path)
    with second.spec.journal.lock(second.id):
        with pytest.raises(BadInput, match="is already running in process"):
            next(iter(second.chunks))
        assert second.controls.state == "stopped"
    assert len(list(rollout(tmp_path).chunks)) == 5
    with second.spec.journal.lock(second.id):  # a finished shot needs no production
        assert len(list(rollout(tmp_path).chunks)) == 5
