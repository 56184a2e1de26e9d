"""Save Video (Stream): every format is a file of its codec, at the rate and depth that were set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import av
import pytest
import torch

from longtake.errors import BadInput
from longtake.headless.events import FileSaved
from longtake.nodes.outputs import video_formats
from longtake.tests.support.node_bench import Bench

FORMATS = [
    ("mp4 (h264)", "10", ".mp4", "h264", "yuv420p10le"),
    ("mp4 (h265)", "auto", ".mp4", "hevc", "yuv420p"),
    ("webm (vp9)", "auto", ".webm", "vp9", "yuv420p"),
    ("mov (prores 422 hq)", "auto", ".mov", "prores", "yuv422p10le"),
    ("mkv (lossless)", "auto", ".mkv", "ffv1", "bgr0"),
    ("gif", "auto", ".gif", "gif", "bgra"),
]


def save(bench: Bench, **choices: object) -> Path:
    bench.run("LongtakeSaveVideo", frames=bench.frames(), **choices)
    [video] = [e.path for e in bench.events if isinstance(e, FileSaved) and e.role == "video"]
    return video


@pytest.mark.parametrize(("format", "bits", "ending", "codec", "pixels"), FORMATS)
def test_a_format_gives_a_file_of_its_codec(
    bench: Bench, format: str, bits: str, ending: str, codec: str, pixels: str
) -> None:
    video = save(bench, format=format, bits=bits)
    with av.open(video) as container:
        stream = container.streams.video[0].codec_context
        assert (video.suffix, stream.name, stream.pix_fmt) == (ending, codec, pixels)


def test_another_frame_rate_keeps_the_length(bench: Bench) -> None:
    def facts(video: Path) -> tuple[float, int]:
        with av.open(video) as container:
            rate = float(container.streams.video[0].average_rate or 0)
            return rate, sum(1 for _ in container.decode(video=0))

    rate, count = facts(save(bench))
    bench.events.clear()
    assert facts(save(bench, fps=2 * rate)) == (2 * rate, 2 * count)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"format": "gif", "bits": "10"}, "gif has 8 bits of colour"),
        ({"format": "webm (vp9)", "bits": "10"}, "VP9 has 8 bits of colour; got 10"),
        ({"crf": 63}, "crf of H.264 must be from 0 to 51; got 63"),
    ],
)
def test_what_a_format_has_not_is_one_sentence(
    bench: Bench, choices: dict[str, object], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        save(bench, **choices)


@pytest.mark.parametrize(("format", "ending"), [("gif", ".gif"), ("webp (animated)", ".webp")])
def test_two_of_one_prefix_at_the_same_time_are_two_files(
    bench: Bench, format: str, ending: str
) -> None:
    """Their numbers are counted from what is in the folder."""
    calls = [
        ("LongtakeSaveVideo", {"frames": torch.rand(count, 32, 32, 3), "format": format})
        for count in (20, 40)
    ]
    asyncio.run(bench.side_by_side(*calls))
    names = sorted(path.name for path in bench.state.folders["output"].rglob("clip_*"))
    each = (ending, "report.json", "sheet.png")
    assert names == [f"clip_0000{number}_{end}" for number in (1, 2) for end in each]


def test_the_guide_names_the_formats_as_the_node_does() -> None:
    guide = (Path(__file__).parents[3] / "docs/guide/save_and_resume.md").read_text("utf-8")
    table = guide.split("| `format` | use it for |\n| --- | --- |\n")[1].split("\n\n")[0]
    names = [name for row in table.splitlines() for name in row.split(" | ")[0].split(", ")]
    assert sorted(name.removeprefix("| ") for name in names) == sorted(video_formats.FORMATS)
