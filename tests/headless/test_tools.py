"""The progress line, `longtake inspect` and `longtake doctor`."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from safetensors.torch import save_file

from longtake.headless import cli
from longtake.headless.commands import doctor
from longtake.headless.commands.inspect import inspect, lines
from longtake.headless.console.progress import Progress, describe, summary
from longtake.headless.console.reporting import print_files
from longtake.headless.events import (
    BarMoved,
    ChunkDone,
    Event,
    FileSaved,
    Notice,
    ReportShown,
    RunFiles,
    from_message,
    from_ui,
)
from longtake.headless.machine import free_memory_bytes, total_memory_bytes
from longtake.installation import Finding
from longtake.samplers.planning.cache_forms import CacheForm
from longtake.tests.support.model.family_files import header_only, official_shapes


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def shown(*steps: tuple[float, Event]) -> tuple[list[str], str]:
    """Return lines and printed text for events at the given times."""
    lines: list[str] = []
    text, now = io.StringIO(), Clock()
    progress = Progress(Console(file=text, soft_wrap=True), lines.append, now)
    for time_s, event in steps:
        now.time = time_s
        progress.handle(event)
    return lines, text.getvalue()


def test_the_line_shows_all_known_values() -> None:
    full = ChunkDone(2, 14, 33, first_frame_s=0.412, frames_per_s=61.96, eta_s=72.4)
    assert (
        describe(full)
        == "chunk 3/14 · 33 frames · 62.0 frames/s · first frame after 0.41 s · 1:12 left"
    )
    assert describe(ChunkDone(2)) == "chunk 3"


def test_the_summary_names_chunks_of_an_earlier_run() -> None:
    last = ChunkDone(13, 14, 165, frames_per_s=60.0, resumed_from_chunk=5)
    assert summary(last) == "14 chunks, 5 of them from an earlier run, 165 frames, 60.0 frames/s"


def test_a_finished_run_tells_its_latency_if_it_is_known() -> None:
    def printed(last: ChunkDone) -> list[str]:
        text, files = io.StringIO(), RunFiles()
        files.add(last)
        print_files(Console(file=text, soft_wrap=True), files, 2.0)
        return text.getvalue().splitlines()

    done = "Done in 2.0 s: 3 chunks."
    assert printed(ChunkDone(2)) == [done]
    assert printed(ChunkDone(2, latency="block latency 0.30 s")) == [
        done, "latency        block latency 0.30 s",
    ]  # fmt: skip


def test_without_chunk_events_time_left_comes_from_the_bar() -> None:
    lines, _ = shown((0.0, BarMoved("5", 1, 10)), (2.0, BarMoved("5", 2, 10)))
    assert lines == ["chunk 1/10", "chunk 2/10 · 0:16 left"]


def test_chunk_events_win_over_bars() -> None:
    lines, _ = shown((0.0, ChunkDone(0, 9)), (1.0, BarMoved("8", 1, 9)))
    assert lines == ["chunk 1/9"]


def test_a_video_is_announced_once_and_notices_are_not_markup() -> None:
    video = FileSaved("video", Path("a[b].mp4"))
    _, text = shown((0, video), (1, video), (2, Notice("[red]x")))
    assert text == "Writing a[b].mp4 (playable as it grows)\n[red]x\n"


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_an_animated_picture_is_not_called_playable_before_its_end(name: str) -> None:
    _, text = shown((0, FileSaved("video", Path(name))))
    assert text == f"Writing {name} (complete only at the end)\n"


def test_a_video_that_an_earlier_run_finished_is_not_called_one_that_is_written(
    tmp_path: Path,
) -> None:
    video = {"role": "video", "type": "output", "subfolder": "", "filename": "a.mp4"}
    listed = from_ui({"images": [video]}, {"output": tmp_path})
    assert listed == [FileSaved("video", tmp_path / "a.mp4")]
    assert shown(*((0, event) for event in listed))[1] == ""


def test_messages_become_events(tmp_path: Path) -> None:
    folders = {"output": tmp_path}
    file = {"role": "video", "type": "output", "subfolder": "a", "filename": "b.mp4"}
    assert from_message("longtake.file", file, folders) == FileSaved(
        "video", tmp_path / "a" / "b.mp4"
    )
    assert from_message("longtake.chunk", {"chunk": 1, "later": 2}, folders) == ChunkDone(1)
    assert from_message("status", {}, folders) is None


def test_only_output_files_of_a_ui_result_count(tmp_path: Path) -> None:
    images = [
        {"filename": "a.png", "subfolder": "", "type": "temp"},
        {"filename": "b.png", "subfolder": "s", "type": "output"},
    ]
    ui = {"images": images, "animated": (True,), "text": ["hello"]}
    assert from_ui(ui, {"output": tmp_path}) == [FileSaved("frames", tmp_path / "s" / "b.png")]


def test_a_report_in_a_ui_result_is_shown() -> None:
    shown = [ReportShown({"frames": 201, "kv_bytes": 7})]
    assert from_ui({"longtake_report": ['{"frames": 201, "kv_bytes": 7}']}, {}) == shown


def test_inspect_says_what_how_and_how_much(tmp_path: Path) -> None:
    shapes = {f"model.{name}": shape for name, shape in official_shapes("1.3B").items()}
    found = inspect(header_only(tmp_path / "self_forcing_dmd.safetensors", shapes))
    text = "\n".join(lines(found))
    assert "Self-Forcing (self-forcing)" in text and "Apache-2.0" in text
    assert "dim 1536, ffn 8960, 12 heads, 30 layers, 16 channels in, 16 out, text 4096" in text
    assert "chunks of 3, steps 1000 750 500 250 (re-noise, shift 5), window 18 + sink 0" in text
    assert "its name has 'self_forcing'" in text


def test_inspect_plans_memory_by_the_published_figures(tmp_path: Path) -> None:
    """1.3B at 832x480: 1560 tokens a latent frame, 30 layers of 1536 keys and values in bf16; the
    VAE's state was measured in the core as 1.89e9 bytes.
    """
    path = header_only(tmp_path / "self_forcing_dmd.safetensors", official_shapes("1.3B"), "F32")
    plan = inspect(path)["memory"]["480p"]
    assert plan["frame_tokens"] == 1560
    assert plan["kv_frame_bytes"] == 1560 * 1536 * 2 * 2 * 30
    assert plan["kv_bytes"] == plan["kv_frame_bytes"] // 2 * (18 + 21 + 21)  # keys, values, rotated
    assert plan["weight_bytes"] == inspect(path)["numbers"] * 2  # fp32 on disk, bf16 in memory
    assert abs(plan["vae_bytes"] - 1.89e9) < 0.01e9


def test_inspect_says_which_cards_hold_which_form_of_the_cache(tmp_path: Path) -> None:
    """The authors' cache holds 21 latent frames of keys and values: 5.6 GB."""
    found = inspect(header_only(tmp_path / "self_forcing_dmd.safetensors", official_shapes("1.3B")))
    plan, forms = found["memory"]["480p"], found["cache_forms"]["480p"]
    frame = plan["kv_frame_bytes"]
    assert round(21 * frame / 2**30, 1) == 5.6
    by_name = {form["name"]: form for form in forms}
    full, lean = by_name["as computed"], by_name["keys rotated in every pass"]
    assert full["kv_bytes"] == plan["kv_bytes"]
    assert lean["kv_bytes"] == frame * (18 + 21) // 2 + frame // 60 * 21  # one layer's rotated keys
    assert lean["kv_bytes"] < 21 * frame  # less than the authors', whose window counts the chunk
    sizes = [form["total_bytes"] for form in forms]
    assert sizes == sorted(sizes, reverse=True)
    text = "\n".join(lines(found))
    for form in forms:
        whole, offloading = CacheForm(**form).cards()
        for gb in (8, 12, 16, 24):
            assert (gb in whole) == (form["total_bytes"] + 2**29 <= gb * 2**30)
            assert (gb in [*whole, *offloading]) == (form["least_bytes"] + 2**29 <= gb * 2**30)
        assert f"480p, {form['name']}: KV cache" in text
    assert 12 not in CacheForm(**full).cards()[0] and 12 in CacheForm(**lean).cards()[0]


def test_inspect_counts_the_kv_cache_of_both_models_of_a_pair(tmp_path: Path) -> None:
    """Wan 2.2 A14B is two models of Wan 2.1 14B's size, which take turns on the card."""
    names = "wan2.1_t2v_14B.safetensors", "wan2.2_t2v_high_noise_14B.safetensors"
    single, pair = (inspect(header_only(tmp_path / n, official_shapes("14B"))) for n in names)
    for one, both in zip(*(x["cache_forms"]["480p"] for x in (single, pair)), strict=True):
        assert both["kv_bytes"] == 2 * one["kv_bytes"]
        assert both["total_bytes"] - one["total_bytes"] == one["kv_bytes"]
    text = "\n".join(lines(pair))
    assert "the second model below noise level 0.875, all of the past" in text
    assert re.search(r"weights [\d.]+ GB of this file, KV cache [\d.]+ GB of both models", text)
    assert "of each), VAE" in text and "join both on the canvas" in text


def test_inspect_plans_a_memory_bank(tmp_path: Path) -> None:
    """Window, bank and one more frame; values and rotated keys also hold a chunk."""
    path = header_only(tmp_path / "memflow_base.safetensors", official_shapes("1.3B"))
    plan = inspect(path)["memory"]["480p"]
    assert plan["kv_bytes"] == plan["kv_frame_bytes"] // 2 * (13 + 16 + 16)
    assert "window 9 + sink 3 + memory bank 3," in "\n".join(lines(inspect(path)))


def test_inspect_of_a_5b_model_counts_its_larger_patches(tmp_path: Path) -> None:
    path = header_only(tmp_path / "wan2.2_ti2v_5B.safetensors", official_shapes("5B"))
    plan = inspect(path)["memory"]["720p"]
    assert (plan["width"], plan["height"], plan["frame_tokens"]) == (1280, 704, 880)


def test_inspect_as_json_is_whole_and_a_refusal_is_exit_code_1(tmp_path: Path) -> None:
    path = header_only(tmp_path / "krea.safetensors", official_shapes("14B"))
    result = CliRunner().invoke(cli.main, ["inspect", str(path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.output)["key"] == "krea-realtime"
    other = tmp_path / "other.safetensors"
    save_file({"unet.weight": torch.zeros(2)}, other)
    result = CliRunner().invoke(cli.main, ["inspect", str(other)])
    assert result.exit_code == 1 and "is no Wan-family model" in result.output


def test_inspect_says_how_much_of_a_file_is_missing(tmp_path: Path) -> None:
    path = header_only(tmp_path / "x.safetensors", {"a": (100,)})
    path.write_bytes(path.read_bytes()[:-100])
    result = CliRunner().invoke(cli.main, ["inspect", str(path)])
    assert (
        result.exit_code == 1 and "is cut short by 100 bytes; download it again." in result.output
    )


def test_doctor_finds_this_installation_usable(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path, None)
    subjects = {finding.subject: finding for finding in findings}
    assert subjects["torch"].text == torch.__version__
    assert subjects["output"].state == "ok" and subjects["ComfyUI"].state == "note"
    assert "--watch" in subjects["aiohttp"].text  # which has no player without it
    assert [finding.text for finding in findings if finding.subject == "encoder"] == [
        "h264 (MP4 video)",
        "ffv1 (lossless MKV video)",
    ]


def test_doctor_fails_on_what_would_fail_a_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["doctor", "--out", __file__, "--comfy", str(tmp_path)])
    assert result.exit_code == 1
    assert "bad  output" in result.output and "bad  ComfyUI" in result.output


@pytest.mark.parametrize(("worst", "code"), [("ok", 0), ("note", 0), ("bad", 1)])
def test_only_what_is_bad_is_an_exit_code_of_doctor(
    monkeypatch: pytest.MonkeyPatch, worst: str, code: int
) -> None:
    findings = [Finding("ok", "torch", "here"), Finding(worst, "ffmpeg", "says [this]")]
    monkeypatch.setattr(doctor, "examine", lambda out, comfy: findings)
    result = CliRunner().invoke(cli.main, ["doctor"])
    assert result.exit_code == code
    assert result.output.splitlines()[1] == f"{worst:4} ffmpeg       says [this]"


def test_an_unknown_suite_names_the_known_ones() -> None:
    result = CliRunner().invoke(cli.main, ["bench", "no_such_suite"])
    assert result.exit_code == 2 and "There is no benchmark suite 'no_such_suite'" in result.output


def test_bench_without_a_suite_lists_each_with_its_question() -> None:
    result = CliRunner().invoke(cli.main, ["bench"])
    assert result.exit_code == 0
    listed = {line.split()[0]: line for line in result.output.splitlines()}
    assert {"core", "drive", "memory"} <= set(listed) and "_shared" not in listed
    assert all(len(line.split()) > 3 for line in listed.values())


def test_an_installation_without_benchmarks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "longtake.benchmarks", None)
    result = CliRunner().invoke(cli.main, ["bench", "core"])
    assert result.exit_code == 1 and "use Longtake's git repository" in result.output


def test_free_memory_is_less_than_all_of_it() -> None:
    assert 0 < free_memory_bytes() < total_memory_bytes()
