"""The pictures of an NDI source as a live source."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import av

from ...errors import BadInput, LongtakeError
from ..ndi.input import NdiInput
from ..video.display.upright import PLAIN
from .connection import PictureClock, SourceLost

FIRST_S = 10.0  # sources show themselves one after another, and a connection begins slowly


class NdiSource:
    """The pictures of the NDI source that `name` means, until `ended` is set or `close`.

    `stall_s` is how long nothing may come, after the first picture. BadInput if no such source is
    there, several fit, or no first picture comes.
    """

    header, is_file = PLAIN, False

    def __init__(self, name: str, stall_s: float, ended: Event) -> None:
        self._stall_s, self._ended = stall_s, ended
        first_s = max(stall_s, FIRST_S)
        with _told(name, BadInput):
            self._input = NdiInput(name, first_s, ended)
        self.name = self._input.name
        self._clock = PictureClock()
        try:
            self._first = self._wait(BadInput, first_s)
        except BaseException:
            self.close()
            raise

    def next(self) -> tuple[float, av.VideoFrame] | None:
        """The next picture and its time in seconds; None if the source has gone.

        SourceLost if nothing comes any more.
        """
        first, self._first = self._first, None
        return first or self._wait(SourceLost, self._stall_s)

    def interrupt(self) -> None:
        """Nothing waits for longer than a picture takes once `ended` is set."""

    def close(self) -> None:
        """Let the source go."""
        self._input.close()

    def _wait(self, kind: type[Exception], patience_s: float) -> tuple[float, av.VideoFrame] | None:
        """The next picture; None if a source that has begun is gone, `kind` if none comes."""
        until = time.monotonic() + patience_s
        while True:
            with _told(self.name, kind):
                picture, is_connected = self._input.picture(), self._input.is_connected
            if picture is not None:
                return self._clock.time(picture[0]), picture[1]
            if kind is SourceLost and not is_connected:
                return None
            if self._ended.is_set() or time.monotonic() >= until:
                raise kind(
                    f"The NDI source {self.name} sent no picture for {patience_s:g} s; check "
                    "that it is running."
                )
            time.sleep(self._input.pause_s)


class NdiOpening:
    """Opens an NDI source, and after that the same one again, whatever else its name fits."""

    def __init__(self, name: str, stall_s: float) -> None:
        self._name, self._stall_s = name, stall_s

    def __call__(self, ended: Event) -> NdiSource:
        """The open source; BadInput if it cannot be opened."""
        source = NdiSource(self._name, self._stall_s, ended)
        self._name = source.name
        return source


@contextmanager
def _told(name: str, kind: type[Exception]) -> Iterator[None]:
    """Turn what NDI's library raises into one sentence: a source that is lost ends no run."""
    try:
        yield
    except LongtakeError:
        raise
    except ValueError as error:
        raise kind(
            f"The NDI source {name} cannot be read ({error}); let it send RGB or YUV of 8 bits."
        ) from error
    except Exception as error:  # the library has errors of its own
        raise kind(
            f"The NDI source {name} cannot be read, since NDI's library failed "
            f"({type(error).__name__}: {error}); check the source, or start its program anew."
        ) from error
