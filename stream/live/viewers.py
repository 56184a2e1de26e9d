"""What one viewer of a live address receives: bytes in a queue with a limit."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Protocol

from .encoder import LiveEncoder, LivePacket
from .muxer import Container, LiveMuxer

MAX_WAITING_BYTES = 4 * 2**20
BOUNDARY = "longtake"


class ByteQueue:
    """Bytes from the thread of a broadcast to the event loop of a server.

    A reader who leaves more than `max_bytes` waiting is dropped: the queue ends.
    """

    def __init__(self, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self.is_slow = False
        self._max_bytes = max_bytes
        self._waiting = bytearray()
        self._ended = False
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether no bytes will follow."""
        return self._ended

    def write(self, content: bytes, /) -> int:
        """Append bytes, which the reader gets after `wake`."""
        with self._lock:
            if not self._ended:
                self._waiting += content
            if len(self._waiting) > self._max_bytes:
                self.is_slow = self._ended = True
                self._waiting.clear()
        return len(content)

    def wake(self) -> None:
        """Let the reader know of new bytes, or of the end."""
        with suppress(RuntimeError):  # the server's loop has ended, and the reader with it
            self._loop.call_soon_threadsafe(self._news.set)

    def end(self) -> None:
        """End the queue after the bytes that wait."""
        self._ended = True
        self.wake()

    async def read(self) -> bytes | None:
        """All bytes that wait, at least one; None after the end."""
        while True:
            self._news.clear()
            with self._lock:
                content = bytes(self._waiting)
                self._waiting.clear()
            if content or self._ended:
                return content or None
            await self._news.wait()


class Viewer(Protocol):
    """Turns what a broadcast shows into the bytes of a format."""

    @property
    def queue(self) -> ByteQueue:
        """Where the bytes go."""

    @property
    def wants_video(self) -> bool:
        """Whether the viewer needs encoded pictures."""

    def show(self, jpeg: bytes) -> None:
        """Take the picture of this tick."""

    def feed(self, encoder: LiveEncoder, packets: list[LivePacket]) -> None:
        """Take the packets of this tick, the first time all since the latest key frame."""

    def close(self) -> None:
        """Free all resources, after the last picture and the last packets."""


class VideoViewer:
    """A viewer of MP4 or MPEG-TS."""

    wants_video = True

    def __init__(self, container: Container, queue: ByteQueue) -> None:
        self.queue = queue
        self._container: Container = container
        self._muxer: LiveMuxer | None = None

    def show(self, jpeg: bytes) -> None:
        """Ignore the JPEG picture."""

    def feed(self, encoder: LiveEncoder, packets: list[LivePacket]) -> None:
        """Wrap the packets for this viewer."""
        if self._muxer is None:
            self._muxer = LiveMuxer(self._container, encoder, self.queue)
        for packet in packets:
            self._muxer.mux(packet)

    def close(self) -> None:
        """Free the muxer; its last bytes go nowhere."""
        muxer, self._muxer = self._muxer, None
        if muxer is not None:
            muxer.close()


class PictureViewer:
    """A viewer of motion JPEG: the player's own JPEG files, as parts of a body without an end."""

    wants_video = False

    def __init__(self, queue: ByteQueue) -> None:
        self.queue = queue

    def show(self, jpeg: bytes) -> None:
        """Send the picture as the next part."""
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        self.queue.write(head.encode() + jpeg + b"\r\n")

    def feed(self, encoder: LiveEncoder, packets: list[LivePacket]) -> None:
        """Ignore the encoded pictures."""

    def close(self) -> None:
        """There is nothing to free."""
