"""`longtake bench growth`: what it lets take turns, and what it calls growth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner

from longtake.benchmarks._shared.paired import Interval
from longtake.benchmarks._shared.report import Results
from longtake.benchmarks.growth import suite
from longtake.benchmarks.growth.__main__ import command
from longtake.benchmarks.growth.plot import draw
from longtake.benchmarks.growth.shots import guidance_of, open_studio
from longtake.benchmarks.growth.suite import (
    BRANCHES,
    COUNTS,
    LENGTH,
    SHOTS,
    VIEWS,
    GrowthPlan,
    judge_count,
    judge_length,
    labelled,
    measure_branches,
    measure_length,
    measure_shots,
)
from longtake.model.preset import DEMO


class StandIn:
    """A studio whose shots count the chunks that are made."""

    def __init__(self) -> None:
        self.order = list[int]()
        self._numbers = count()

    def open(self, latents: int, branches: int = 1, *, decodes: bool = True) -> Iterator[int]:
        number = next(self._numbers)
        for _ in range(-(-latents // DEMO.chunk_frames)):
            self.order.append(number)
            yield number

    def open_warm(self, chunks: int, branches: int = 1, *, decodes: bool = True) -> Iterator[int]:
        return self.open(chunks * DEMO.chunk_frames, branches)


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setattr(suite, "ratio_interval", lambda above, below: Interval(1, 1, 1, 3))
    return StandIn()


def test_a_long_shot_takes_turns_with_a_short_one_at_each_mark(studio: StandIn) -> None:
    results = Results("growth")
    measure_length(GrowthPlan(4, (6, 30)), studio, results)  # type: ignore[arg-type]
    long = studio.order[0]
    at_first_mark = studio.order[2:10]
    assert studio.order.index(at_first_mark[1]) >= 2 and at_first_mark.count(long) == 4
    pairs = [at_first_mark[i : i + 2] for i in range(0, 8, 2)]
    assert all(set(a) == set(pairs[0]) and a != b for a, b in zip(pairs, pairs[1:], strict=False))
    assert studio.order.count(long) == 30 // 3 + 4
    assert {f"length {mark}: resident" for mark in (6, 30)} <= results.bytes.keys()


@pytest.mark.parametrize(
    ("part", "measure", "groups"),
    [(SHOTS, measure_shots, COUNTS), (BRANCHES, measure_branches, VIEWS)],
)
def test_every_count_is_timed_in_every_round(
    studio: StandIn, part: str, measure: object, groups: tuple[int, ...]
) -> None:
    results, plan = Results("growth"), GrowthPlan(3, memory=False)
    measure(plan, studio, results)  # type: ignore[operator]
    shots = sum(groups) if part == SHOTS else len(groups)
    assert len(studio.order) == 3 * shots
    assert {*studio.order[:shots]} == {*range(shots)}
    assert len(results.claims) == len(groups) - 1
    assert all(len(results.samples[f"{part} {n}: a chunk's s"]) == 3 for n in groups)


@pytest.mark.parametrize("branches", VIEWS)
def test_every_branch_has_a_history_of_its_own(branches: int) -> None:
    guidance = guidance_of(branches)
    assert len(guidance.all_branches) == branches
    assert len({branch.view.level for branch in guidance.branches}) == branches


@pytest.mark.parametrize(
    ("high", "after", "holds"),
    [(1.04, 104, [True, True]), (1.06, 104, [False, True]), (1.04, 106, [True, False])],
)
def test_a_long_shot_is_judged_on_the_bound(high: float, after: int, holds: list[bool]) -> None:
    results = Results("growth")
    results.figures["length 4096: over a chunk at the start"] = Interval(1.0, 0.9, high, 9)
    results.bytes |= {"length 64: resident": 100, "length 4096: resident": after}
    judge_length((64, 4096), results)
    assert [claim.holds for claim in results.claims] == holds


@pytest.mark.parametrize(("high", "holds"), [(4.1, True), (4.3, False)])
def test_four_shots_may_cost_four_times_one(high: float, holds: bool) -> None:
    results = Results("growth")
    results.bytes |= {labelled(SHOTS, 1) + ": peak": 100, labelled(SHOTS, 4) + ": peak": 400}
    judge_count(SHOTS, 4, Interval(4.0, 3.9, high, 9), results)
    assert [claim.holds for claim in results.claims] == [holds, True]


def test_a_shot_goes_on_after_its_window_is_full() -> None:
    with open_studio() as studio:
        line = studio.open_warm(2, 3, decodes=False)
        chunks = [next(line) for _ in range(2)]
    assert [chunk.first_frame for chunk in chunks] == [24, 27]
    assert chunks[-1].model_evals == 3 * (DEMO.steps + 1)


@pytest.mark.slow
def test_the_command_measures_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "COUNTS", (1, 4))  # each has its memory in a process of its own
    monkeypatch.setattr(suite, "VIEWS", (1, 8))
    path = tmp_path / "growth.json"
    words = ["--rounds", "3", "--latents", "128", "--json", str(path)]
    run = CliRunner().invoke(command, words)
    assert run.exit_code == 0, run.output
    known = json.loads(path.read_text("utf-8"))
    for name in ("length 64", "length 128", "shots 4", "branches 8"):
        assert known["figures"][f"{name}: a chunk's s"]["samples"] == 3
    assert known["bytes"]["shots 4: peak"] and known["bytes"]["branches 8: peak"]


def test_the_plot_shows_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results, path = Results("growth"), tmp_path / "growth.png"
    for part in (LENGTH, SHOTS):
        for number in (1, 2):
            name = labelled(part, number)
            results.figures[f"{name}: a chunk's s"] = Interval(0.1 * number, 0.1, 0.3, 3)
            results.bytes[f"{name}: peak"] = results.bytes[f"{name}: resident"] = 2**20
    draw(results, path)
    assert path.stat().st_size > 1000
