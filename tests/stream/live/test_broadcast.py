"""A broadcast, tick by tick: pacing, viewers who join late or read slowly, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from longtake.stream.live.broadcast import JITTER_S, REPEAT_S, Broadcast
from longtake.stream.live.muxer import Container
from longtake.stream.live.viewers import BOUNDARY, ByteQueue, PictureViewer, VideoViewer, Viewer
from longtake.stream.preview.messages import Ending
from longtake.tests.support.stream.live_shot import LiveShot, jpeg_number, video_numbers
from longtake.tests.support.stream.live_site import MP4

FPS = 16.0
FIRST = [0] * int(JITTER_S * FPS)  # the first picture, which stands for the jitter buffer


class Stage:
    """A shot, and its broadcast under a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.shot = LiveShot(folder, FPS)
        self.broadcast = Broadcast(self.shot.newest, self.shot.take.shot)
        self.count = 0

    def play(self, ticks: int) -> bool:
        """Let time pass; whether the broadcast goes on."""
        goes_on = True
        for _ in range(ticks):
            goes_on = self.broadcast.tick(self.count / FPS)
            self.count += 1
        return goes_on

    def video(self, container: Container = "mpegts", max_bytes: int = 1 << 20) -> VideoViewer:
        """A viewer of video, from now on."""
        viewer = VideoViewer(container, ByteQueue(max_bytes))
        self.broadcast.join(viewer)
        return viewer

    def pictures(self) -> PictureViewer:
        """A viewer of JPEG pictures, from now on."""
        viewer = PictureViewer(ByteQueue())
        self.broadcast.join(viewer)
        return viewer


def on_stage(folder: Path, test: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a test on a stage; its store is empty afterwards."""

    async def run() -> None:
        stage = Stage(folder)
        try:
            await test(stage)
        finally:
            stage.shot.takes.reset()

    asyncio.run(run())


async def received(viewer: Viewer) -> bytes:
    """All bytes of a viewer until its queue ended."""
    parts = []
    while (content := await viewer.queue.read()) is not None:
        parts.append(content)
    return b"".join(parts)


def jpegs(content: bytes) -> list[int]:
    """The numbers of the pictures in a motion JPEG body."""
    parts = content.split(f"--{BOUNDARY}\r\n".encode())[1:]
    return [jpeg_number(part.split(b"\r\n\r\n", 1)[1]) for part in parts]


@pytest.mark.parametrize("container", [MP4, "mpegts"])
def test_a_viewer_who_joins_late_begins_at_the_latest_key_frame(
    tmp_path: Path, container: Container
) -> None:
    async def test(stage: Stage) -> None:
        stage.shot.add(40)
        early = stage.video(container)
        stage.play(28)  # key frames are a second apart: at ticks 0, 16 and 32
        late = stage.video(container)
        stage.play(16)
        stage.broadcast.close()
        seen = list(video_numbers(await received(early), container))
        assert len(seen) >= 42 and seen == [*FIRST, *range(36)][: len(seen)]
        joined = list(video_numbers(await received(late), container))
        assert len(joined) >= 26 and joined == [*range(16 - len(FIRST), 36)][: len(joined)]

    on_stage(tmp_path, test)


def test_a_viewer_sees_the_newest_chunk_at_once(tmp_path: Path) -> None:
    """Not black: its first picture stands until the jitter buffer lets the others pass."""

    async def test(stage: Stage) -> None:
        stage.shot.add(4)
        stage.shot.add(4)
        viewer, pictures = stage.video(), stage.pictures()
        stage.play(len(FIRST) + 4)
        stage.broadcast.close()
        seen = list(video_numbers(await received(viewer), "mpegts"))
        assert seen == [*[4] * len(FIRST), 4, 5, 6, 7]
        assert jpegs(await received(pictures)) == [4, 4, 5, 6, 7]

    on_stage(tmp_path, test)


def test_the_sound_waits_with_the_first_picture(tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        heard_at: list[int] = []
        stage.shot.add(4)
        stage.video()
        stage.broadcast._samples = lambda *_: heard_at.append(stage.count)  # type: ignore[method-assign]
        stage.play(len(FIRST) + 4)
        stage.broadcast.close()
        assert heard_at == [*range(len(FIRST), len(FIRST) + 4)]

    on_stage(tmp_path, test)


def test_where_the_run_is_slower_the_last_picture_is_held(tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        stage.shot.add(4)
        viewer = stage.video()
        stage.play(16)
        stage.shot.add(4)
        stage.play(16)
        stage.broadcast.close()
        seen = list(video_numbers(await received(viewer), "mpegts"))
        held = [3] * (16 - len(FIRST) - 4)
        assert seen == [*FIRST, 0, 1, 2, 3, *held, *[3] * len(FIRST), 4, 5, 6, 7, 7, 7, 7, 7]

    on_stage(tmp_path, test)


def test_a_viewer_of_pictures_gets_each_once_and_a_sign_of_life_while_they_stand(
    tmp_path: Path,
) -> None:
    async def test(stage: Stage) -> None:
        stage.shot.add(4)
        viewer = stage.pictures()
        stage.play(len(FIRST) + 4 + 2 * int(REPEAT_S * FPS))
        stage.broadcast.close()
        assert jpegs(await received(viewer)) == [0, 0, 1, 2, 3, 3, 3]

    on_stage(tmp_path, test)


def test_a_slow_viewer_is_let_go_and_the_others_miss_nothing(tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        stage.shot.add(40)
        slow, other = stage.video(max_bytes=20_000), stage.video()
        stage.play(48)
        assert slow.queue.is_slow and slow.queue.ended and await slow.queue.read() is None
        stage.broadcast.close()
        assert not other.queue.is_slow
        seen = list(video_numbers(await received(other), "mpegts"))
        assert seen == [*FIRST, *range(40)]

    on_stage(tmp_path, test)


def test_a_broadcast_holds_the_last_picture_between_runs_and_goes_on_with_the_next(
    tmp_path: Path,
) -> None:
    async def test(stage: Stage) -> None:
        stage.shot.add(4)
        viewer = stage.pictures()
        stage.play(len(FIRST) + 4)
        stage.shot.take.finish(Ending("done"))
        assert stage.play(4), "the run has ended, the address has not"
        stage.shot.run()
        stage.shot.add(4)
        stage.play(len(FIRST) + 4)
        stage.broadcast.close()
        assert jpegs(await received(viewer)) == [0, 0, 1, 2, 3, 4, 5, 6, 7]

    on_stage(tmp_path, test)


@pytest.mark.parametrize("container", [MP4, "mpegts"])
def test_what_was_buffered_before_an_edit_is_never_shown_once_the_edited_run_has_a_picture(
    tmp_path: Path, container: Container
) -> None:
    """Nor to a viewer who joins after it, within a second."""

    async def test(stage: Stage) -> None:
        stage.shot.add(40)
        viewer, watcher = stage.video(container), stage.pictures()
        stage.play(len(FIRST) + 3)  # key frames are a second apart
        stage.shot.run()  # edited: it has none of these pictures yet
        stage.play(2)
        stage.shot.add(8)
        stage.play(3)
        late = stage.video(container)
        stage.play(5)
        stage.broadcast.close()
        after = [*range(5), *range(40, 48)]
        assert jpegs(await received(watcher)) == [0, *after]
        for one, expected in ((viewer, [*FIRST, *after]), (late, [*range(40, 48)])):
            seen = list(video_numbers(await received(one), container))
            assert len(seen) >= len(expected) - 2  # of mp4, the last fragment is not whole
            assert seen == expected[: len(seen)]

    on_stage(tmp_path, test)


def test_a_run_of_another_size_ends_the_broadcast(tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        stage.shot.add(4)
        assert stage.play(4)
        stage.shot.size = (64, 64)
        stage.shot.run()
        assert not stage.play(1)

    on_stage(tmp_path, test)


def test_nothing_is_encoded_for_viewers_of_pictures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(stage: Stage) -> None:
        stage.shot.add(4)
        viewer = stage.pictures()
        stage.play(len(FIRST) + 4)
        stage.broadcast.close()
        assert jpegs(await received(viewer))

    def refuse(*_: object) -> None:
        raise AssertionError("no viewer needs video")

    monkeypatch.setattr("longtake.stream.live.broadcast.LiveEncoder", refuse)
    on_stage(tmp_path, test)
