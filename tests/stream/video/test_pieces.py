"""Laws of unfinished videos: a later run adds to them, and the result is as if it had been one."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from longtake.errors import StorageError
from longtake.machine.temporary_files import temporary_name
from longtake.stream.lazy.frame_chunk import to_pictures
from longtake.stream.video import pieces as pieces_module
from longtake.stream.video.codecs import AV1, FFV1, H265, PRORES_HQ, VP9, Encoding
from longtake.stream.video.contact_sheet import ContactSheet
from longtake.stream.video.fragments import MATROSKA_CLUSTER
from longtake.stream.video.piece_reader import PieceReader
from longtake.stream.video.pieces import begin_log, find_log
from longtake.stream.video.sound.in_memory import SoundInMemory
from longtake.stream.video.spec import PNGFrames, VideoFormat, VideoSpec
from longtake.stream.video.writer import open_video
from longtake.tests.support.clips import beeps

SOUND = SoundInMemory(torch.from_numpy(beeps(4, 44100))[None], 44100)
CASES: list[tuple[VideoFormat, str, SoundInMemory | None]] = [
    (Encoding(), "x_00001_.mp4", None),
    (Encoding(), "x_00001_.mp4", SOUND),
    (Encoding(FFV1), "x_00001_.mkv", None),
    (Encoding(FFV1), "x_00001_.mkv", SOUND),
    (PNGFrames(), "x_00001_frames", None),
]
OTHERS: list[tuple[VideoFormat, str, SoundInMemory | None]] = [
    (Encoding(H265, bits=10), "x_00001_.mp4", SOUND),
    (Encoding(AV1), "x_00001_.mp4", SOUND),
    (Encoding(VP9), "x_00001_.webm", SOUND),
]
COUNTS = (9, 12, 12, 12)


def chunk(index: int, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(index)
    return torch.rand(COUNTS[index], 3, 33, width, generator=generator)


def key(index: int) -> str:
    return f"key {index}"


def write(path: Path, spec: VideoSpec, indices: Sequence[int], *, complete: bool) -> None:
    """Add chunks to a video, or begin it."""
    log = find_log(path, spec, key, len(COUNTS)) if indices[0] else begin_log(path, spec)
    assert log is not None and len(log.pieces) == indices[0]
    video = open_video(log.video, spec, log)
    for index in indices:
        video.write(chunk(index, spec.width), key(index))
    video.close(complete=complete)


def content(path: Path) -> dict[str, bytes]:
    """The bytes of a video; of Matroska without the header, which has a random number."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    parts = {file.name: file.read_bytes() for file in files}
    if path.suffix in (".mkv", ".webm"):
        return {name: part[part.index(MATROSKA_CLUSTER) :] for name, part in parts.items()}
    return parts


@pytest.mark.some_cases(5)
@pytest.mark.parametrize(("codec", "name", "sound"), [*CASES, *OTHERS])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_video_in_two_runs_is_the_same_as_in_one(
    tmp_path: Path, codec: VideoFormat, name: str, sound: SoundInMemory | None, cut: int
) -> None:
    whole, parts = tmp_path / "whole" / name, tmp_path / "parts" / name
    spec = VideoSpec(48, 33, 16, codec, sound, {"prompt": "{}"})
    write(whole, spec, range(4), complete=True)
    write(parts, spec, range(cut), complete=False)
    write(parts, spec, range(cut, 4), complete=True)
    assert content(parts) == content(whole)
    assert [path.name for path in parts.parent.iterdir()] == [name]


def test_a_prores_video_in_two_runs_is_the_same_as_in_one(tmp_path: Path) -> None:
    """Four macroblocks wide: where their number is odd, FFmpeg's encoder gives random bytes."""
    spec = VideoSpec(64, 33, 16, Encoding(PRORES_HQ, bits=10), SOUND)
    whole, parts = tmp_path / "whole" / "x_1_.mov", tmp_path / "parts" / "x_1_.mov"
    write(whole, spec, range(4), complete=True)
    write(parts, spec, range(2), complete=False)
    write(parts, spec, range(2, 4), complete=True)
    assert content(parts) == content(whole)


@pytest.mark.some_cases(2)
@pytest.mark.parametrize(("codec", "name", "sound"), CASES)
def test_what_a_kill_leaves_is_cut_off_and_made_again(
    tmp_path: Path, codec: VideoFormat, name: str, sound: SoundInMemory | None
) -> None:
    """Whole pieces stay; torn ones, also in the middle, end what is used."""
    spec = VideoSpec(48, 33, 16, codec, sound)
    write(tmp_path / "whole" / name, spec, range(4), complete=True)
    chance = random.Random(5)
    for trial in range(6):
        path = tmp_path / str(trial) / name
        write(path, spec, range(3), complete=False)
        log_path = path.with_name(f".{name}.pieces")
        if path.is_file():
            data = bytearray(path.read_bytes())
            if trial % 2:
                data[chance.randrange(len(data) // 2, len(data))] ^= 1
            path.write_bytes(data[: -chance.randrange(1, len(data) // 2) or None])
        else:
            (path / f"frame_{chance.randrange(10, 33):06}.png").unlink()
        if trial > 3:
            log_path.write_bytes(log_path.read_bytes()[: -chance.randrange(1, 40)])
        log = find_log(path.with_name(name.replace("1", "2")), spec, key, 4)
        start = len(log.pieces) if log else 0
        assert start < 3
        log = log or begin_log(path, spec)
        with open_video(log.video, spec, log) as video:
            for index in range(start, 4):
                video.write(chunk(index), key(index))
        assert content(path) == content(tmp_path / "whole" / name), trial


SAME = VideoSpec(48, 33, 16)


@pytest.mark.parametrize(
    ("name", "spec", "key_of"),
    [
        ("y_00002_.mp4", SAME, key),
        ("x_00002_.mkv", SAME, key),
        ("x_00002_.mp4", VideoSpec(48, 32, 16), key),
        ("x_00002_.mp4", VideoSpec(48, 33, 24), key),
        ("x_00002_.mp4", VideoSpec(48, 33, 16, Encoding(crf=20)), key),
        ("x_00002_.mp4", VideoSpec(48, 33, 16, sound=SOUND), key),
        ("x_00002_.mp4", SAME, lambda index: f"other {index}"),
        ("x_00002_.mp4", SAME, lambda index: key(index) if index < 2 else "edited"),
        ("x_00002_.mp4", SAME, lambda index: key(index) if index < 2 else None),
    ],
)
def test_another_video_is_never_added_to(
    tmp_path: Path, name: str, spec: VideoSpec, key_of: Callable[[int], str | None]
) -> None:
    path = tmp_path / "x_00001_.mp4"
    write(path, SAME, range(3), complete=False)
    before = content(path)
    assert find_log(tmp_path / name, spec, key_of, None) is None
    assert content(path) == before
    assert find_log(tmp_path / "x_00002_.mp4", SAME, key, None) is not None


def test_a_lossless_video_is_added_to_by_the_same_prompt_only(tmp_path: Path) -> None:
    """Its texts are those of the first run; an MP4 gets those of the last."""
    for codec, name, same in (
        (Encoding(FFV1), "x_1_.mkv", False),
        (Encoding(), "x_1_.mp4", True),
    ):
        first = VideoSpec(48, 33, 16, codec, None, {"prompt": "{}", "workflow": "1"})
        later = VideoSpec(48, 33, 16, codec, None, {"prompt": "{}", "workflow": "2"})
        other = VideoSpec(48, 33, 16, codec, None, {"prompt": '{"1": {}}'})
        write(tmp_path / name, first, range(2), complete=False)
        found = find_log(tmp_path / name, other, key, None)
        assert (found is not None) is same
        if found is not None:
            found.close(complete=False)
        write(tmp_path / name, later, range(2, 4), complete=True)


def test_a_video_that_another_run_writes_is_left_alone(tmp_path: Path) -> None:
    log = begin_log(tmp_path / "x_1_.mp4", SAME)
    with open_video(log.video, SAME, log) as video:
        video.write(chunk(0), key(0))
        video.flush()
        assert find_log(tmp_path / "x_2_.mp4", SAME, key, None) is None
    assert find_log(tmp_path / "x_2_.mp4", SAME, key, None) is None  # complete


def test_what_a_kill_at_the_end_left_is_removed_by_the_next_run(tmp_path: Path) -> None:
    """The copy with its index at the front is as large as the video."""
    write(tmp_path / "x_1_.mp4", SAME, range(4), complete=False)
    half = tmp_path / temporary_name("x_1_.mp4", 999_999_999, 1)
    half.write_bytes(b"half")
    assert find_log(tmp_path / "x_2_.mp4", SAME, lambda index: "other", None) is None
    assert not half.exists()
    log = find_log(tmp_path / "x_2_.mp4", SAME, key, 4)
    assert log is not None and len(log.pieces) == 3  # there is always something to add


@pytest.mark.parametrize("name", ["x_1_.mp4", "x_1_frames"])
def test_a_video_that_a_kill_left_empty_is_begun_again(tmp_path: Path, name: str) -> None:
    video = tmp_path / name
    spec = SAME if name.endswith("mp4") else replace(SAME, format=PNGFrames())
    begin_log(video, spec)._lock.delete()  # the process is gone
    video.touch() if name.endswith("mp4") else video.mkdir()
    write(tmp_path / name.replace("1", "0"), spec, [0, 1], complete=False)
    log = find_log(tmp_path / name.replace("1", "2"), spec, key, 4)
    assert log is not None and len(log.pieces) == 2  # rather this
    log.close(complete=False)
    log = find_log(tmp_path / name.replace("1", "2"), spec, lambda index: "other", 4)
    assert log is not None and (log.video, log.pieces) == (video, [])
    assert find_log(tmp_path / name.replace("1", "2"), spec, lambda index: "other", 4) is None
    with open_video(log.video, spec, log) as written:
        written.write(chunk(0), "other")
    assert content(video) and not video.with_name(f".{name}.pieces").exists()


def test_a_damaged_or_foreign_log_is_no_log_and_one_without_video_goes(tmp_path: Path) -> None:
    write(tmp_path / "x_1_.mp4", SAME, range(2), complete=False)
    path = tmp_path / ".x_1_.mp4.pieces"
    head, *lines = path.read_text().splitlines()
    bad = ['{"key": 1}', "[]", "x", '{"key": "key 0", "frames": "9", "size": 1, "checksum": 1}']
    contents = [
        "",
        "[" * 100_000,
        "\udcff",
        "{}\n" + lines[0],
        *("\n".join([head, line, ""]) for line in bad),
    ]
    for text in contents:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        assert find_log(tmp_path / "x_2_.mp4", SAME, key, None) is None
    (tmp_path / "x_1_.mp4").unlink()
    assert find_log(tmp_path / "x_2_.mp4", SAME, key, None) is None and not path.exists()


def test_a_log_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    log = begin_log(tmp_path / "x_1_.mp4", SAME)
    monkeypatch.setattr(pieces_module, "_checksum", fail)
    with (
        pytest.raises(StorageError, match="pieces cannot be written .No space left on device."),
        open_video(log.video, SAME, log) as video,
    ):
        video.write(chunk(0), key(0))


@pytest.mark.parametrize("before", ["nothing", "pieces", "an empty video"])
def test_a_run_that_found_a_full_disk_does_not_keep_the_video_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    def begin() -> pieces_module.PieceLog:
        log = find_log(tmp_path / "x_2_.mp4", SAME, key, None)
        return log or begin_log(tmp_path / "x_2_.mp4", SAME)

    if before == "pieces":
        write(tmp_path / "x_1_.mp4", SAME, range(2), complete=False)
    elif before == "an empty video":
        begin_log(tmp_path / "x_1_.mp4", SAME)._lock.delete()
        (tmp_path / "x_1_.mp4").touch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        with pytest.raises(StorageError, match="No space left") as failure:
            begin()
    log = begin()  # the host still holds the failure, and so all that it names
    assert log.video.name == ("x_2_.mp4" if before == "nothing" else "x_1_.mp4")
    assert len(log.pieces) == 2 * (before == "pieces") and failure.traceback
    log.close(complete=False)


@pytest.mark.some_cases(2)
@pytest.mark.parametrize(("codec", "name", "sound"), CASES)
def test_a_contact_sheet_goes_on_where_the_video_does(
    tmp_path: Path, codec: VideoFormat, name: str, sound: SoundInMemory | None
) -> None:
    spec = VideoSpec(48, 33, 16, codec, sound)
    write(tmp_path / name, spec, range(3), complete=False)
    log = find_log(tmp_path / name, spec, key, None)
    assert log is not None
    for columns, rows in itertools.product((1, 2, 3, 8), (1, 2)):
        whole = ContactSheet(fps=16, columns=columns, rows=rows, tile_width=48)
        later = ContactSheet(fps=16, columns=columns, rows=rows, tile_width=48)
        for index in range(4):
            whole.add(to_pictures(chunk(index)))
        later.add_earlier(log.frames, PieceReader(log, spec).picture)
        later.add(to_pictures(chunk(3)))
        pairs = list(zip(whole._kept, later._kept, strict=True))
        assert [a[0] for a, _ in pairs] == [b[0] for _, b in pairs]
        exact = codec != Encoding()
        for (_, a), (_, b) in pairs:
            apart = np.abs(np.asarray(a, int) - np.asarray(b, int)).mean()
            assert apart <= (0.01 if exact else 60), apart
    log.close(complete=False)


@pytest.mark.parametrize("name", ["x_1_.mp4", "x_1_.mov"])
def test_the_letters_of_a_box_in_the_workflow_are_no_box(tmp_path: Path, name: str) -> None:
    encoding = Encoding(PRORES_HQ, bits=10) if name.endswith("mov") else Encoding()
    spec = VideoSpec(64, 33, 16, encoding, SOUND, {"prompt": '{"text": "a moof by a traf"}'})
    write(tmp_path / name, spec, range(3), complete=False)
    log = find_log(tmp_path / name, spec, key, None)
    assert log is not None
    reader = PieceReader(log, spec)
    with av.open(tmp_path / name) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for number in (0, 8, 9, 20, 21, 32):
        picture = to_pictures(reader.picture(number)[None])[0]
        assert np.array_equal(picture, frames[number][:33])
    log.close(complete=False)


def damage_middle(video: Path, log: pieces_module.PieceLog) -> None:
    """Damage the second piece, after the log was verified."""
    if video.is_dir():
        (video / "frame_000010.png").write_bytes(b"no picture")
        file = video / "frame_000012.png"
        file.write_bytes(file.read_bytes()[:300])
        (video / "frame_000014.png").unlink()
    else:
        first, second, *_ = (piece.size for piece in log.pieces)
        data = video.read_bytes()
        video.write_bytes(data[:first] + bytes(second - first) + data[second:])


@pytest.mark.parametrize(("codec", "name"), [(case[0], case[1]) for case in CASES if not case[2]])
def test_a_thumbnail_that_cannot_be_read_is_black(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: VideoFormat, name: str
) -> None:
    spec = VideoSpec(48, 33, 16, codec)
    write(tmp_path / name, spec, range(3), complete=False)
    log = find_log(tmp_path / name, spec, key, None)
    assert log is not None
    damage_middle(tmp_path / name, log)
    sheet = ContactSheet(fps=16, columns=8, rows=5)
    with caplog.at_level(logging.WARNING, "longtake"):
        sheet.add_earlier(log.frames, PieceReader(log, spec).picture)
    black = {number for number, tile in sheet._kept if not np.asarray(tile).any()}
    assert black == ({10, 12, 14} if (tmp_path / name).is_dir() else {*range(9, 21)})
    [record] = caplog.records
    assert f"of the unfinished video {tmp_path / name} cannot be read" in record.getMessage()
    log.close(complete=False)
