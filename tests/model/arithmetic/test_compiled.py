"""A block's arithmetic, compiled: few graphs, none later, equal values, and why there are none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longtake.attention.rope import rotate, rotate_plain, rotation
from longtake.model.arithmetic import compiled
from longtake.model.arithmetic.compiled import (
    CannotCompile,
    GraphCompiler,
    Place,
    compile_arithmetic,
    inductor,
)
from longtake.model.arithmetic.modulation import gate, modulate
from longtake.tests.support.model.compilers import (
    CPU,
    CountingCompiler,
    FailingCompiler,
    WrongCompiler,
    forget_all_code,
    needs_compiler,
    torch_deprecates,
)
from longtake.tests.support.tiny_model import randn

WIDTH = 24
HEAD = 12
PLACE = Place(CPU, torch.float32, WIDTH, HEAD)
SIZES = (1, 1, 1), (1, 1, 6), (2, 3, 6), (1, 4, 1), (3, 5, 7)


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def tokens(b: int, f: int, s: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return randn(b, f, s, WIDTH, seed=seed).to(dtype)


def check(compiler: GraphCompiler, dtype: torch.dtype, error: float) -> None:
    """Compiled functions equal plain ones for batches, frames and tokens of any number."""
    arithmetic = compile_arithmetic(Place(CPU, dtype, WIDTH, HEAD), compiler).arithmetic
    for size in SIZES:
        x, y = (tokens(*size, seed, dtype) for seed in (0, 1))
        shift, scale = (tokens(*size[:2], 1, seed) for seed in (2, 3))
        keys = x.flatten(1, 2).unflatten(-1, (-1, HEAD))
        by = rotation([9], 1, size[1] * size[2], HEAD)
        expected = modulate(x, shift, scale), gate(x, y, scale), rotate(keys, by)
        ours = (
            arithmetic.modulate(x, shift, scale), arithmetic.gate(x, y, scale),
            rotate(keys, replace(by, turn=arithmetic.turn)),
        )  # fmt: skip
        for a, b in zip(ours, expected, strict=True):
            assert a.dtype == dtype and a.shape == b.shape
            torch.testing.assert_close(a, b, rtol=error, atol=error)


def test_three_graphs_serve_batches_frames_and_tokens_of_any_number() -> None:
    compiler = CountingCompiler()
    check(compiler, torch.float32, 0.0)
    assert compiler.graphs == 3
    assert compiler.calls > 3 * len(SIZES)


def test_each_dtype_and_width_has_graphs_of_its_own() -> None:
    compiler = CountingCompiler()
    check(compiler, torch.float32, 0.0)
    check(compiler, torch.bfloat16, 0.0)
    assert compiler.graphs == 6


def test_a_second_run_compiles_nothing() -> None:
    compiler = CountingCompiler()
    first, second = (compile_arithmetic(PLACE, compiler) for _ in range(2))
    assert first is second and compiler.graphs == first.graphs == 3


def test_threads_and_inference_mode_compile_nothing_anew(threads: int) -> None:
    compiler = CountingCompiler()
    with torch.inference_mode():
        arithmetic = compile_arithmetic(PLACE, compiler).arithmetic
        torch.set_num_threads(threads + 1)
        arithmetic.gate(*(tokens(1, 2, n, 0) for n in (6, 6, 1)))
    arithmetic.gate(*(tokens(1, 3, n, 0) for n in (6, 6, 1)))
    assert compiler.graphs == 3


def test_other_code_may_reset_torchs_compiler() -> None:
    compiler = CountingCompiler()
    arithmetic = compile_arithmetic(PLACE, compiler).arithmetic
    calls = compiler.calls
    forget_all_code()
    inputs = [tokens(1, 2, n, n) for n in (6, 6, 1)]
    assert torch.equal(arithmetic.gate(*inputs), gate(*inputs))
    assert compiler.graphs == 3 and compiler.calls == calls + 1


def test_tensors_in_another_order_of_memory_give_the_same_values() -> None:
    arithmetic = compile_arithmetic(PLACE, CountingCompiler()).arithmetic
    x = tokens(2, 6, 3, 0).transpose(1, 2)
    shares = tokens(2, 3, 6, 1)[:, :, 2:4].unbind(2)
    shift, scale = (share.unsqueeze(2) for share in shares)
    assert torch.equal(arithmetic.modulate(x, shift, scale), modulate(x, shift, scale))


def test_tokens_of_another_dtype_take_the_plain_function() -> None:
    compiler = CountingCompiler()
    arithmetic = compile_arithmetic(Place(CPU, torch.bfloat16, WIDTH, HEAD), compiler).arithmetic
    calls = compiler.calls
    x, y, share = (tokens(1, 2, n, n) for n in (6, 6, 1))
    assert torch.equal(arithmetic.gate(x, y, share), gate(x, y, share))
    assert compiler.calls == calls


@pytest.mark.parametrize("places", [(6, 2), (1, 1)], ids=["of each head", "one for all tokens"])
def test_keys_with_other_places_than_one_a_token_turn_plainly(places: tuple[int, int]) -> None:
    compiler = CountingCompiler()
    arithmetic = compile_arithmetic(PLACE, compiler).arithmetic
    keys, calls = randn(1, 6, 2, HEAD), compiler.calls
    cos, sin = (randn(*places, HEAD // 2, seed=i).repeat_interleave(2, -1) for i in (1, 2))
    assert torch.equal(arithmetic.turn(keys, cos, sin), rotate_plain(keys, cos, sin))
    assert compiler.calls == calls


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (FailingCompiler(OSError("No space left\nat line 3")), "No space left"),
        (FailingCompiler(RuntimeError()), "RuntimeError"),
        (WrongCompiler(), "the compiled modulate gives other values"),
    ],
)
def test_a_compiler_that_fails_gives_its_reason(compiler: GraphCompiler, reason: str) -> None:
    with pytest.raises(CannotCompile) as error:
        compile_arithmetic(PLACE, compiler)
    assert str(error.value) == reason


def test_a_compiler_that_is_switched_off_is_a_reason() -> None:
    with torch.compiler.set_stance("force_eager"), pytest.raises(CannotCompile) as error:
        compile_arithmetic(PLACE, CountingCompiler())
    assert str(error.value) == "torch.compile is switched off"


def test_what_the_machine_lacks_is_known_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    never_compiled = replace(PLACE, width=WIDTH + HEAD)  # another test may have compiled PLACE
    with pytest.raises(CannotCompile, match=r"^no C\+\+ compiler .* on the PATH$"):
        compile_arithmetic(never_compiled)


@needs_compiler
@torch_deprecates
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_code_of_torchs_own_compiler_equals_plain_code(dtype: torch.dtype) -> None:
    check(inductor, dtype, compiled.ROUNDINGS * torch.finfo(dtype).eps)
