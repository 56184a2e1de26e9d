"""Compile Triton's kernels for three generations of NVIDIA GPUs; no GPU is needed.

The compiler checks rules that the interpreter ignores, such as fixed types of loop variables.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(  # not imported here: other tests want its interpreter
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)

CONFTEST = Path(__file__).parents[2] / "conftest.py"
COMPILE = f"""
import runpy, sys
runpy.run_path({str(CONFTEST)!r})
import triton
from importlib import import_module
from itertools import product
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

module, name = sys.argv[1:]
kernel = getattr(import_module("longtake.attention." + module), name)
sizes = {{"probes": 4, "query_block": 64, "block_keys": 32, "width": 128}}
options = {{"num_stages": 1}} if name == "_selected" else {{}}
MOST_SHARED = {{80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}}  # bytes of a block
int64 = {{"order_ptr", "first_ptr", "past_ptr", "number_ptr", "tokens_ptr",
         "always_ptr", "rows_ptr", "heads_ptr"}}
inputs = {{"q_ptr", "k_ptr", "v_ptr", "keys_ptr", "means_ptr"}}

def kind(one, values, keys):
    if one in values:
        return "constexpr"
    if one.endswith("_ptr"):
        if one == "chosen_ptr":
            return "*i32"
        return "*i64" if one in int64 else "*" + keys if one in inputs else "*fp32"
    return "fp32" if one == "scale" else "i32"

for keys, has_bias, capability in product(
    ("fp32", "fp16", "bf16"), (True, False), (80, 89, 90)
):
    values = {{**sizes, "has_bias": has_bias, "key_block": 32 if keys == "fp32" else 128}}
    types = {{one: kind(one, values, keys) for one in kernel.arg_names}}
    values = {{one: value for one, value in values.items() if one in types}}
    target = GPUTarget("cuda", capability, 32)
    source = ASTSource(kernel, types, values)
    made = triton.compile(source, target=target, options=options)
    assert "cubin" in made.asm and made.metadata.shared <= MOST_SHARED[capability]
"""


@pytest.mark.parametrize(
    "kernel",
    ["ann.triton_nearest _nearest", "kernels.triton_selected _selected",
     "kernels.triton_shares _shares"],
)  # fmt: skip
def test_a_kernel_compiles_for_an_nvidia_gpu(kernel: str, tmp_path: Path) -> None:
    options = {one: value for one, value in os.environ.items() if one != "TRITON_INTERPRET"}
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE, *kernel.split()],
        env={**options, "TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
