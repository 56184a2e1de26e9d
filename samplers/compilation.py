"""Compiles the model of a run before its first chunk, where that was requested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch

from ..model.arithmetic.compiled import (
    CannotCompile,
    CompiledArithmetic,
    GraphCompiler,
    Place,
    compile_arithmetic,
)
from ..model.arithmetic.modulation import PLAIN_ARITHMETIC, Arithmetic
from ..model.recurrent.config import RecurrentConfig
from .denoiser import Denoiser


class CompileObserver(Protocol):
    """Learns that the run waits for a compiler."""

    def on_compile(self) -> None:
        """The model is about to be compiled; chunks wait for it."""

    def on_compiled(self) -> None:
        """The model is compiled, or cannot be."""


class ModelOfRun:
    """The model of a run: compiled when it is first asked for, if it has a compiler."""

    def __init__(self, model: Denoiser) -> None:
        self._model, self._ready = model, model.compiler is None
        self._compiled: CompiledArithmetic | None = None
        self._reason = ""

    @property
    def current(self) -> Denoiser:
        """The model as it is now, compiled or not."""
        return self._model

    def ready(self, observer: CompileObserver, notify: Callable[[str], None]) -> Denoiser:
        """The model to make chunks with; `notify` gets a sentence if it cannot be compiled."""
        if not self._ready and self._model.compiler is not None:
            self._compile(self._model.compiler, observer)
            self._ready = True
            if self._reason:
                notify(f"The model runs uncompiled: {self._reason}.")
        return self._model

    def _compile(self, compiler: GraphCompiler, observer: CompileObserver) -> None:
        try:
            place = place_of(self._model)
            self._compiled = compile_arithmetic(place, compiler, observer.on_compile)
        except CannotCompile as error:
            self._reason = str(error)
        finally:
            observer.on_compiled()
        if self._compiled is not None:
            self._model = with_arithmetic(self._model, self._compiled.arithmetic)

    @property
    def summary(self) -> str | None:
        """What was compiled, or why nothing was; None where it was not requested or not yet."""
        if self._reason:
            return f"no: {self._reason}"
        if self._compiled is None:
            return None
        return f"yes: {self._compiled.graphs} graphs in {self._compiled.seconds:.1f} s"


def with_arithmetic(model: Denoiser, arithmetic: Arithmetic) -> Denoiser:
    """The model, and its second weights if it has any, with this arithmetic."""
    second = model.second
    if second is not None:
        second = replace(second, model=with_arithmetic(second.model, arithmetic))
    return replace(model, arithmetic=arithmetic, second=second)


def is_compiled(model: Denoiser) -> bool:
    """Whether the model computes with other than the plain functions."""
    return model.arithmetic is not PLAIN_ARITHMETIC


def place_of(model: Denoiser) -> Place:
    """What a model's arithmetic is compiled for; CannotCompile where it has none."""
    if isinstance(model.config, RecurrentConfig):
        raise CannotCompile("it is recurrent and has no transformer blocks")
    device = torch.empty(0, device=model.device).device  # with its number
    return Place(device, model.dtype, model.config.dim, model.config.head_dim)
