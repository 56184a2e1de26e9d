"""The progress line, `longtake inspect` and `longtake doctor`."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.headless import cli, doctor
from longtake.headless.checkpoint_header import describe as describe_header
from longtake.headless.checkpoint_header import read_header
from longtake.headless.events import (
    BarMoved,
    ChunkDone,
    Event,
    FileSaved,
    Notice,
    from_message,
    from_ui,
)
from longtake.headless.machine import free_memory_bytes, total_memory_bytes
from longtake.headless.progress import Progress, clock, describe, summary


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def shown(*steps: tuple[float, Event]) -> tuple[list[str], str]:
    """Lines and printed text for events at given times."""
    lines: list[str] = []
    text, now = io.StringIO(), Clock()
    progress = Progress(Console(file=text, soft_wrap=True), lines.append, now)
    for time_s, event in steps:
        now.time = time_s
        progress.handle(event)
    return lines, text.getvalue()


def test_the_line_shows_what_is_known() -> None:
    full = ChunkDone(2, 14, 33, 165, first_frame_s=0.412, frames_per_s=61.96, eta_s=72.4)
    assert (
        describe(full)
        == "chunk 3/14 · 33 frames · 62.0 frames/s · first frame after 0.41 s · 1:12 left"
    )
    assert describe(ChunkDone(2)) == "chunk 3"


def test_the_summary_names_chunks_that_were_there_already() -> None:
    last = ChunkDone(13, 14, 165, 165, frames_per_s=60.0, resumed_from_chunk=5)
    assert summary(last) == "14 chunks, of which 5 were there already, 165 frames, 60.0 frames/s"


def test_hours_appear_only_when_there_are_some() -> None:
    assert [clock(one) for one in (0, 59.6, 3599, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]


def test_without_chunk_events_time_left_comes_from_the_bar() -> None:
    lines, _ = shown((0.0, BarMoved("5", 1, 10)), (2.0, BarMoved("5", 2, 10)))
    assert lines == ["chunk 1/10", "chunk 2/10 · 0:16 left"]


def test_chunk_events_win_over_bars() -> None:
    lines, _ = shown((0.0, ChunkDone(0, 9)), (1.0, BarMoved("8", 1, 9)))
    assert lines == ["chunk 1/9"]


def test_a_video_is_announced_once_and_notices_are_not_markup() -> None:
    video = FileSaved("video", Path("a[b].mp4"))
    _, text = shown((0, video), (1, video), (2, Notice("[red]x")))
    assert text == "Writing a[b].mp4 (playable while it grows)\n[red]x\n"


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


def wan_file(folder: Path, **extra: torch.Tensor) -> Path:
    tensors = {
        "head.modulation": torch.zeros(1, 2, 256),
        "patch_embedding.weight": torch.zeros(256, 16, 1, 2, 2),
        "blocks.0.ffn.0.weight": torch.zeros(512, 256),
        "blocks.3.self_attn.norm_q.weight": torch.zeros(256),
    }
    path = folder / "dit.safetensors"
    config = {"transformer": {"causal_ar": True, "num_heads": 4}}
    save_file({**tensors, **extra}, path, {"config": json.dumps(config)})
    return path


def test_inspect_reads_family_and_sizes_off_the_header(tmp_path: Path) -> None:
    path = wan_file(tmp_path, **{"blocks.0.img_k.weight": torch.zeros(1)})
    text = "\n".join(describe_header(read_header(path)))
    assert "Wan 2.1, marked causal" in text
    assert "dim 256, ffn 512, 4 heads, 4 layers, 16 latent channels" in text
    assert "4 known" in text and "1, for example blocks.0.img_k.weight" in text


def test_inspect_of_another_architecture_says_unknown(tmp_path: Path) -> None:
    save_file({"unet.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    lines = describe_header(read_header(tmp_path / "other.safetensors"))
    assert "family      unknown (first tensors: unet.weight)" in lines


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a safetensors file"),
        (b"PK\x03\x04\x14\x00\x08\x08" + bytes(60), "is not a safetensors file"),
        (struct.pack("<Q", 10) + b"not json!!", "no readable safetensors header"),
        (struct.pack("<Q", 2) + b"[]", "no readable safetensors header"),
    ],
)
def test_inspect_refuses_other_files(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        read_header(path)


def test_inspect_says_how_much_of_a_file_is_missing(tmp_path: Path) -> None:
    path = wan_file(tmp_path)
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
    assert [finding.text for finding in findings if finding.subject == "encoder"] == [
        "h264 (MP4 video)",
        "ffv1 (lossless MKV video)",
    ]


def test_doctor_fails_on_what_would_fail_a_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["doctor", "--out", __file__, "--comfy", str(tmp_path)])
    assert result.exit_code == 1
    assert "bad  output" in result.output and "bad  ComfyUI" in result.output


def test_an_unknown_suite_names_the_known_ones() -> None:
    result = CliRunner().invoke(cli.main, ["bench", "no_such_suite"])
    assert result.exit_code == 1 and "there is no benchmark suite 'no_such_suite'" in result.output


def test_free_memory_is_less_than_all_of_it() -> None:
    assert 0 < free_memory_bytes() < total_memory_bytes()
