"""`longtake bench states`: which memories are compared, what they hold, and what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from longtake.benchmarks._shared.measures import Measurement
from longtake.benchmarks.states import clips, suite
from longtake.benchmarks.states.__main__ import command
from longtake.benchmarks.states.costs import planned_megabytes, times_of_window
from longtake.benchmarks.states.memories import (
    RECURRENT,
    SHORTER,
    STATE,
    WINDOW,
    kit_of,
    memories,
    print_of,
)
from longtake.benchmarks.states.suite import StatesPlan, StatesResults, measure
from longtake.model.preset import DEMO, DEMO_FOLDER
from longtake.model.recurrent.config import RecurrentConfig
from longtake.model.recurrent.file import recurrent_header
from longtake.training import train_recurrent
from longtake.training.beginnings import config_of, load_beginning
from longtake.training.evaluation.kit import sample
from longtake.training.train_dit import build, copy_of, save


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The demo with a state that answers nothing yet, and a small recurrent network."""
    folder = tmp_path_factory.mktemp("states")
    networks = build(replace(config_of(DEMO_FOLDER), state="delta"))
    load_beginning(networks, DEMO_FOLDER)
    save(folder, copy_of(networks), networks)
    torch.manual_seed(0)
    network = train_recurrent.build(RecurrentConfig(dim=16, num_layers=1, text_dim=64))
    save_file(network.state_dict(), folder / "recurrent.safetensors", recurrent_header())
    return folder, folder / "recurrent.safetensors"


def test_without_weights_their_rows_are_left_out(weights: tuple[Path, Path]) -> None:
    assert [*memories(None, None)] == [WINDOW, SHORTER]
    assert [*memories(*weights)] == [WINDOW, SHORTER, STATE, RECURRENT]


def test_other_weights_make_other_clips(weights: tuple[Path, Path]) -> None:
    assert print_of(None) == ""
    assert len({print_of(of) for of in (None, *weights)}) == 3
    assert [*StatesPlan(*weights).cases()][:2] == [WINDOW, SHORTER]


def test_a_new_state_makes_the_shot_of_its_window(weights: tuple[Path, Path]) -> None:
    shots = []
    for name in (SHORTER, STATE):
        memory = memories(*weights)[name]
        recipe = replace(memory.recipe, length=18)
        with torch.inference_mode():
            shot = sample(kit_of(memory.weights), recipe, [(0, "a red ball")], 0)
            shots.append(torch.cat([chunk.latents for chunk in shot]))
    assert torch.equal(*shots)


def test_a_state_is_small_and_does_not_grow(weights: tuple[Path, Path]) -> None:
    size = {name: [planned_megabytes(memory, length) for length in (64, 10_000)]
            for name, memory in memories(*weights).items()}  # fmt: skip
    assert all(early == late for early, late in size.values())
    window, shorter, state, alone = (size[n][0] for n in (WINDOW, SHORTER, STATE, RECURRENT))
    assert alone < state - shorter < 0.1 * shorter and shorter < state < window


def test_times_are_ratios_to_the_window(weights: tuple[Path, Path]) -> None:
    times = times_of_window(memories(*weights), 6, 3)
    assert times[WINDOW].median == 1 and {*times} == {*memories(*weights)}


def measurement(**figures: float) -> Measurement:
    return Measurement(figures, np.zeros((0, 0)))


def test_differences_are_taken_clip_by_clip() -> None:
    results = StatesResults(None, {})
    window = {0: measurement(recall=0.5), 1: measurement(recall=0.9)}
    results.add(WINDOW, window, window)
    results.add(STATE, {0: measurement(recall=0.7), 1: measurement(recall=1.1)}, window)
    assert [*results.differences] == [STATE]
    assert results.differences[STATE]["recall"].low == pytest.approx(0.2)


def test_finished_clips_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[tuple[str, int]]()

    def measured(plan: StatesPlan, job: tuple[str, int]) -> Measurement:
        made.append(job)
        return measurement(recall=0.9)

    monkeypatch.setattr(suite, "measure_job", measured)
    monkeypatch.setattr(
        suite.Records,
        "complete",
        lambda self, measure, jobs, *_: [self.add(job, measure(job)) for job in jobs],
    )
    plan = StatesPlan(clips=2, rounds=0, record=tmp_path / "states.jsonl")
    measure(plan)
    measure(plan)
    assert len(made) == 4


@pytest.mark.slow
def test_the_command_measures_every_memory(
    tmp_path: Path, weights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "LOOKS_LATENTS", 12)
    monkeypatch.setattr(clips, "AWAY", (16,))
    monkeypatch.setattr(suite, "LENGTHS", (64,))
    path = tmp_path / "states.json"
    words = ["--delta", str(weights[0]), "--recurrent", str(weights[1])]
    words += ["--clips", "1", "--rounds", "3", "--json", str(path)]
    run = CliRunner().invoke(command, words)
    assert run.exit_code == 0, run.output
    result = json.loads(path.read_text(encoding="utf-8"))
    assert {*result["figures"]} == {WINDOW, SHORTER, STATE, RECURRENT}
    assert result["times"]["64"][WINDOW]["median"] == 1
    assert (
        result["figures"][STATE]["recall after 16"] == result["figures"][SHORTER]["recall after 16"]
    )
    assert f"{DEMO.window_frames}" in WINDOW
