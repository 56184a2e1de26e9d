"""Compare and Splice Rollouts under the stand-in host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at, pictures


def fork(bench: Bench, rollout: Any, **inputs: Any) -> Any:
    return bench.run("LongtakeEditRollout", action="fork", rollout=rollout, **inputs)[0]


def frames(bench: Bench, rollout: Any, vae: Any) -> Any:
    return bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)[0]


def test_forks_are_compared_side_by_side(bench: Bench) -> None:
    source, vae = bench.rollout(length=33.0)
    a, b = frames(bench, source, vae), frames(bench, fork(bench, source, at=1.3, new_seed=7), vae)
    [both] = bench.run("LongtakeCompareRollouts", frames_a=a, frames_b=b, labels=" \n ")
    assert (both.width, both.height, both.frame_total, both.chunk_count) == (64, 32, 33, 3)
    made = pictures(bench, both)
    assert torch.equal(made[:, :, :32], pictures(bench, a))
    assert torch.equal(made[:, :, 32:], pictures(bench, b))
    assert both.report([]).width == 64


def test_a_comparison_is_previewed_and_saved_beside_its_shots(bench: Bench, tmp_path: Path) -> None:
    source, vae = bench.rollout(length=33.0)
    a, b = frames(bench, source, vae), frames(bench, fork(bench, source, at=1.3, new_seed=7), vae)
    [both] = bench.run("LongtakeCompareRollouts", frames_a=a, frames_b=b)
    save = {"filename_prefix": "x", "format": "png frames", "crf": 18, "sheet_and_report": False}
    asyncio.run(
        bench.side_by_side(
            ("LongtakePreview", {"frames": both}),
            ("LongtakePreview", {"frames": a}),
            ("LongtakeSaveVideo", {"frames": both, **save}),
        )
    )
    assert len(list(tmp_path.glob("x_*/*.png"))) == 33


@pytest.mark.parametrize("length", [81.0, 0.0])
def test_stop_ends_all_shots_of_a_comparison(
    bench: Bench, tmp_path: Path, length: float
) -> None:
    """An endless one could not be ended otherwise, nor in the next run."""
    source, vae = bench.rollout(length=length)
    a, b = frames(bench, source, vae), frames(bench, fork(bench, source, at=0.6, new_seed=7), vae)
    [both] = bench.run("LongtakeCompareRollouts", frames_a=a, frames_b=b)
    save = {"filename_prefix": "x", "format": "png frames", "crf": 18, "sheet_and_report": False}
    for number in (1, 2):
        ask_at(bench, 1, both.controls.stop)
        asyncio.run(bench.side_by_side(("LongtakeSaveVideo", {"frames": both, **save})))
        assert [each.controls.state for each in (a, b)] == ["stopped"] * 2
        assert 21 <= len(list(tmp_path.glob(f"x_{number:05}_*/*.png"))) <= 45
        bench.state.start_prompt()


@pytest.mark.parametrize("node", ["LongtakeCompareRollouts", "LongtakeSpliceRollouts"])
def test_stop_ends_an_endless_shot_also_where_the_shot_before_has_ended(
    bench: Bench, tmp_path: Path, node: str
) -> None:
    """The controls are those of the first shot."""
    short, vae = bench.rollout(length=9.0)
    a, b = frames(bench, short, vae), frames(bench, bench.rollout(length=0.0, seed=9)[0], vae)
    names = ("first", "second") if "Splice" in node else ("frames_a", "frames_b")
    [both] = bench.run(node, **dict(zip(names, (a, b), strict=True)))
    save = {"filename_prefix": "x", "format": "png frames", "crf": 18, "sheet_and_report": False}

    def stop() -> None:
        assert a.controls.state == "done"
        both.controls.stop()

    ask_at(bench, 3, stop)
    asyncio.run(bench.side_by_side(("LongtakeSaveVideo", {"frames": both, **save})))
    assert b.controls.state == "stopped"
    assert 9 < len(list(tmp_path.glob("x_*/*.png"))) < 81


def test_shots_are_spliced_and_it_is_said_how(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    source, vae = bench.rollout(length=33.0)
    a, b = frames(bench, source, vae), frames(bench, fork(bench, source, at=0.6, new_seed=7), vae)
    with caplog.at_level("INFO", logger="longtake"):
        [one] = bench.run("LongtakeSpliceRollouts", first=a, second=b, overlap=4)
    assert one.frame_total == 62
    made = pictures(bench, one)
    assert len(made) == 62
    assert torch.equal(made[:29], pictures(bench, a)[:29])
    assert torch.equal(made[33:], pictures(bench, b)[4:])
    assert "a cross-fade in linear light over 4 frames from 0:01.8; 62 frames" in caplog.text


def test_shots_of_different_sizes_are_not_spliced(bench: Bench) -> None:
    small, vae = bench.rollout(length=9.0)
    wide, _ = bench.rollout(length=9.0, width=48)
    with pytest.raises(BadInput, match="32x32 and 48x32"):
        bench.run(
            "LongtakeSpliceRollouts",
            first=frames(bench, small, vae),
            second=frames(bench, wide, vae),
        )


@pytest.mark.parametrize("node", ["LongtakeCompareRollouts", "LongtakeSpliceRollouts"])
def test_a_rate_that_is_written_with_two_decimals_is_the_same(bench: Bench, node: str) -> None:
    images = torch.rand(5, 32, 32, 3)
    written, exact, other = (
        bench.run("LongtakeImagesToFrames", images=images, fps=fps)[0]
        for fps in (29.97, 30000 / 1001, 30.0)
    )
    names = ("first", "second") if "Splice" in node else ("frames_a", "frames_b")
    [joined] = bench.run(node, **dict(zip(names, (written, exact), strict=True)))
    assert joined.fps == 29.97
    with pytest.raises(BadInput, match=r"have 29\.97 and 30 frames per second"):
        bench.run(node, **dict(zip(names, (written, other), strict=True)))
