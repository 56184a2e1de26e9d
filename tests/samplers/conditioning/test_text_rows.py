"""Projected prompts are large: 0.4 GB each for a 14B model. Passes share them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from longtake.model.dit import TextKV
from longtake.samplers.conditioning.text_rows import TextRows
from longtake.samplers.guidance import Branch, Guidance, OwnPrompt
from longtake.samplers.guidance.presets import cfg, temporal
from longtake.samplers.guidance.views import last
from longtake.samplers.loop import generate
from longtake.tests.support.samplers.guided_rollouts import MODEL
from longtake.tests.support.tiny_model import embedding, randn, settings


def rows() -> TextRows:
    """Two prompts, each of two texts, in two layers."""
    return TextRows(TextKV(tuple((randn(2, 2, 5, 2, 4), randn(2, 2, 5, 2, 4)) for _ in range(2))))


@pytest.mark.parametrize("prompts", [(0, 1), (1,), (0, 0, 1)])
def test_rows_are_the_same_memory_whatever_frames_the_texts_serve(prompts: tuple[int, ...]) -> None:
    text = rows()
    before, after = (text.select(prompts, texts) for texts in ((0, 0, 1), (0, 1, 1, 1)))
    assert before.runs == ((0, 2), (1, 1)) and after.runs == ((0, 1), (1, 3))
    for layer in range(2):
        for ours, theirs in zip(before.layers[layer], after.layers[layer], strict=True):
            assert ours.data_ptr() == theirs.data_ptr() and len(ours) == len(prompts)


def test_all_rows_in_their_order_are_not_copied() -> None:
    text = rows()
    assert text.select((0, 1), (0, 0)).layers is text.text.layers


OF_THREE = Guidance((
    Branch(2.0, "positive"), Branch(-0.5, OwnPrompt(embedding(1))), Branch(-0.5, "negative"),
))  # fmt: skip


@pytest.mark.parametrize("guidance", [cfg(2.5), OF_THREE, temporal(0.5, last(2), scale=1.5)])
def test_no_step_and_no_commit_puts_prompts_in_another_order(
    guidance: Guidance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of a part of the prompts is there for good, and not in the plan."""
    select = TextKV.rows

    def watch(text: TextKV, rows: Sequence[int]) -> TextKV:
        assert [*rows] == sorted(rows)
        return select(text, rows)

    monkeypatch.setattr(TextKV, "rows", watch)
    assert len([*generate(settings(guidance=guidance), MODEL)]) == 3
