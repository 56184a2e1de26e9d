"""The guidance bench's measures on videos whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.benchmarks import guidance as suite
from longtake.benchmarks._guidance_plot import draw
from longtake.benchmarks._guided import (
    Measured,
    features,
    kernel_distance,
    motion,
    pictures,
)
from longtake.benchmarks.guidance import Findings, Plan, cases, distance, note
from longtake.samplers.rollout import Chunk
from longtake.tests.tiny_model import randn

CHUNKS = [Chunk(i, 3 * i, torch.zeros(3, 16, 2, 2)) for i in range(4)]  # 45 frames


def test_a_still_video_does_not_move_or_drift_and_a_fading_one_does() -> None:
    still = randn(1, 3, 16, 24).sigmoid().expand(45, -1, -1, -1)
    assert motion(still, CHUNKS[:1])["motion"] == 0
    assert all(v == pytest.approx(0, abs=1e-6) for k, v in pictures(still).items() if "of" in k)
    fading = still * torch.linspace(1, 0.5, 45).view(-1, 1, 1, 1)
    slope = pictures(fading)["slope of saturation per 100 frames"]
    saturation = (still[0].amax(0) - still[0].amin(0)).mean().item()
    assert slope == pytest.approx(-0.5 * saturation / 0.44, rel=1e-3)
    assert pictures(fading)["drift of contrast"] > 0.05


def test_the_seam_is_the_change_at_chunk_boundaries_over_the_change_inside() -> None:
    jumps = torch.ones(45)
    jumps[[9, 21, 33]] = 3.0  # the first frames of chunks 1, 2 and 3
    video = jumps.cumsum(0).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    assert motion(video, CHUNKS)["seam"] == pytest.approx(3.0)
    assert motion(video, CHUNKS)["motion, last over first"] == pytest.approx(1.0)


def test_a_video_that_freezes_is_seen() -> None:
    moving = randn(45, 3, 8, 8)
    frozen = torch.cat([moving[:30], moving[29:30].expand(15, -1, -1, -1)])
    assert motion(frozen, CHUNKS)["motion, last over first"] < 0.1


def test_the_kernel_distance_is_zero_on_average_for_equal_distributions_only() -> None:
    rng = np.random.default_rng(0)
    same = [kernel_distance(*rng.standard_normal((2, 20, 5))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 200**0.5
    assert kernel_distance(rng.standard_normal((50, 5)), 1 + rng.standard_normal((50, 5))) > 1


def test_segments_are_whole_and_described_by_three_numbers_a_channel() -> None:
    latents = randn(30, 4, 2, 2)
    found = features(latents)
    assert found.shape == (2, 12)
    assert found[0, :4] == pytest.approx(latents[:12].double().mean((0, 2, 3)).numpy())


def test_findings_are_paired_with_plain_cfg_saved_and_drawn(tmp_path: Path) -> None:
    findings = Findings(Plan(rollouts=4, seconds=10.0))
    rng = np.random.default_rng(0)
    reference = [rng.standard_normal((3, 6)) for _ in range(4)]
    keys = ("adherence", "adherence, last tenth", "drift of saturation", "drift of sharpness",
            "motion", "motion, last over first", "seam", "sharpness")  # fmt: skip
    findings.figures["truth"] = {"distance to truth": distance(reference[:2], reference[2:])}
    for name, more in ((suite.PLAIN, 0.0), ("temporal", 0.25)):
        made = [Measured(dict.fromkeys(keys, i + more), reference[i]) for i in range(4)]
        note(findings, name, made, reference)
    difference = findings.against_plain["temporal"]["motion"]
    assert (difference.mean, difference.low, difference.high) == (0.25, 0.25, 0.25)
    findings.save(tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["suite"] == "guidance" and saved["figures"]["temporal"]["motion"]["clips"] == 4
    pytest.importorskip("matplotlib")
    draw(findings, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_all_ways_of_guiding_are_compared_on_whole_chunks() -> None:
    assert {"none", "cfg", "vanilla 1.5", "temporal, exact", "context noise 0.3"} <= set(cases())
    assert Plan(seconds=60.0).latent_frames == 240 and Plan(seconds=3.5).latent_frames % 3 == 0
