"""Laws of the report: every field, always; rates by their definitions."""

import json
import math
import re
from array import array
from dataclasses import fields
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import StorageError
from longtake.stream import metrics
from longtake.stream.metrics import Meter, Report, peak_rss_bytes, percentile, versions
from longtake.versions import pack_version

# DESIGN.md, section 7
DESIGN_FIELDS = [
    "rollout_id", "frames", "latent_frames", "width", "height", "fps_target", "model_load_s",
    "first_frame_s", "frames_per_s", "chunk_interval_p50_s", "chunk_interval_p95_s", "kv_bytes",
    "kv_bytes_planned", "peak_rss_bytes", "peak_vram_bytes", "model_evals", "attention_density",
    "ann_recall", "dense_fallbacks", "drift", "resumed_from_chunk", "edits", "output_files",
    "versions",
]  # fmt: skip
LATENCIES = [
    "block_latency_s", "real_time_factor", "continuous_play_rate", "switch_cost_s",
    "generator_factor", "stage_factor",
]  # fmt: skip


def metered(durations: list[float], frames: int = 12) -> Meter:
    """A meter after chunks that took `durations` in seconds."""
    ticks = accumulate(durations, initial=100.0)
    meter = Meter(clock=lambda: next(ticks))
    for _ in durations:
        meter.chunk_done(frames=frames, latent_frames=3)
    return meter


def test_the_report_has_the_fields_of_the_design_and_latencies_and_unknown_is_null() -> None:
    written = json.loads(Report().to_json())
    assert [name for name in written if name not in LATENCIES] == DESIGN_FIELDS
    assert [*written] == [field.name for field in fields(Report)]
    assert [name for name in written if name not in DESIGN_FIELDS] == LATENCIES
    assert set(written.values()) == {None}


def test_a_report_survives_json(tmp_path: Path) -> None:
    report = Report(rollout_id="é", frames=3, drift=0.25, edits=[], versions={"torch": None})
    assert Report.from_json(report.to_json()) == report
    assert Report.from_json('{"frames": 3, "of_a_later_version": 1}') == Report(frames=3)
    report.save(tmp_path / "report.json")
    assert Report.from_json((tmp_path / "report.json").read_text(encoding="utf-8")) == report


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_non_finite_values_become_null(value: float) -> None:
    assert json.loads(Report(drift=value).to_json())["drift"] is None


def test_an_unwritable_report_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / "no" / "report.json"))):
        Report().save(tmp_path / "no" / "report.json")


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=50),
    st.sampled_from([0.0, 5.0, 50.0, 95.0, 100.0]),
)
def test_percentile_equals_numpys(values: list[float], percent: float) -> None:
    expected = float(np.percentile(values, percent))
    assert percentile(array("d", values), percent) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_rates_by_definition() -> None:
    durations = [0.5, 0.25, 0.125, 1.0, 0.25]
    meter = metered(durations)
    assert (meter.frames, meter.latent_frames) == (60, 15)
    assert meter.first_frame_s == 0.5
    assert meter.frames_per_s == 60 / sum(durations)
    assert meter.chunk_interval_p50_s == np.percentile(durations[1:], 50)
    assert meter.chunk_interval_p95_s == pytest.approx(np.percentile(durations[1:], 95))
    assert meter.eta_s(120) == pytest.approx(sum(durations))
    assert meter.eta_s(10) == 0


@pytest.mark.parametrize("chunks", [0, 1])
def test_unknown_rates_are_none(chunks: int) -> None:
    meter = metered([0.5] * chunks)
    assert meter.chunk_interval_p50_s is meter.chunk_interval_p95_s is None
    assert (meter.first_frame_s is None) == (meter.frames_per_s is None) == (chunks == 0)
    assert (meter.eta_s(100) is None) == (chunks == 0)


def test_the_meter_completes_known_facts() -> None:
    report = metered([0.5, 0.5]).report(Report(rollout_id="r", width=96, kv_bytes=7))
    assert (report.rollout_id, report.width, report.kv_bytes) == ("r", 96, 7)
    assert (report.frames, report.frames_per_s, report.chunk_interval_p50_s) == (24, 24.0, 0.5)
    assert report.versions == versions() and report.drift is None


def test_a_report_names_the_pack_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in ComfyUI, whose Python knows packages only, and not custom_nodes."""
    monkeypatch.setattr(metrics, "version_of", lambda name: None)
    assert versions()["longtake"] == pack_version() and pack_version()[0].isdigit()


def test_facts_about_the_process_are_plausible() -> None:
    peak = peak_rss_bytes()
    assert peak is not None and 2**20 < peak < 2**42
    assert {"python", "torch", "av"} <= versions().keys() and versions()["torch"]
