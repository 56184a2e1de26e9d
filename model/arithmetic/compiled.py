"""A block's arithmetic, compiled by torch: one graph a function, for any number of tokens.

Layers, attention and caches stay outside. So LoRAs, quantised and offloaded weights, a cache's
policy and modules beside the transformer need no graphs of their own. Dynamo traces a function
once, with symbolic numbers of rows, frames and tokens. The code is then called directly: Dynamo's
guards would trace again where inference mode or a number of threads changes, and take longer than
the code. What they guard is ensured here: dtype and width before each call, the order in memory by
contiguous tensors. So nothing compiles after the warm-up.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ...attention.backends import compiler_reason
from .modulation import Arithmetic, gate, modulate

GraphCompiler = Callable[[Any, list[Any]], Callable[..., Any]]
"""Turns a traced graph and example inputs into code: a backend of torch.compile."""

Function = Callable[..., Tensor]
"""(tokens x (b, f, s, c), then tokens, or shares (b, f, 1, c)) -> tokens like x."""

Size = tuple[int, int, int]
"""Numbers of rows, frames and tokens."""

TRACED: Size = (2, 3, 5)
"""The sizes with which a function is traced: any, but neither equal nor 1."""
TRIALS: tuple[Size, ...] = (1, 1, 1), (1, 2, 6), (3, 1, 7)
"""Those on which compiled code is compared with plain code."""
ROUNDINGS = 16.0
"""How many roundings apart the two may be: fused code may round a product and a sum once."""


class CannotCompile(Exception):
    """Says why nothing is compiled: a part of a sentence."""


def inductor(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
    """Compile a graph by torch's own compiler: Triton on a GPU, C++ on a CPU."""
    from torch._inductor.compile_fx import compile_fx  # takes a second

    code: Any = compile_fx(graph, inputs, config_patches={"cpp.dynamic_threads": True})
    return code  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Place:
    """What code is compiled for: tokens of `width` channels, of a dtype, on a device."""

    device: torch.device
    dtype: torch.dtype
    width: int

    def tokens(self, size: Size, seed: int) -> Tensor:
        """Tokens (b, f, s, width) with random values."""
        return self._random(size, seed).to(self.dtype)

    def shares(self, size: Size, seed: int) -> Tensor:
        """Shares (b, f, 1, width) with random values, float32."""
        return self._random((*size[:2], 1), seed)

    def _random(self, size: Size, seed: int) -> Tensor:
        seeded = torch.Generator().manual_seed(seed)
        return torch.randn(*size, self.width, generator=seeded).to(self.device)


Examples = Callable[[Place, Size], tuple[Tensor, ...]]
"""(place, size) -> arguments of a function."""


class CompiledFunction:
    """A function of tokens, compiled for one place; `graphs` counts what was compiled."""

    def __init__(self, function: Function, examples: Examples, compiler: GraphCompiler) -> None:
        self.graphs = 0
        self._function, self._examples, self._compiler = function, examples, compiler
        self._dtypes: tuple[torch.dtype, ...] = ()
        self._code: Callable[..., Any] = function
        self._order: list[int | tuple[int, int]] = []  # of a tensor, or of a tensor and its axis

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Call the code; tensors of another dtype, which a module may make, run plain."""
        if tuple(x.dtype for x in tensors) != self._dtypes:
            return self._function(*tensors)
        whole = [x.contiguous() for x in tensors]
        inputs = [
            whole[at] if isinstance(at, int) else whole[at[0]].shape[at[1]] for at in self._order
        ]
        result: Tensor = self._code(*inputs)[0]
        return result

    @torch.no_grad()
    def warm_up(self, place: Place) -> None:
        """Compile, and compare with the plain function; CannotCompile where that fails."""
        arguments = self._examples(place, TRACED)
        for x in arguments:
            for axis in range(3 if x.shape[2] > 1 else 2):
                torch._dynamo.mark_dynamic(x, axis)
        torch.compile(_copy(self._function), backend=self._compile, fullgraph=True)(*arguments)
        if not self.graphs:
            raise CannotCompile("torch.compile is switched off")
        self._dtypes = tuple(x.dtype for x in arguments)
        for size in TRIALS:
            self._compare(self._examples(place, size))

    def _compile(self, graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        """Compile a graph that torch has traced, and keep the code."""
        self.graphs += 1
        self._order = _order(self._function, graph)
        self._code = self._compiler(graph, inputs)
        return self._code

    def _compare(self, arguments: tuple[Tensor, ...]) -> None:
        plain, compiled = self._function(*arguments).float(), self(*arguments).float()
        allowed = ROUNDINGS * torch.finfo(arguments[0].dtype).eps * (1 + plain.abs())
        if not ((plain - compiled).abs() <= allowed).all():
            raise CannotCompile(f"the compiled {self._function.__name__} gives other values")


@dataclass(frozen=True, slots=True)
class CompiledArithmetic:
    """A block's arithmetic, compiled in `graphs` graphs within some seconds."""

    arithmetic: Arithmetic
    graphs: int
    seconds: float


def compile_arithmetic(place: Place, compiler: GraphCompiler = inductor) -> CompiledArithmetic:
    """The arithmetic for a place, compiled once a process; CannotCompile says why not."""
    reason = compiler_reason(place.device) if compiler is inductor else None
    if reason is not None:
        raise CannotCompile(reason)
    return _compile_once(place, compiler)


@functools.cache
def _compile_once(place: Place, compiler: GraphCompiler) -> CompiledArithmetic:
    began = time.perf_counter()
    functions = [
        CompiledFunction(modulate, _modulation_examples, compiler),
        CompiledFunction(gate, _gate_examples, compiler),
    ]
    try:
        for function in functions:
            function.warm_up(place)
    except CannotCompile:
        raise
    except Exception as error:  # whatever a compiler raises: the plain functions do the same
        raise CannotCompile(_first_line(error)) from error
    graphs, seconds = sum(function.graphs for function in functions), time.perf_counter() - began
    return CompiledArithmetic(Arithmetic(*functions), graphs, seconds)


def _modulation_examples(place: Place, size: Size) -> tuple[Tensor, ...]:
    return place.tokens(size, 0), place.shares(size, 1), place.shares(size, 2)


def _gate_examples(place: Place, size: Size) -> tuple[Tensor, ...]:
    return place.tokens(size, 3), place.tokens(size, 4), place.shares(size, 5)


def _order(function: Function, graph: Any) -> list[int | tuple[int, int]]:
    """Where each input of a graph comes from: an argument, or the length of an argument's axis.

    Dynamo names tensors after arguments: `l_x_` is x. Lengths come as symbols.
    """
    code = function.__code__
    of_name = {f"l_{name}_": i for i, name in enumerate(code.co_varnames[: code.co_argcount])}
    nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
    sources: dict[str, int | tuple[int, int]] = {}
    for node in nodes:
        if (argument := of_name.get(node.name)) is not None:
            sources[node.name] = argument
            lengths = enumerate(node.meta["example_value"].shape)
            sources |= {str(length): (argument, axis) for axis, length in lengths}
    keys = [node.name if node.name in of_name else _symbol(node) for node in nodes]
    unknown = [key for key in keys if key not in sources]
    if unknown:
        raise CannotCompile(f"this torch gives a graph other inputs ({unknown[0]})")
    return [sources[key] for key in keys]


def _symbol(node: Any) -> str:
    return str(node.meta["example_value"])


def _copy(function: Function) -> Function:
    """The same function with code of its own: torch keeps what it compiles by code."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


def _first_line(error: Exception) -> str:
    """What went wrong, without a compiler's output."""
    cause = getattr(error, "inner_exception", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0][:200].rstrip(".")
