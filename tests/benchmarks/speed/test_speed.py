"""`longtake bench speed`: its cases make the same video, and it judges what it has measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from longtake.benchmarks._shared import demo
from longtake.benchmarks._shared.demo_shot import (
    CHUNK,
    DemoShot,
    Marks,
    Networks,
    Part,
    Play,
    plain_networks,
)
from longtake.benchmarks._shared.report import Results
from longtake.benchmarks.speed import breakdown, suite
from longtake.benchmarks.speed.__main__ import command
from longtake.benchmarks.speed.breakdown import CACHE, HOST, IDLE, MODEL, PARTS, Shares
from longtake.benchmarks.speed.suite import (
    COMPARED,
    CORE,
    DIFFUSERS,
    FLOAT32_TIMES,
    JUDGED,
    LENGTHS,
    OURS,
    RECOMPUTE,
    SAME,
    STRAIGHT,
    Case,
    SpeedPlan,
    add_figures,
    measure,
    open_cases,
    prove_same,
    straight_loops,
    take_turns,
)
from longtake.benchmarks.speed.watching import (
    BLOCK,
    FACTOR,
    FIRST,
    JITTER,
    P95,
    RATE,
    SPEED,
    SWITCH,
    WHOLE,
    Showing,
    watch,
)
from longtake.model.preset import DEMO
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.model.camera_demo import demo_with_camera

SHOT = DemoShot(48, 32, 3 * CHUNK)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Of a demo that takes a camera, which the straight loop does not know."""
    with pytest.MonkeyPatch.context() as patch:
        folder = demo_with_camera(tmp_path_factory.mktemp("speed") / "demo")
        patch.setattr(demo, "DEMO_FOLDER", folder)
        return plain_networks()


@pytest.fixture(scope="module")
def cases(networks: Networks) -> dict[str, Case]:
    return open_cases(networks, {})


def stand_in(shot: DemoShot, marks: Marks) -> Iterator[Part]:
    """Makes noise, chunk by chunk."""
    for index, first in enumerate(shot.chunk_starts):
        marks.begin(index)
        marks.make(index)
        latents = shot.noise[0, first : first + CHUNK]
        frames = torch.zeros(4 * CHUNK - 3 * (index == 0), 3, 8, 8)
        yield Part(index, latents, frames, shot.prompts.at(first).text)


@pytest.mark.parametrize("name", [OURS, RECOMPUTE, DIFFUSERS])
def test_every_case_makes_the_latents_of_the_straight_loop(
    cases: dict[str, Case], name: str
) -> None:
    if name not in cases:
        pytest.skip("needs diffusers")
    theirs, ours = cases[STRAIGHT](SHOT).latents, cases[name](SHOT).latents
    assert theirs.std() > 0.3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=SAME)


def test_timesteps_in_float32_make_other_bits(networks: Networks) -> None:
    """ComfyUI's core embeds them so; at full length that moves latents by more than `SAME`."""
    published, like_core = (loop(SHOT).latents for loop in straight_loops(networks).values())
    assert not torch.equal(like_core, published)
    torch.testing.assert_close(like_core, published, rtol=0, atol=SAME)


def test_a_switch_is_the_same_in_the_straight_loop(cases: dict[str, Case]) -> None:
    switching = DemoShot(48, 32, 4 * CHUNK, switches=True)
    ours, theirs = (cases[name](switching) for name in (OURS, STRAIGHT))
    torch.testing.assert_close(ours.latents, theirs.latents, rtol=0, atol=SAME)
    assert SWITCH in ours.figures and SWITCH in theirs.figures
    one = cases[OURS](DemoShot(48, 32, 4 * CHUNK)).latents
    middle = 2 * CHUNK
    assert torch.equal(one[:middle], ours.latents[:middle])
    assert not torch.allclose(one[middle:], ours.latents[middle:], atol=0.01)


def test_all_of_the_past_is_in_the_window() -> None:
    """Else the cases without a window would see more than our engine."""
    for latents in LENGTHS.values():
        assert latents % CHUNK == 0 and latents - CHUNK <= DEMO.window_frames


def test_a_shot_has_its_figures() -> None:
    figures = watch(stand_in, SHOT).figures
    assert {WHOLE, FIRST, SPEED, P95, JITTER, BLOCK, FACTOR, RATE} <= figures.keys()
    assert SWITCH not in figures and figures[RATE] == 1.0
    assert SPEED in figures and figures[FIRST] < figures[WHOLE]


def test_a_shot_that_comes_whole_has_no_pace() -> None:
    figures = watch(stand_in, DemoShot(48, 32, CHUNK)).figures
    assert figures[BLOCK] == figures[WHOLE] == figures[FIRST]
    assert not {P95, JITTER, RATE} & figures.keys()


def test_each_round_begins_with_another_case() -> None:
    order = list[str]()

    def play(name: str) -> Case:
        def run(shot: DemoShot) -> Showing:
            order.append(name)
            return watch(stand_in, shot)

        return run

    rows = take_turns({"a": play("a"), "b": play("b")}, SHOT, SpeedPlan(rounds=3))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [len(rounds) for rounds in rows.values()] == [3, 3]


def test_rounds_end_when_the_time_is_spent() -> None:
    rows = take_turns({"a": partial(watch, stand_in)}, SHOT, SpeedPlan(rounds=9, budget_s=0.0))
    assert len(rows["a"]) == 3


@pytest.mark.parametrize(("peer_s", "ahead"), [(1.2, True), (0.9, False)])
def test_a_lead_is_judged_on_the_bound(peer_s: float, ahead: bool) -> None:
    def rounds(seconds: float) -> list[dict[str, float]]:
        return [dict.fromkeys(COMPARED, seconds) for _ in range(3)]

    results = Results("speed")
    add_figures(results, SHOT, {OURS: rounds(1.0), STRAIGHT: rounds(peer_s)})
    assert [claim.holds for claim in results.claims] == [ahead] * len(JUDGED)
    assert all(claim.bound == pytest.approx(peer_s) for claim in results.claims)


def test_other_latents_fail() -> None:
    def shifted(shot: DemoShot, marks: Marks) -> Iterator[Part]:
        for part in stand_in(shot, marks):
            yield Part(part.index, part.latents + 2 * SAME, part.frames, part.prompt)

    results = Results("speed")
    same, other = partial(watch, stand_in), partial(watch, shifted)
    loops = {STRAIGHT: same, FLOAT32_TIMES: other}
    prove_same({STRAIGHT: same, "same": same, "other": other, CORE: other}, loops, SHOT, results)
    assert [claim.holds for claim in results.claims] == [True, False, True]


def test_a_missing_peer_is_told(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(networks: Networks) -> Play:
        raise ImportError("diffusers")

    monkeypatch.setattr(suite, "BUILDERS", {OURS: suite.engine, DIFFUSERS: missing})
    notes = dict[str, str]()
    assert [*open_cases(networks, notes)] == [OURS]
    assert "not installed" in notes[DIFFUSERS]


def test_an_outer_part_stands_still_while_an_inner_one_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = SimpleNamespace(wall=0.0, thread=0.0)
    clocks = SimpleNamespace(perf_counter=lambda: now.wall, thread_time=lambda: now.thread)
    monkeypatch.setattr(breakdown, "time", clocks)

    def work(seconds: float, computed: float | None = None) -> None:
        now.wall += seconds
        now.thread += seconds if computed is None else computed

    shares = Shares()

    def attend() -> None:
        work(3.0)

    def predict() -> None:
        work(1.0)
        shares.time_calls(CACHE, attend)()
        work(2.0)

    shares.time_calls(MODEL, predict)()
    work(5.0, computed=4.0)
    seconds = shares.read()
    assert {part: seconds[part] for part in (MODEL, CACHE, HOST, IDLE)} == {
        MODEL: 3.0, CACHE: 3.0, HOST: 4.0, IDLE: 1.0
    }  # fmt: skip
    assert shares.read() == dict.fromkeys(PARTS, 0.0)


def test_every_part_of_a_run_is_timed(networks: Networks) -> None:
    seconds = breakdown.chunk_shares(networks, SHOT)
    assert {*seconds} == {*PARTS}
    assert all(len(values) == 2 and min(values) >= 0 for values in seconds.values())
    for part in PARTS:
        assert part == IDLE or sum(seconds[part]) > 0, part


@pytest.mark.slow
def test_the_command_measures_a_size(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    words = ["--size", "96x64", "--latents", "6", "--rounds", "1", "--json", str(path)]
    run = CliRunner().invoke(command, words)
    assert run.exit_code == 0, run.output
    known = json.loads(path.read_text("utf-8"))
    assert f"96x64: {OURS}: share of {MODEL}" in known["figures"]
    assert known["bytes"][f"peak: 96x64: {STRAIGHT}"]
    assert all(claim["holds"] for claim in known["claims"] if "makes the latents" in claim["text"])


def test_ours_alone_decodes_as_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered, built = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4))), dict[str, list[Networks]]()
    builders = {
        name: lambda networks, name=name: built.setdefault(name, []).append(networks) or stand_in
        for name in (OURS, STRAIGHT)
    }
    monkeypatch.setattr(suite, "BUILDERS", builders)
    monkeypatch.setattr(suite, "fastest_decoding", lambda vae, ranges, device: lowered)
    notes = measure(SpeedPlan(sizes=(), installed=True)).notes
    assert "as Load Demo Model does" in notes[OURS] and built[OURS][-1].vae is lowered
    for name in (OURS, STRAIGHT):
        suite.memory_case(f"96x64: {name}", 6, installed=True)
        assert (built[name][-1].vae is lowered) is (name == OURS)
    measure(SpeedPlan(sizes=()))
    assert all(networks[-1].vae is not lowered for networks in built.values())
