"""What Save Rollout puts extras a shot, and the folders that its files are found in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.errors import BadInput
from longtake.samplers.feature_caching import Evaluations
from longtake.stream.metrics import Meter, Report
from longtake.stream.rollout_file.file import SUFFIX, RolloutFile
from longtake.tests.support.model.vaes import wan22
from longtake.tests.support.node_bench import Bench


def reported(bench: Bench, folder: Path, rollout: Any) -> Report:
    """The report in the file that Save Rollout writes of a rollout."""
    shown = bench.shown("LongtakeSaveRollout", rollout=rollout)
    [entry] = shown["longtake_files"]
    report: Report = RolloutFile(folder / entry["subfolder"] / entry["filename"]).extras.report
    return report


def test_the_report_counts_and_times_what_was_made(bench: Bench, tmp_path: Path) -> None:
    rollout, _ = bench.rollout(length=33.0)
    report = reported(bench, tmp_path, rollout)
    assert (report.frames, report.latent_frames) == (33, 9)
    assert report.first_frame_s is not None and report.frames_per_s is not None
    assert report.chunk_interval_p50_s is not None


def test_the_report_counts_a_stopped_shot_as_far_as_it_is(bench: Bench, tmp_path: Path) -> None:
    rollout, _ = bench.rollout(length=57.0)
    rollout.controls.stop()
    report = reported(bench, tmp_path, rollout)
    assert (report.frames, report.latent_frames) == (9, 3)


def test_the_report_says_of_the_run_what_every_output_says(bench: Bench, tmp_path: Path) -> None:
    """But for times and files."""
    from longtake.nodes.rollouts.derive import derive_rollout

    rollout, vae = bench.rollout(length=33.0)
    kept = Sparsity(SparseSelf(min_keys=0, dense_layers=()))
    rollout = derive_rollout(rollout, replace(rollout.settings, sparsity=kept), "1")
    saved = reported(bench, tmp_path, rollout)
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    shown = frames.report([])
    for name in ("attention_density", "ann_recall", "dense_fallbacks"):
        assert getattr(saved, name) == getattr(shown, name)
    assert saved.attention_density is not None and saved.model_evals
    assert saved.versions == shown.versions
    assert saved.versions["attention"].startswith("Sparse self-attention: as requested")


@pytest.mark.parametrize(("channels", "factor"), [(16, 8), (48, 16)])
def test_the_report_has_the_size_of_the_pictures(bench: Bench, channels: int, factor: int) -> None:
    """A latent of Wan 2.2 covers 16 pixels to a side, one of Wan 2.1 half of that."""
    from longtake.nodes.rollouts import files

    rollout, _ = bench.rollout(width=48)
    config = replace(rollout.model.config, in_channels=channels, out_channels=channels)
    rollout.spec = replace(rollout.spec, model=replace(rollout.model, config=config))
    report = files._report(rollout, Meter(), Evaluations(), "x")
    assert (report.width, report.height) == (6 * factor, 4 * factor)


def test_a_vae_of_other_latents_is_refused_before_anything_is_made(
    bench: Bench, tmp_path: Path
) -> None:
    rollout, _ = bench.rollout()
    with pytest.raises(BadInput, match=r"48 latent channels \(Wan 2.2\), but the model has 16"):
        bench.shown("LongtakeSaveRollout", rollout=rollout, vae=wan22()[1])
    assert rollout.spec.stored_chunks() == 0 and not list(tmp_path.rglob(f"*{SUFFIX}"))


def test_a_link_to_a_file_that_is_gone_is_passed_over(bench: Bench, tmp_path: Path) -> None:
    """The list is made while the host loads the pack, which an error there would take down."""
    from longtake.nodes import host
    from longtake.nodes.rollouts.files import LoadRollout

    (tmp_path / f"x{SUFFIX}").symlink_to(tmp_path / "gone")
    (tmp_path / f"y{SUFFIX}").touch()
    assert host.saved_files(SUFFIX) == [f"y{SUFFIX} [output]"]
    assert LoadRollout.define_schema().inputs[0].options == [f"y{SUFFIX} [output]"]
