"""Sums of codes are exact with each of a CPU's extensions, also those without VNNI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.tests.support.int8 import needs_int8

ROOT = Path(__file__).resolve().parents[4]
PROGRAM = """
import torch
import torch.nn.functional as F
from longtake.model.vae.int8.layers import Int8Conv, as_integers
from longtake.model.vae.int8.units import Units

torch.set_grad_enabled(False)
apart = 0.0
for channels in (2, 5, 16, 40):
    for side in (1, 3):
        for zero in (0, 128):
            conv = torch.nn.Conv2d(channels, 8, side, padding=side // 2)
            conv.weight.fill_(1)  # all of one sign: the largest sums there are
            conv.weight[4:].mul_(torch.rand(4, channels, side, side))
            integers, scale = as_integers(conv.weight)
            conv.bias.zero_()
            codes = torch.full((1, channels, 6, 8), 255, dtype=torch.uint8)
            made = Int8Conv(conv, Units(torch.ones(channels), zero), None)(codes)
            sums = F.conv2d(codes.double() - zero, integers.double(), padding=side // 2)
            exact = sums * scale.double()[:, None, None]
            apart = max(apart, float(((made - exact) / exact).abs().max()))
print(apart)
"""


@needs_int8
@pytest.mark.parametrize("extension", ["AVX2", "AVX512_CORE", "ALL"])
def test_the_largest_sums_are_exact(tmp_path: Path, extension: str) -> None:
    """oneDNN keeps to an extension where the CPU has more."""
    (tmp_path / "longtake").symlink_to(ROOT, target_is_directory=True)
    asked = {"PYTHONPATH": str(tmp_path), "ONEDNN_MAX_CPU_ISA": extension}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **asked}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5
