"""Video files into shots and out of them: read as they are wanted, with their own sound."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from longtake.errors import BadInput
from longtake.headless.hosts.stand_in.modules import VideoFromFile
from longtake.stream.metrics import Report
from longtake.tests.support.clips import beeps, heard, numbers, open_files, write_clip
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.video_nodes import RATE, read, save, shot, video


def collect_frames(bench: Bench, frames: Any) -> torch.Tensor:
    return bench.collect(frames)


def trimmed(given: VideoFromFile) -> Any:
    """A VIDEO as the host trims it: the second that begins after one second."""
    return type("Cut", (), {
        "get_stream_source": lambda _: given.file, "get_active_trim_window": lambda _: (1.0, 1.0),
        "get_duration": lambda _: 1.0,
    })()  # fmt: skip


def test_frames_and_sound_are_those_of_the_file(bench: Bench, tmp_path: Path) -> None:
    frames, audio = read(bench, video(tmp_path), start=1.0, length=1.5)
    assert (frames.width, frames.height, frames.fps, frames.frame_total) == (48, 32, 16, 24)
    images = collect_frames(bench, frames)
    assert numbers(images.movedim(-1, 1)) == [*range(16, 40)]
    assert (audio["sample_rate"], audio["waveform"].shape) == (RATE, (1, 2, RATE * 3 // 2))


@pytest.mark.parametrize(("sides", "sentence"), [
    ({"width": 7}, "width is 7; set a multiple of 16 from 16 to 16384."),
    ({"height": 500}, "height is 500, not a multiple of 16; use 496 or 512."),
])  # fmt: skip
def test_a_side_that_no_shot_can_have_is_refused_where_it_is_set(
    bench: Bench, tmp_path: Path, sides: dict[str, int], sentence: str
) -> None:
    """A link gives any number; the video became 16 wide, and a later node named the sizes."""
    with pytest.raises(BadInput) as refusal:
        read(bench, video(tmp_path, 1), **sides)
    assert str(refusal.value) == sentence
    frames, _ = read(bench, video(tmp_path, 1), width=64, height=0)
    assert (frames.width, frames.height) == (64, 32)


def test_what_the_hosts_video_leaves_out_is_left_out(bench: Bench, tmp_path: Path) -> None:
    cut = trimmed(video(tmp_path))
    for inputs, expected in (({}, range(16, 32)), ({"start": -0.5}, range(24, 32)),
                             ({"start": 0.25, "length": 9.0}, range(20, 32))):  # fmt: skip
        frames, audio = read(bench, cut, **inputs)
        assert numbers(collect_frames(bench, frames).movedim(-1, 1)) == [*expected]
        assert audio["waveform"].shape[2] == len(expected) * RATE // 16


@pytest.mark.parametrize(("start", "length"), [(1.0, 0.0), (1.5, 0.0), (1.5, 0.5), (3.0, 0.5)])
def test_nothing_is_read_beyond_what_the_hosts_video_leaves_in(
    bench: Bench, tmp_path: Path, start: float, length: float
) -> None:
    with pytest.raises(
        BadInput, match=f"1.00 s long and .* from {start:g} s on; choose an earlier"
    ):
        read(bench, trimmed(video(tmp_path)), start=start, length=length)


def test_a_silent_video_has_no_audio(bench: Bench, tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", 16, size=(48, 32))
    assert read(bench, VideoFromFile(str(tmp_path / "x.mp4")))[1] is None


@pytest.mark.parametrize("format", ["mp4 (h264)", "mkv (lossless)"])
def test_a_video_continued_keeps_its_pictures_and_its_sound(
    bench: Bench, tmp_path: Path, format: str
) -> None:
    """Its last second is encoded, a shot begins with it, and the two are spliced where they meet:
    the file has every picture of the given one, then new ones, under the given sound.
    """
    given = video(tmp_path)
    frames, audio = read(bench, given)
    end, _ = read(bench, given, start=-17 / 16)
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [latent] = bench.run("LongtakeVAEEncode", pixels=end, vae=vae)
    rollout = shot(bench, 3.0, latent)
    [made] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    [joined] = bench.run("LongtakeSpliceRollouts", first=frames, second=made, overlap=17,
                         method="best cut")  # fmt: skip
    path = save(bench, joined, audio, format=format)
    sound = heard(path)
    assert abs(sound.shape[1] - 3 * RATE) < 1024
    error = sound[:, : 3 * RATE] - beeps(3, RATE)[:, : sound.shape[1]]
    assert (error**2).mean() < 1e-2 * (beeps(3, RATE) ** 2).mean()
    with av.open(path) as container:
        pictures = [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
    assert len(pictures) == 48 - 17 + made.frame_total
    report = Report.from_json(path.with_name(f"{path.stem}report.json").read_text())
    assert (report.frames, report.latent_frames) == (len(pictures), rollout.latent_frames)
    kept = torch.from_numpy(np.stack(pictures[:31])).movedim(-1, 1).float() / 255
    assert numbers(kept) == [*range(31)]


def test_sound_of_another_node_is_taken_too(bench: Bench, tmp_path: Path) -> None:
    frames, _ = read(bench, video(tmp_path), length=1.0)
    wave = torch.from_numpy(beeps(1, 44100))[None]
    path = save(bench, frames, {"waveform": wave, "sample_rate": 44100}, format="mkv (lossless)")
    assert np.abs(heard(path) - wave[0].numpy()).max() < 1e-6


def test_a_report_has_the_frames_and_the_rate_of_its_file(bench: Bench, tmp_path: Path) -> None:
    frames, _ = read(bench, video(tmp_path), length=1.0)
    path = save(bench, frames, None, fps=8.0)
    report = Report.from_json(path.with_name(f"{path.stem}report.json").read_text())
    with av.open(path) as container:
        assert len([*container.decode(video=0)]) == report.frames == 8
    assert report.fps_target == 8


def test_a_folder_of_pictures_says_that_it_has_no_sound(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    said: list[str] = []
    monkeypatch.setattr(host, "warn", lambda node, text: said.append(text))
    frames, audio = read(bench, video(tmp_path, 1))
    bench.run("LongtakeSaveVideo", frames=frames, audio=audio, format="png frames")
    assert said == ["png frames has no sound; choose mp4, webm, mov or mkv."]


@pytest.mark.parametrize(("level", "start"), [(0.5, 0.0), (0.0, 0.0), (0.3, 0.75)])
def test_a_known_video_is_the_same_as_its_frames_encoded_before(
    bench: Bench, tmp_path: Path, level: float, start: float
) -> None:
    frames, _ = read(bench, video(tmp_path, 2), length=33 / 16)
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [latent] = bench.run("LongtakeVAEEncode", pixels=frames, vae=vae)
    [before] = bench.run("LongtakeKnownFrames", latent=latent, level=level, start=start)
    [coming] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=level, start=start)
    made = []
    for known in (before, coming):
        rollout = shot(bench, 2.5, known, seed=3)
        made.append(torch.cat([chunk.latents for chunk in rollout.chunks]))
    torch.testing.assert_close(made[1], made[0], rtol=1e-5, atol=1e-5)


def test_a_video_longer_than_the_shot_is_redrawn_as_far_as_the_shot_goes(
    bench: Bench, tmp_path: Path
) -> None:
    frames, _ = read(bench, video(tmp_path, 3))
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=0.5)
    assert shot(bench, 1.0, known).latent_frames == 6
    assert frames.meter is None  # nothing is read before it is wanted


def test_chunks_of_a_known_video_are_found_again_and_not_those_of_another(
    bench: Bench, tmp_path: Path
) -> None:
    keys = []
    files = {seconds: video(tmp_path, seconds, f"{seconds}.mp4") for seconds in (2, 1.5)}
    for seconds, level in ((2, 0.5), (2, 0.5), (1.5, 0.5), (2, 0.4)):
        frames, _ = read(bench, files[seconds])
        _, _, vae = bench.run("LongtakeLoadDemoModel")
        [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=level)
        keys.append(shot(bench, 1.0, known).spec.key(1))
    assert keys[0] == keys[1] and len({*keys}) == 3


def test_another_rate_and_generated_frames_are_refused(bench: Bench, tmp_path: Path) -> None:
    frames, _ = read(bench, video(tmp_path, 1), fps=12.0)
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=0.5)
    with pytest.raises(BadInput, match="at 12 frames per second and the model makes 16"):
        shot(bench, 1.0, known)
    with pytest.raises(BadInput, match="these are generated"):
        bench.run("LongtakeKnownVideo", frames=bench.frames(), vae=vae, level=0.5)


def test_a_saved_shot_with_a_video_goes_on_without_the_video(bench: Bench, tmp_path: Path) -> None:
    """Its latents are in the file, under the names that they had; fork, bits and addresses too."""
    given = video(tmp_path, 2)
    frames, _ = read(bench, given)
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=0.5)
    rollout = shot(bench, 1.5, known)
    shown = bench.shown("LongtakeSaveRollout", rollout=rollout)
    name = f"longtake/{shown['longtake_files'][0]['filename']} [output]"
    whole = [one.latents for one in rollout.chunks]
    Path(given.file).unlink()
    for path in rollout.spec.journal.folder.iterdir():
        path.unlink()
    [loaded] = bench.run("LongtakeLoadRollout", file=name, model=model, clip=clip)
    assert loaded.spec.key(2) == rollout.spec.key(2) and loaded.settings.known_frames.sources == []
    for path in rollout.spec.journal.folder.glob("*.safetensors"):
        path.unlink()  # so that all is made again, of what the file knows
    again = [one.latents for one in loaded.chunks]
    assert len(again) == len(whole) == 3
    assert all(torch.equal(one, other) for one, other in zip(again, whole, strict=True))


def test_redrawing_a_long_video_holds_no_more_than_a_short_one(
    bench: Bench, tmp_path: Path
) -> None:
    """The encoded pictures that are kept, whatever the length; those before the window are not."""
    from longtake.nodes.known.known_video import KEPT_LATENTS

    frames, _ = read(bench, video(tmp_path, 24))
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=0.6)
    rollout = shot(bench, 24.0, known)
    source = known[-1].latents
    most = 0
    for _ in rollout.chunks:
        most = max(most, len(source._kept))
    assert source._reading._number >= 94 and most <= KEPT_LATENTS


def test_a_resumed_shot_reads_its_video_from_where_it_goes_on(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished chunks come from the journal; the file is read from as far before the next one as
    the encoder looks back, and the shot is bit for bit the uninterrupted one.
    """
    from longtake.nodes.models.streaming_vae import streaming_vae
    from longtake.nodes.runtime.session import session
    from longtake.stream.video.reading.reader import VideoReader

    given, found = video(tmp_path, 6), {}
    read_pictures: list[int] = []
    whole_read = VideoReader.read

    def reads(reader: VideoReader, count: int) -> torch.Tensor | None:
        pictures = whole_read(reader, count)
        read_pictures.append(0 if pictures is None else len(pictures))
        return pictures

    monkeypatch.setattr(VideoReader, "read", reads)
    made = {}
    for part, cut in (("begun", 5), ("resumed", None), ("whole", None)):
        session.reset()  # as after a restart
        frames, _ = read(bench, given)
        _, _, vae = bench.run("LongtakeLoadDemoModel")
        [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=0.6)
        rollout = shot(bench, 6.0, known)
        if part == "whole":
            shutil.rmtree(rollout.spec.journal.folder)
            rollout = shot(bench, 6.0, known)
        read_pictures.clear()
        chunks = itertools.islice(rollout.chunks, cut)
        made[part] = torch.cat([chunk.latents for chunk in chunks])
        found[part] = rollout.resumed_from, sum(read_pictures)
    back = streaming_vae(vae).open_encoder().overlap_frames
    count, pictures = found["resumed"]
    assert count == 5 and found["whole"] == (None, 96)
    assert pictures <= 96 - 4 * (15 - back - 2)
    assert torch.equal(made["resumed"], made["whole"])


def test_a_preview_of_a_video_that_is_left_closes_its_file(bench: Bench, tmp_path: Path) -> None:
    frames, _ = read(bench, video(tmp_path, 3))
    cursor = iter(frames.chunks)
    next(cursor)
    assert open_files(tmp_path / "x.mkv") == 1
    del cursor
    assert open_files(tmp_path / "x.mkv") == 0


def test_the_vae_of_a_known_video_is_claimed_with_the_model(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    frames, _ = read(bench, video(tmp_path, 1))
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=0.6)
    rollout, claims = shot(bench, 1.0, known), []
    monkeypatch.setattr(host, "claim", lambda patchers, planned: claims.append([*patchers]))
    list(rollout.chunks)
    assert claims and all(vae.patcher in one for one in claims)


CANCELLED = """
    import sys
    from pathlib import Path
    import pytest
    from longtake.headless.hosts.stand_in.modules import VideoFromFile
    from longtake.tests.support.nodes import video_nodes
    from longtake.tests.support.node_bench import node_bench, tiny_demo
    folder, most = Path(sys.argv[1]), int(sys.argv[2])
    patch = pytest.MonkeyPatch()
    (folder / "demo").mkdir(exist_ok=True)
    with node_bench(folder / "out", tiny_demo(folder / "demo"), patch) as bench:
        frames, audio = video_nodes.read(bench, VideoFromFile(str(folder / "x.mkv")))
        _, _, vae = bench.run("LongtakeLoadDemoModel")
        [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae, level=0.6)
        rollout = video_nodes.shot(bench, 3.0, known)
        [made] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
        if most:
            import os, signal
            from longtake.stream.video.writer import VideoWriter
            written = VideoWriter.write
            def write(self, pictures, key):
                written(self, pictures, key)
                if self.frames_written >= most:
                    self.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
            VideoWriter.write = write
        print(video_nodes.save(bench, made, audio, format="mkv (lossless)"))
"""


def run(folder: Path, most: int) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(CANCELLED)
    conftest = str(Path(__file__).parents[2] / "conftest.py")
    boot = f"import runpy; runpy.run_path({conftest!r})\n"
    return subprocess.run(
        [sys.executable, "-c", boot + code, str(folder), str(most)], capture_output=True, text=True
    )


def test_killed_while_it_was_saved_the_next_run_gives_all_pictures_and_all_sound(
    tmp_path: Path,
) -> None:
    video(tmp_path)
    killed = run(tmp_path, 20)
    assert killed.returncode == -9, killed.stderr
    [part] = (tmp_path / "out").rglob("*.mkv")
    assert 0 < heard(part).shape[1] < 3 * RATE  # what was written is whole
    again = run(tmp_path, 0)
    assert again.returncode == 0, again.stderr
    path = Path(again.stdout.strip().splitlines()[-1])
    assert path == part  # it was added to
    assert np.abs(heard(path) - heard(tmp_path / "x.mkv")).max() < 1e-6
