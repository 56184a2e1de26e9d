"""A block's arithmetic, compiled by torch: one graph a function, for any number of tokens.

Layers, attention and caches stay outside. So LoRAs, quantised and offloaded weights, a cache's
policy and modules beside the transformer need no graphs of their own. Dynamo traces a function
once, with symbolic numbers of rows, frames and tokens. The code is then called directly: Dynamo's
guards would trace again where inference mode or a number of threads changes, and take longer than
the code. What they guard is ensured here: device, dtypes and shapes once for equal shapes, the
order in memory by contiguous tensors. So nothing compiles after the warm-up.
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
from ...attention.rope import rotate_pairs, rotate_plain
from .modulation import Arithmetic, gate, gate_by_casts, modulate, modulate_by_casts

GraphCompiler = Callable[[Any, list[Any]], Callable[..., Any]]
"""Turns a traced graph and example inputs into code: a backend of torch.compile."""

Function = Callable[..., Tensor]
"""(x, further tensors) -> a tensor like x."""

Size = tuple[int, int, int]
"""Numbers of rows, frames and tokens; for a rotation, of rows, tokens and heads."""

TRACED: Size = (2, 3, 5)
"""The sizes with which a function is traced: any, but neither equal nor 1."""
TRIALS: tuple[Size, ...] = (1, 1, 1), (1, 2, 6), (3, 1, 7)
"""The sizes at which compiled code is compared with plain code."""
SHAPES = 256
"""How many shapes of arguments are remembered."""
ROUNDINGS = 16.0
"""How many roundings the compiled code may be off: it may round a product and a sum once."""


class CannotCompile(Exception):
    """Says why nothing is compiled: a part of a sentence."""


def inductor(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
    """Compile a graph by torch's own compiler: Triton on a GPU, C++ on a CPU."""
    from torch._inductor.compile_fx import compile_fx  # takes a second

    code: Any = compile_fx(graph, inputs, config_patches={"cpp.dynamic_threads": True})
    return code  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Place:
    """What code is compiled for: a device, and tokens of a dtype, `width` channels and heads."""

    device: torch.device
    dtype: torch.dtype
    width: int
    head_dim: int

    def random(self, *size: int, seed: int) -> Tensor:
        """Normal random values in float32, the same for a seed."""
        return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(self.device)


Examples = Callable[[Place, Size], tuple[Tensor, ...]]
"""(place, size) -> arguments of a function."""

Form = tuple[torch.device, torch.dtype]
Dims = tuple[str, ...]
"""The shape of an argument in a graph: numbers, and symbols for lengths that may be any."""

Source = int | str
"""What an input of a graph is: an argument's number, or a symbol, for a length."""


class CompiledFunction:
    """A function of tensors, compiled for one place; `graphs` counts what was compiled.

    `plain` gives the same values as `function` and runs where the code does not fit, such as for
    another dtype, which a module may make.
    """

    def __init__(
        self, function: Function, plain: Function, examples: Examples, compiler: GraphCompiler
    ) -> None:
        self.graphs = 0
        self._function, self._plain = function, plain
        self._examples, self._compiler = examples, compiler
        self._code: Callable[..., Any] = function
        self._inputs: tuple[Source, ...] = ()
        self._dims: tuple[Dims, ...] = ()
        self._arguments: tuple[tuple[Form, Dims], ...] = ()
        self._lengths = functools.lru_cache(SHAPES)(self._read_lengths)

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Call the code, or the plain function where the code does not fit."""
        lengths = self._lengths(*((_form(x), x.shape) for x in tensors))
        if lengths is None:
            return self._plain(*tensors)
        whole = [x.contiguous() for x in tensors]
        inputs = (whole[at] if isinstance(at, int) else lengths[at] for at in self._inputs)
        result: Tensor = self._code(*inputs)[0]
        return result

    def _read_lengths(self, *tensors: tuple[Form, torch.Size]) -> dict[str, int] | None:
        """The length that each symbol stands for; None where tensors do not fit the graph."""
        lengths: dict[str, int] = {}
        for (form, shape), (traced, dims) in zip(tensors, self._arguments, strict=True):
            if form != traced or len(shape) != len(dims):
                return None
            for length, dim in zip(shape, dims, strict=True):
                if length != (int(dim) if dim.isdigit() else lengths.setdefault(dim, length)):
                    return None
        return lengths

    @torch.no_grad()
    def warm_up(self, place: Place) -> None:
        """Compile, and compare with the plain function; CannotCompile where that fails."""
        arguments = self._examples(place, TRACED)
        for x in arguments:
            for axis, length in enumerate(x.shape[:-1]):
                if length > 1:
                    torch._dynamo.mark_dynamic(x, axis)
        torch.compile(_copy(self._function), backend=self._compile, fullgraph=True)(*arguments)
        if not self.graphs:
            raise CannotCompile("torch.compile is switched off")
        self._arguments = tuple(zip(map(_form, arguments), self._dims, strict=True))
        for size in TRIALS:
            self._compare(self._examples(place, size))

    def _compile(self, graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        """Compile a graph that torch has traced, and keep the code."""
        self.graphs += 1
        self._inputs, self._dims = _read_inputs(self._function, graph)
        self._code = self._compiler(graph, inputs)
        return self._code

    def _compare(self, arguments: tuple[Tensor, ...]) -> None:
        plain, compiled = self._plain(*arguments).float(), self(*arguments).float()
        allowed = ROUNDINGS * torch.finfo(arguments[0].dtype).eps * (1 + plain.abs())
        if not ((plain - compiled).abs() <= allowed).all():
            raise CannotCompile(f"the compiled {self._plain.__name__} gives other values")


@dataclass(frozen=True, slots=True)
class CompiledArithmetic:
    """A block's arithmetic, compiled in `graphs` graphs within some seconds."""

    arithmetic: Arithmetic
    graphs: int
    seconds: float


def compile_arithmetic(
    place: Place, compiler: GraphCompiler = inductor, on_begin: Callable[[], None] | None = None
) -> CompiledArithmetic:
    """The arithmetic for a place, compiled once a process; CannotCompile says why not.

    `on_begin` is called before anything compiles.
    """
    compiled = _compiled_before(place, compiler)
    if not compiled:
        reason = compiler_reason(place.device) if compiler is inductor else None
        if reason is not None:
            raise CannotCompile(reason)
        if on_begin is not None:
            on_begin()
        compiled.append(_compile(place, compiler))
    return compiled[0]


@functools.cache
def _compiled_before(_place: Place, _compiler: GraphCompiler) -> list[CompiledArithmetic]:
    """What this process has compiled for a place: nothing or one."""
    return []


def _compile(place: Place, compiler: GraphCompiler) -> CompiledArithmetic:
    began = time.perf_counter()
    functions = [
        CompiledFunction(modulate_by_casts, modulate, _modulation_examples, compiler),
        CompiledFunction(gate_by_casts, gate, _gate_examples, compiler),
        CompiledFunction(rotate_pairs, rotate_plain, _rotation_examples, compiler),
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
    """Tokens (b, f, s, c), and shifts and scales (b, f, 1, c)."""
    x = place.random(*size, place.width, seed=0).to(place.dtype)
    return x, *(place.random(*size[:2], 1, place.width, seed=seed) for seed in (1, 2))


def _gate_examples(place: Place, size: Size) -> tuple[Tensor, ...]:
    """Tokens x and y (b, f, s, c), and shares (b, f, 1, c)."""
    x, y = (place.random(*size, place.width, seed=seed).to(place.dtype) for seed in (3, 4))
    return x, y, place.random(*size[:2], 1, place.width, seed=5)


def _rotation_examples(place: Place, size: Size) -> tuple[Tensor, ...]:
    """Keys (b, s, n, d), and cosines and sines (s, 1, d)."""
    x = place.random(*size, place.head_dim, seed=6).to(place.dtype)
    halves = (place.random(size[1], 1, place.head_dim // 2, seed=seed) for seed in (7, 8))
    return x, *(half.repeat_interleave(2, -1) for half in halves)


def _form(x: Tensor) -> Form:
    return x.device, x.dtype


def _read_inputs(function: Function, graph: Any) -> tuple[tuple[Source, ...], tuple[Dims, ...]]:
    """What the inputs of a graph are, and the shape of each argument.

    Dynamo names tensors after arguments: `l_x_` is x. Lengths come as symbols.
    """
    code = function.__code__
    of_name = {f"l_{name}_": i for i, name in enumerate(code.co_varnames[: code.co_argcount])}
    dims, sources = dict[int, Dims](), list[Source]()
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            value, argument = node.meta["example_value"], of_name.get(node.name)
            sources.append(str(value) if argument is None else argument)
            if argument is not None:
                dims[argument] = tuple(str(length) for length in value.shape)
    known = {*of_name.values()}.union(*dims.values())
    if dims.keys() != {*of_name.values()} or not known.issuperset(sources):
        raise CannotCompile(f"this torch gives {function.__name__} other inputs")
    return tuple(sources), tuple(dims[argument] for argument in sorted(dims))


def _copy(function: Function) -> Function:
    """The same function with code of its own: torch keeps what it compiles by code."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


def _first_line(error: Exception) -> str:
    """What went wrong, without a compiler's output."""
    cause = getattr(error, "inner_exception", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0][:200].rstrip(".")
