"""What an evaluator keeps of its weights goes when others may have taken their place."""

from __future__ import annotations

import gc
import weakref
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.config import PATCH
from longtake.samplers.conditioning.text_rows import TextRows
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.evaluator import Evaluator, PassInputs, Turn
from longtake.samplers.guidance.presets import cfg
from longtake.samplers.loop import generate
from longtake.samplers.solvers.noise_process import Flow
from longtake.tests.support.tiny_model import TINY, embedding, randn, random_dit, settings

ROWS, COLUMNS = 4, 6
READER = Mock(state=lambda: None)


def velocity(evaluator: Evaluator) -> Tensor:
    """Of one pass over two latent frames at one level."""
    inputs = PassInputs(
        randn(1, 2, TINY.in_channels, ROWS, COLUMNS), range(2), [[0.5, 0.5]], ["positive"], READER
    )
    by = rotation(range(2), ROWS // PATCH, COLUMNS // PATCH, TINY.dim // TINY.num_heads)
    return evaluator.evaluate(inputs, WholeSequence(by)).velocity


def test_time_embeddings_are_of_the_weights_that_read_the_prompt() -> None:
    tree, turn = random_dit(), Turn()
    ours, other = (Evaluator(local_denoiser(tree, TINY), Flow(), turn=turn) for _ in range(2))
    ours.claim(0)
    ours.project({"positive": [embedding(1)]})
    before = velocity(ours)
    with torch.no_grad():
        tree.time_embedding[2].bias.add_(1)
    assert torch.equal(velocity(ours), before)  # remembered
    other.claim(0)  # the first steps back, and reads its prompt anew
    after = velocity(ours)
    assert not torch.equal(after, before)
    fresh = Evaluator(local_denoiser(tree, TINY), Flow())
    fresh.claim(0)
    fresh.project({"positive": [embedding(1)]})
    assert torch.equal(velocity(fresh), after)


def test_prompts_are_read_by_as_many_threads_as_the_passes_that_use_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads change the last bits, and a shot that resumes reads its prompts at a later chunk."""
    threads, tree = [2], random_dit()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    evaluator = Evaluator(local_denoiser(tree, TINY), Flow())
    evaluator.claim(0)
    evaluator.project({"positive": [embedding(1)]})
    before = velocity(evaluator)
    with torch.no_grad():
        tree.text_embedding[2].bias.add_(1)
    assert torch.equal(velocity(evaluator), before)  # remembered
    threads[0] = 1
    after = velocity(evaluator)
    assert not torch.equal(after, before)
    assert torch.equal(velocity(evaluator), after)


def test_the_prompts_of_a_shot_go_with_the_shot(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would stay on the device until Python looks for objects that refer to one another."""
    project, projected = Evaluator._project, list[weakref.ref[TextRows]]()

    def watch(evaluator: Evaluator) -> TextRows:
        text = project(evaluator)
        projected.append(weakref.ref(text))
        return text

    monkeypatch.setattr(Evaluator, "_project", watch)
    gc.disable()
    try:
        for _ in generate(settings(guidance=cfg(2.0)), local_denoiser(random_dit(), TINY)):
            assert projected[-1]() is not None
        assert not any(text() for text in projected)
    finally:
        gc.enable()
