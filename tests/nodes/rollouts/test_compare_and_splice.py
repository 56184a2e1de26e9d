"""Compare and Splice Rollouts under the stand-in host."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.stream.drive.drive import Steer
from longtake.stream.incoming.inlet import Wish
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
def test_stop_ends_all_shots_of_a_comparison(bench: Bench, tmp_path: Path, length: float) -> None:
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


def joined(bench: Bench, node: str, *lengths: float) -> tuple[Any, list[Any]]:
    """Shots of these lengths in one video, and each alone."""
    first, vae = bench.rollout(length=lengths[0])
    rollouts = [first, *(bench.rollout(length=each, seed=9)[0] for each in lengths[1:])]
    shots = [frames(bench, rollout, vae) for rollout in rollouts]
    names = ("first", "second") if "Splice" in node else ("frames_a", "frames_b")
    return bench.run(node, **dict(zip(names, shots, strict=True)))[0], shots


def newest_take() -> Any:
    from longtake.nodes.runtime.session import session

    return list(session.takes._takes.values())[-1]


NODES = ["LongtakeCompareRollouts", "LongtakeSpliceRollouts"]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("chunk", [0, 2])
def test_pause_holds_every_shot_also_where_the_first_has_ended(
    bench: Bench, node: str, chunk: int
) -> None:
    """The first makes one chunk; the second then goes on alone."""
    both, shots = joined(bench, node, 9.0, 45.0)
    states, made = list[str](), list[int]()

    def look() -> None:
        made.append(sum(shot.rollout.run.delivered for shot in shots))
        states.append(newest_take().state)

    def pause() -> None:
        assert newest_take().controls.obey(1, lambda controls: controls.pause())
        for wait_s in (0.4, 0.8):
            threading.Timer(wait_s, look).start()
        resume = newest_take().controls.obey
        threading.Timer(1.0, resume, (2, lambda controls: controls.resume())).start()

    ask_at(bench, chunk, pause)
    asyncio.run(bench.side_by_side(("LongtakePreview", {"frames": both})))
    assert states == ["paused"] * 2 and made[0] == made[1]
    assert [shot.controls.state for shot in shots] == ["done"] * 2
    assert all(shot.controls.paused_s > 0.3 for shot in shots)


@pytest.mark.parametrize("node", NODES)
def test_a_stop_after_the_first_shot_is_called_one(bench: Bench, node: str) -> None:
    both, shots = joined(bench, node, 9.0, 0.0)
    ask_at(bench, 3, lambda: both.controls.stop())
    asyncio.run(bench.side_by_side(("LongtakePreview", {"frames": both})))
    newest_take().join()
    assert shots[0].controls.state == "done" and newest_take().state == "stopped"


def preview_and_save(bench: Bench, shown: object, saved: object) -> None:
    """Show one video while the pictures of one are saved as files."""
    save = {"filename_prefix": "x", "format": "png frames", "crf": 18, "sheet_and_report": False}
    asyncio.run(
        bench.side_by_side(
            ("LongtakePreview", {"frames": shown}), ("LongtakeSaveVideo", {"frames": saved, **save})
        )
    )


def test_a_stop_in_the_first_shot_of_a_splice_makes_nothing_of_the_second(
    bench: Bench, tmp_path: Path
) -> None:
    both, (first, second) = joined(bench, "LongtakeSpliceRollouts", 81.0, 81.0)
    ask_at(bench, 1, both.controls.stop)
    preview_and_save(bench, both, both)
    newest_take().join()
    assert newest_take().state == first.controls.state == second.controls.state == "stopped"
    assert second.rollout.run.delivered == 0
    assert len(list(tmp_path.glob("x_*/*.png"))) == newest_take().summary()["frames"] == 21


def test_a_shot_that_a_splice_reads_last_still_gives_its_other_outputs_a_chunk(
    bench: Bench, tmp_path: Path
) -> None:
    both, (_, second) = joined(bench, "LongtakeSpliceRollouts", 81.0, 81.0)
    ask_at(bench, 0, both.controls.stop)
    preview_and_save(bench, both, second)
    assert len(list(tmp_path.glob("x_*/*.png"))) == 9


@pytest.mark.parametrize("node", NODES)
def test_an_edit_of_several_shots_is_refused_and_says_where_to_make_it(
    bench: Bench, node: str
) -> None:
    """It would have reached the first shot alone."""
    both, shots = joined(bench, node, 33.0, 33.0)
    ask_at(bench, 0, lambda: both.controls.set_prompt("a blue ball"))
    asyncio.run(bench.side_by_side(("LongtakePreview", {"frames": both})))
    newest_take().join()
    [edit] = newest_take().manifest()["edits"]
    assert edit["status"] == "failed" and "connect a preview of its own to each" in edit["error"]
    assert [shot.controls.edits for shot in shots] == [()] * 2
    both.controls.drive.open(16.0)
    assert both.controls.drive.steer(Steer("page", 1)) == "several shots"


def test_a_shot_beside_a_file_or_beside_itself_keeps_its_edits(bench: Bench) -> None:
    shot = frames(bench, *bench.rollout(length=9.0))
    for other in (torch.rand(5, 32, 32, 3), shot):
        [both] = bench.run("LongtakeCompareRollouts", frames_a=other, frames_b=shot)
        assert both.controls is shot.controls


def test_a_pause_of_one_shot_shows_and_ends_with_that_shot(bench: Bench) -> None:
    """Both are made in turns: a shot that waits holds up the other."""
    both, (a, b) = joined(bench, "LongtakeCompareRollouts", 33.0, 33.0)
    b.controls.pause()
    assert both.controls.state == "paused" and a.controls.state == "running"
    b.controls.resume()
    assert both.controls.state == "running"
    b.controls.stop()
    assert both.controls.state == "running" and not both.controls.wants_stop


def test_a_page_sends_its_pictures_to_whichever_shot_wants_them(bench: Bench) -> None:
    both, (_, b) = joined(bench, "LongtakeCompareRollouts", 33.0, 33.0)
    assert both.controls.inlet.wish is None and not both.controls.inlet.put(b"jpeg")
    wish = Wish("webcam", 32, 32, 16.0)
    b.controls.inlet.ask(wish)
    assert both.controls.inlet.wish == wish
    assert both.controls.inlet.put(b"jpeg") and b.controls.inlet.take(0.0) == b"jpeg"
    assert both.controls.inlet.fail("lost") and b.controls.inlet.take(0.0) == "lost"


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
