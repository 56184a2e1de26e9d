"""The drive bench: what it reads from a page, its claims with each fault, and one short drive."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from longtake.benchmarks._shared.paired import percentile_interval
from longtake.benchmarks.drive.drives import LOST_S, Drive, observe
from longtake.benchmarks.drive.presses import STILL_S, TAP_S, TURNS, draw_presses
from longtake.benchmarks.drive.suite import DrivePlan, drive_in_browser, evaluate
from longtake.errors import BadInput
from longtake.tests.browser.node import lacking

PLAN = DrivePlan(modes=("hold",))
GOOD = Drive(
    rates=[16.0] * 40, mean_rate=16.0, pixel_s=[0.4] * 30, player_s=[0.35] * 80,
    beyond_player_s=[0.01] * 30, still_px=[0.1] * 90, reading_share=0.003, load=1.5,
)  # fmt: skip
DOUBLE = replace(GOOD, rates=[30.0] * 30, mean_rate=29.5)
SINGLE_WORDS, DOUBLE_WORDS = "held keys, as the shot plays", "held keys, at double speed"


def failing(single: Drive = GOOD, double: Drive = DOUBLE) -> list[str]:
    """Return the claims that fail."""
    results = evaluate(PLAN, {"hold": [single, double]})
    return [claim.text for claim in results.claims if not claim.holds]


@pytest.mark.parametrize(
    ("fault", "claim"),
    [
        ({"rates": [14.0] * 40}, "frames drawn a second (low bound)"),
        ({"mean_rate": 15.0}, "frames drawn a second, mean"),
        ({"pixel_s": [0.4] * 27 + [0.7] * 3}, "key to pixel, p95 (high bound), s"),
        ({"pixel_s": [0.4] * 26 + [LOST_S] * 4}, "key to pixel, p95 (high bound), s"),
        ({"player_s": [0.3] * 70 + [0.7] * 10}, "player's own, p95 (high bound), s"),
    ],
)
def test_each_fault_breaks_its_own_claim(fault: dict[str, Any], claim: str) -> None:
    assert failing() == []
    assert failing(single=replace(GOOD, **fault)) == [f"{SINGLE_WORDS}: {claim}"]
    if "rates" not in fault and "mean_rate" not in fault:
        assert failing(double=replace(DOUBLE, **fault)) == [f"{DOUBLE_WORDS}: {claim}"]


def test_double_speed_must_show_24_frames_a_second() -> None:
    slow = replace(DOUBLE, rates=[23.0] * 30, mean_rate=23.5)
    assert failing(double=slow) == [
        f"{DOUBLE_WORDS}: frames drawn a second (low bound)",
        f"{DOUBLE_WORDS}: frames drawn a second, mean",
    ]


def test_a_percentile_is_one_of_the_samples_and_lies_within_its_bounds() -> None:
    most = percentile_interval([float(n) for n in range(1, 41)], 95)
    assert most.median == 38.0 and most.low < 38 < most.high <= 40 and most.samples == 40


def test_a_person_presses_the_same_keys_from_the_same_seed() -> None:
    presses = draw_presses(200, 5)
    assert presses == draw_presses(200, 5) != draw_presses(200, 6)
    reversals = len(presses) - 200
    turns = sum(press.code in TURNS for press in presses)
    assert 20 <= reversals <= 60 and 0.75 < turns / len(presses) < 0.95
    assert any(TAP_S[0] <= press.hold_s <= TAP_S[1] for press in presses)
    assert sum(press.still_s >= STILL_S[0] for press in presses) == 200


def keys(*edges: tuple[str, bool, float]) -> list[dict[str, Any]]:
    return [{"code": code, "down": down, "at": at} for code, down, at in edges]


def test_only_a_key_that_is_held_from_a_still_camera_on_has_a_time() -> None:
    """The scenery moves to the left from 2250 ms on; nothing answers the press at 5000 ms."""
    draws = 62.5 * np.arange(120)
    strip = np.random.Generator(np.random.Philox(1)).integers(0, 255, 400)
    strip = np.convolve(strip, np.ones(5) / 5, "same")
    pictures = []
    for at in draws:
        left = 100 + round(min(max(0.0, at - 2187.5), 600) / 62.5)
        pictures.append(np.tile(strip[left : left + 32], (20, 1)).astype(np.uint8))
    phase = {
        "draws": [*draws], "size": [32, 20], "reading_ms": 7.4, "load": 1.0,
        "pixels": [base64.b64encode(each.tobytes()).decode() for each in pictures],
        "keys": keys(
            ("ArrowRight", True, 2000), ("ArrowRight", False, 2400),
            ("ArrowLeft", True, 2500), ("ArrowLeft", False, 2900),  # the camera moves
            ("KeyD", True, 3500), ("KeyD", False, 3550),
            ("ArrowRight", True, 5000), ("ArrowRight", False, 5300),
            ("ArrowRight", True, 6700), ("ArrowRight", False, 6800),  # a tap
        ),
        "latencies": [{"at": 2003.0, "ms": 240.0}, {"at": 2500.0, "ms": 300.0}],
    }  # fmt: skip
    drive = observe(phase)
    assert drive.pixel_s == pytest.approx([0.25, LOST_S])
    assert drive.beyond_player_s == pytest.approx([0.01])
    assert drive.player_s == pytest.approx([0.24, 0.3])
    assert drive.rates == [16.0] * 7 and drive.mean_rate == pytest.approx(16.0)
    assert drive.reading_share == pytest.approx(0.001, rel=0.01)
    assert max(drive.still_px) < 0.1


def test_a_run_that_stands_still_is_named() -> None:
    with pytest.raises(BadInput, match="stood still"):
        observe({"draws": [10.0], "keys": [], "latencies": [], "pixels": []})


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(lacking() is not None, reason=lacking() or "")
@pytest.mark.timeout(300)
def test_a_short_drive_in_the_browser_has_every_figure() -> None:
    """No limit is asked of a machine that runs tests."""
    seen = drive_in_browser(DrivePlan(presses=4).for_mode("re-plan"))
    drives = [observe(phase) for phase in seen["phases"]]
    results = evaluate(PLAN, {"hold": drives})
    assert all(drive.rates and drive.player_s and drive.pixel_s for drive in drives)
    assert all(0 < drive.reading_share < 0.05 for drive in drives)
    matched = [each for drive in drives for each in drive.beyond_player_s]
    assert matched and all(-0.2 < each < 2 for each in matched)
    assert len(results.claims) == 8 and seen["report"]["frames"] >= seen["shown"]
