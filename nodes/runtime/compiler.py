"""A MODEL that carries a compiler for its arithmetic."""

from __future__ import annotations

from typing import Any

from ...model.arithmetic.compiled import GraphCompiler
from .. import host
from ..models.pair import second_model

KEY = "longtake.compiler"


def with_compiler(model: Any, compiler: GraphCompiler) -> Any:
    """A clone of `model` that carries a compiler."""
    clone = model.clone()
    host.attach(clone, KEY, compiler)
    return clone


def compiler_of(model: Any) -> GraphCompiler | None:
    """The compiler that a MODEL carries, or the second model of a pair; None if neither does."""
    second = second_model(model)
    compiler: GraphCompiler | None = host.get_attachment(model, KEY)
    return compiler if compiler or second is None else host.get_attachment(second.model, KEY)
