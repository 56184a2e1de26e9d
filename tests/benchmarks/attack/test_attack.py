"""A few attacks of each kind hold. The long version is `longtake bench attack`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from longtake.benchmarks import attack
from longtake.benchmarks._attack import bit_flips, faults, rollout_files
from longtake.benchmarks._attack.forked import Outcome, call
from longtake.benchmarks._attack.tally import Tally
from longtake.benchmarks._long.kill import run_with
from longtake.benchmarks.attack import AttackPlan, measure
from longtake.errors import BadInput
from longtake.stream.journal import journal
from longtake.stream.rollout_file import file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills as POSIX does")
NOTHING = AttackPlan(0, 0, 0, 0, 0, 0, seed=3)


class Noticed(Exception):
    """The first problem that an attack reports; there is no need for another."""


def notice(problem: str) -> None:
    raise Noticed(problem)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(AttackPlan(6, 0, 0, 0, 0, 0, seed=3), marks=pytest.mark.slow),
        pytest.param(AttackPlan(0, 9, 0, 0, 0, 0, seed=3), marks=pytest.mark.slow),
        pytest.param(AttackPlan(0, 0, 6, 0, 0, 0, seed=3), marks=pytest.mark.slow),
        AttackPlan(0, 0, 0, 12, 0, 0, seed=3),
        pytest.param(AttackPlan(0, 0, 0, 0, 1, 0, seed=3), marks=pytest.mark.slow),
        AttackPlan(0, 0, 0, 0, 0, 60, seed=3),
    ],
    ids=["kills", "faults", "flips", "files", "servers", "requests"],
)
def test_a_few_attacks_of_each_kind_do_no_harm(plan: AttackPlan) -> None:
    results = measure(plan)
    assert len(results.claims) == (4 if plan.kills else 2)
    assert all(claim.holds for claim in results.claims), (results.claims, results.notes)


def test_a_kind_that_is_left_out_claims_nothing() -> None:
    assert measure(NOTHING).claims == []


def test_harm_is_a_claim_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def harmful(count: int, seed: int, report: object) -> Tally:
        tally = Tally()
        tally.add("EIO")
        tally.fail("other bits")
        return tally

    monkeypatch.setattr(attack.faults, "attack", harmful)
    claims = measure(AttackPlan(0, 1, 0, 0, 0, 0)).claims
    assert [claim.holds for claim in claims] == [True, False]


def test_a_fault_meets_the_disk_and_the_next_run_goes_on(tmp_path: Path) -> None:
    points = faults.FaultPoints(3, "write", faults.ERRORS["ENOSPC"])
    outcome = run_with(points, tmp_path, "causal", "replay")
    assert "No space left on device" in outcome.refusal and not outcome.killed
    assert run_with(faults.CrashPoints(None), tmp_path, "causal", "replay").refusal == ""


@pytest.mark.slow
def test_the_suite_notices_a_journal_without_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_checksum", lambda tensors, meta: "x")
    with pytest.raises(Noticed, match="flip"):
        bit_flips.attack(48, 1, notice)  # few of them hit the latents


@pytest.mark.slow
def test_the_suite_notices_a_loader_without_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "is_sound", lambda path: True)
    monkeypatch.setattr(file, "check_finite", lambda name, tensor: None)
    with pytest.raises(Noticed, match="file"):
        rollout_files.attack(40, 1, notice)


def _refuse() -> str:
    raise BadInput("It cannot be used.")


def _fail() -> str:
    raise KeyError("x")


def _hang() -> str:
    time.sleep(60)
    return ""


def test_a_call_ends_in_one_of_five_ways() -> None:
    assert call(lambda: "fine", 10) == Outcome("done", "fine")
    assert call(_refuse, 10) == Outcome("refused", "It cannot be used.")
    assert call(_fail, 10).end == "traceback"
    assert call(_hang, 0.2).end == "hang"
    assert call(lambda: os._exit(3), 10).end == "killed"
