"""Compilers for tests: one that counts graphs and runs them as they are, and some that fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.backends import compiler_reason
from longtake.model.arithmetic.compiled import GraphCompiler
from longtake.samplers.compilation import ModelOfRun
from longtake.samplers.denoiser import Denoiser

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    compiler_reason(CPU) is not None, reason=f"nothing compiles here: {compiler_reason(CPU)}"
)
torch_deprecates = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class CountingCompiler:
    """Runs graphs as torch traced them, and counts them and their calls."""

    def __init__(self) -> None:
        self.graphs = self.calls = 0

    def __call__(self, graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        self.graphs += 1

        def call(*tensors: Any) -> Any:
            self.calls += 1
            return graph.forward(*tensors)

        return call


class FailingCompiler:
    """Raises an error for every graph."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        raise self.error


class WrongCompiler:
    """Adds a little to whatever a graph gives."""

    def __call__(self, graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        def call(*tensors: Any) -> Any:
            return tuple(x + 1e-3 for x in graph.forward(*tensors))

        return call


class Watcher:
    """Notes what a run tells about its compiler."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_compile(self) -> None:
        self.notes.append("compiles")

    def on_compiled(self) -> None:
        self.notes.append("done")

    def notify(self, sentence: str) -> None:
        self.notes.append(sentence)


def compiled(model: Denoiser, compiler: GraphCompiler) -> Denoiser:
    """The model with its arithmetic compiled."""
    watcher = Watcher()
    ready = ModelOfRun(replace(model, compiler=compiler)).ready(watcher, watcher.notify)
    assert watcher.notes[-1] == "done"
    return ready


def forget_all_code() -> None:
    """What other nodes do that compile models of their own."""
    torch._dynamo.reset()
