"""The line under a loader: what a file takes on this machine, from its header alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from longtake.headless.commands.inspect import inspect, lines
from longtake.model.preset import DEMO_FOLDER
from longtake.nodes.models.fit import CPU, Machine, fit
from longtake.samplers.planning.cache_forms import RESERVED_BYTES
from longtake.tests.support.model.family_files import header_only, official_shapes

CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def self_forcing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "self_forcing_dmd.safetensors"
    return header_only(path, official_shapes("1.3B"))


def card(size_bytes: int) -> Machine:
    return Machine(CUDA, size_bytes)


def test_a_card_holds_a_form_from_its_planned_bytes_on(self_forcing: Path) -> None:
    """The bytes are those that `longtake inspect` lists; one byte less takes the next form."""
    forms = {form["name"]: form for form in inspect(self_forcing)["cache_forms"]["480p"]}
    for name, words in {
        "as computed": "+ 10.9 GB memory at 832x480. Fits",
        "keys rotated in every pass": "Keys are then rotated in every pass",
        "int8": "Set `storage` to int8",
        "int4": "Set `storage` to int4",
    }.items():
        needed = forms[name]["total_bytes"] + RESERVED_BYTES
        enough, less = fit(self_forcing, card(needed)), fit(self_forcing, card(needed - 1))
        assert enough.fits and words in enough.text and words not in less.text
        assert "in main memory" not in enough.text
    text = fit(self_forcing, card(2**35)).text
    assert text.startswith("Self-Forcing, bf16: 2.6 GB weights + 10.9 GB memory at 832x480.")


def test_the_guide_has_the_table_that_inspect_prints(self_forcing: Path) -> None:
    """A plan that changes by 0.1 GB changes the guide too."""
    guide = (Path(__file__).parents[3] / "docs" / "guide" / "memory.md").read_text("utf-8")
    rows = guide.partition("| | KV cache | in all | fits |")[2].partition("\n\n")[0]
    told = re.findall(r"\| ([^|]+) \| ([\d.]+ GB) \| ([\d.]+ GB) \| ([^|]+) \|", rows)
    printed = [
        match.groups()
        for line in lines(inspect(self_forcing))
        if (match := re.match(r"fits +480p, (.+): KV cache (.+), in all (.+); fits (.+)$", line))
    ]
    assert len(told) == len(printed) == 4
    for row, form in zip(told, printed, strict=True):
        assert row[:3] == form[:3]
        assert re.findall(r"\d+", row[3]) == re.findall(r"\d+", form[3])


def test_weights_wait_in_main_memory_where_no_form_fits_whole(self_forcing: Path) -> None:
    forms = {form["name"]: form for form in inspect(self_forcing)["cache_forms"]["480p"]}
    least = forms["int4"]["least_bytes"] + RESERVED_BYTES
    answer = fit(self_forcing, card(least))
    assert answer.fits and "with part of the weights in main memory" in answer.text
    answer = fit(self_forcing, card(least - 1))
    assert not answer.fits and "Does not fit" in answer.text
    assert not fit(self_forcing, Machine(CPU, least)).fits  # nowhere to offload to


def test_a_chosen_format_of_the_weights_counts(self_forcing: Path) -> None:
    text = fit(self_forcing, card(2**36), weight_dtype=torch.float8_e4m3fn).text
    assert text.startswith("Self-Forcing, float8_e4m3fn: 1.3 GB weights")
    assert "float32: 5.3 GB weights" in fit(self_forcing, Machine(CPU, 2**36)).text


def test_the_chosen_family_counts(self_forcing: Path) -> None:
    assert fit(self_forcing, card(2**36), family="longlive").text.startswith("LongLive")


def test_the_demo_fits_anywhere() -> None:
    answer = fit(DEMO_FOLDER / "dit.safetensors", Machine(CPU, 2**30))
    assert answer.fits and "at 96x64. Fits 1.0 GB of free main memory." in answer.text


@pytest.mark.parametrize(
    ("name", "words"),
    [("none", "none.safetensors is not a safetensors file"), ("vae", "VAE")],
)
def test_a_file_that_is_no_such_model_gives_its_sentence(
    tmp_path: Path, name: str, words: str
) -> None:
    path = DEMO_FOLDER / "vae.safetensors"
    if name == "none":
        path = tmp_path / "none.safetensors"
        path.write_bytes(b"\x10" * 40)
    answer = fit(path, card(2**36))
    assert not answer.fits and words in answer.text and str(path.parent) not in answer.text
