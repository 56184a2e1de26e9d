"""Our shots where the core keeps weights by comfy-aimdo, as by default on NVIDIA's GPUs.

A stand-in for CUDA has one for comfy-aimdo's native part beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from longtake.tests.in_core.support.places import ROOT
from longtake.tests.support.device.dynamic_core import CASES, DTYPES, PLAIN
from longtake.tests.support.waits import needs_fake_devices

PROGRAM = f"""
import runpy, sys
sys.path.insert(0, "")
runpy.run_path({str(ROOT / "tests" / "conftest.py")!r})
from longtake.tests.support.device.dynamic_core import main
main(sys.argv[1:])
"""
ALIKE = ("vace", "packed", "own layers", "pairs", "wan vae")
"""Kinds of shots that have the bits of a core without dynamic memory."""
pytestmark = needs_fake_devices


@cache
def found() -> dict[str, dict[str, Any]]:
    """What all cases found, from a process of its own in the core's folder."""
    command = [sys.executable, "-c", PROGRAM, *CASES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return records


@pytest.mark.parametrize("case", ["as is", "evicted", "short", "second card"])
def test_a_shot_is_the_same_wherever_its_weights_are(case: str) -> None:
    result = found()[case]
    assert result["failures"] == [] and result["faults"] == []
    assert len(result["latents"]) == 3 and result["latents"] == found()[PLAIN]["latents"]


def test_a_shot_is_the_same_after_another_model_took_the_memory() -> None:
    result = found()["crowded"]
    assert len(set(result["shots"])) == 1 and result["faults"] == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_has_one_name_in_addresses_before_and_after_it_is_loaded(dtype: str) -> None:
    """The core keeps the file's numbers, and casts them when it loads them."""
    before, total, _, after = found()["names"][dtype]
    plain, plain_total, *_ = found()["plain names"][dtype]
    assert before == after == plain
    assert total == pytest.approx(plain_total, rel=0.01)


def test_the_dtype_of_weights_is_part_of_a_models_name() -> None:
    named = found()["names"]
    assert len({named[dtype][0] for dtype in DTYPES}) == len(DTYPES)


def test_a_module_of_torchs_layers_is_loaded_once_and_leaves_where_a_model_needs_the_card() -> None:
    """It can be copied, too: what the core would keep on it is native memory."""
    result = found()["whole"]
    assert result["stays"] and result["left"] == 0 and result["copied"]


@pytest.mark.parametrize("case", ["loras", "live lora", "packed loras", *ALIKE])
def test_shots_are_the_same_whatever_was_made_before_them(case: str) -> None:
    """Each kind of shot has one digest, other kinds others, with evictions in every pass."""
    for name in (case, f"plain {case}"):
        result = found()[name]
        digests = [set(shots) for shots in result["shots"].values()]
        assert result["faults"] == [] and all(len(one) == 1 for one in digests)
        assert len(set.union(*digests)) == len(digests)


@pytest.mark.parametrize("case", ALIKE)
def test_shots_have_the_bits_of_a_core_without_dynamic_memory(case: str) -> None:
    """Those with LoRAs differ: the core adds them to the weights at another place."""
    assert found()[case]["shots"] == found()[f"plain {case}"]["shots"]


def test_modelsave_writes_what_a_model_was_made_of() -> None:
    assert found()["saving"] == {"whole": [True, True], "faults": []}


@pytest.mark.parametrize(
    "case",
    ["interrupted", "out of memory", "cpu vae", "no smart memory", "evicted in a chunk"],
)
def test_a_shot_goes_on_with_the_same_bits(case: str) -> None:
    """After a stop in a chunk, and where the core unloads in the middle of one."""
    result = found()[case]
    assert result["failures"] == [] and result["faults"] == []
    assert result["latents"] == found()[PLAIN]["latents"]
