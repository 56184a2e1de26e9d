"""Plays the pictures of one live address to all its viewers, at the rate of the video.

A broadcast reads what the player shows. It never waits for a viewer, and the run never waits for a
broadcast. Where the run is slower than its own frame rate, the last picture is held.
"""

from __future__ import annotations

import io
import threading

from PIL import Image

from ..preview.messages import Shot
from ..preview.take import Take
from ..video.frame_rate import exact_rate
from ..video.sound.reading import Samples
from .encoder import LiveEncoder, LivePacket
from .jitter import JitterBuffer
from .take_reader import NewestTake, TakeReader
from .take_sound import TakeSound
from .viewers import Viewer

JITTER_S = 0.5
MAX_BEHIND_S = 10.0  # then the broadcast goes on at the newest picture
REPEAT_S = 1.0  # a held picture is sent again, so that a viewer that left is noticed


class Broadcast:
    """A frame rate, a size, and viewers, which may come and go on any thread."""

    def __init__(self, newest: NewestTake, shot: Shot) -> None:
        self.rate = exact_rate(shot.fps)
        self._size = (shot.width, shot.height)
        self._form = _form(shot)
        self._reader = TakeReader(newest, MAX_BEHIND_S)
        self._jitter = JitterBuffer(JITTER_S)
        self._jpeg: bytes | None = None  # the picture that was shown last
        self._blank = _black(self._size)  # stands before it
        self._is_cut = False  # whether the next picture is the first of a further run
        self._since_sent = 0  # ticks since the picture was sent
        self._heard: tuple[Take, TakeSound] | None = None
        self._encoder: LiveEncoder | None = None
        self._group: list[LivePacket] = []  # since the latest key frame
        self._viewers: dict[Viewer, bool] = {}  # whether a viewer has received anything
        self._left: list[Viewer] = []  # not closed yet, since only the broadcast's thread may
        self._lock = threading.Lock()

    def join(self, viewer: Viewer) -> None:
        """Show everything from the next tick on to `viewer` too."""
        with self._lock:
            self._viewers[viewer] = False

    def leave(self, viewer: Viewer) -> None:
        """Show nothing more to `viewer`; leaving twice is harmless."""
        with self._lock:
            if self._viewers.pop(viewer, None) is not None:
                self._left.append(viewer)
        viewer.queue.end()

    @property
    def viewers(self) -> list[Viewer]:
        """All viewers that have not left."""
        with self._lock:
            return list(self._viewers)

    def tick(self, now: float) -> bool:
        """Show the next picture, or the last one again, at second `now`; False at the end.

        The end comes when the newest run has another size or frame rate, or when no take is left.
        """
        self._close_left()
        before = self._reader.take
        take = self._reader.follow()
        self._is_cut |= before is not None and self._reader.take is not before
        if take is None or _form(take.shot) != self._form:
            return False
        plays = self._jitter.may_play(now, self._reader.waiting)
        jpeg = self._reader.next() if plays else None
        is_played = jpeg is not None
        if self._jpeg is None and not is_played:  # the first one stands until others may follow it
            jpeg = self._reader.peek()
        self._jpeg = jpeg or self._jpeg
        with self._lock:
            viewers = dict(self._viewers)
            self._viewers = dict.fromkeys(viewers, True)
        self._show_pictures(viewers, is_new=jpeg is not None)
        self._show_video(viewers, jpeg, is_played=is_played)
        self._is_cut &= not is_played
        for viewer in viewers:
            viewer.queue.wake()
        return True

    def close(self) -> None:
        """Let all viewers go and free the encoder; call this after the last tick."""
        for viewer in self.viewers:
            self.leave(viewer)
        self._close_left()
        self._drop_encoder()

    def _close_left(self) -> None:
        """Free the muxers of viewers that left: these are cycles, which Python frees late."""
        with self._lock:
            left, self._left = self._left, []
        for viewer in left:
            viewer.close()

    def _show_pictures(self, viewers: dict[Viewer, bool], *, is_new: bool) -> None:
        self._since_sent += 1
        is_due = is_new or self._since_sent >= REPEAT_S * self.rate
        for viewer, is_old in viewers.items():
            if is_due or not is_old:
                viewer.show(self._jpeg or self._blank)
        self._since_sent = 0 if is_due else self._since_sent

    def _show_video(
        self, viewers: dict[Viewer, bool], jpeg: bytes | None, *, is_played: bool
    ) -> None:
        """Encode the picture of this tick once, if anybody needs it, and its sound if it plays."""
        watching = {viewer: is_old for viewer, is_old in viewers.items() if viewer.wants_video}
        if not watching:
            self._drop_encoder()
            return
        if self._encoder is None:
            self._encoder, jpeg = LiveEncoder(*self._size, self.rate), self._jpeg or self._blank
        samples = self._samples(*self._encoder.awaited_sound) if is_played else None
        packets = self._encoder.encode(jpeg, samples, is_cut=self._is_cut and is_played)
        for packet in packets:
            self._group = [packet] if packet.is_key else [*self._group, packet]
        for viewer, is_old in watching.items():
            viewer.feed(self._encoder, packets if is_old else self._group)

    def _samples(self, ahead: int, count: int) -> Samples | None:
        """`count` samples, from `ahead` after the picture just read; None without sound."""
        take = self._reader.take
        if self._heard is not None and self._heard[0] is not take:
            self._drop_sound()
        sound = None if take is None else take.sound  # which another thread may take away
        if self._heard is None and take is not None and sound is not None:
            self._heard = take, TakeSound(sound, self.rate)
        return self._heard and self._heard[1].read(self._reader.number, count, ahead)

    def _drop_sound(self) -> None:
        if self._heard is not None:
            self._heard[1].close()
            self._heard = None

    def _drop_encoder(self) -> None:
        self._drop_sound()
        if self._encoder is not None:
            self._encoder.close()
            self._encoder, self._group = None, []


def _form(shot: Shot) -> tuple[float, int, int]:
    return shot.fps, shot.width, shot.height


def _black(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, format="JPEG")
    return file.getvalue()
