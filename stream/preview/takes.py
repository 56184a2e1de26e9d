"""Takes by their tokens: one budget of bytes for all, the oldest finished ones go first.

A token is the only way to a take; it cannot be guessed, and no client names a file.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..lazy.frame_chunk import Pictures
from ..rollout.controls import Controls
from .blobs import BlobStore
from .jpeg import pack_frames
from .messages import Emit, Ending, Origin, Shot
from .take import Take, TakeStorage


@dataclass(frozen=True, slots=True)
class Limits:
    """What all takes together may use. 10 minutes of 832x480 at 16 fps are about 700 MB."""

    ram_bytes: int = 256 * 2**20
    disk_bytes: int = 8 * 2**30
    takes: int = 32  # beside those that still run
    finished_s: float = 24 * 3600.0  # how long a finished take can be watched


class Takes:
    """The store of takes. Finding one has no effect on anything; `folder` is asked when needed."""

    def __init__(
        self,
        folder: Callable[[], Path],
        limits: Limits = Limits(),
        *,
        encode: Callable[[Pictures], bytes] = pack_frames,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._folder = folder
        self._encode = encode
        self._clock = clock
        self._store = BlobStore(limits.ram_bytes, limits.disk_bytes)
        self._takes: dict[str, Take] = {}  # oldest first
        self._lock = threading.Lock()

    @property
    def ram_bytes(self) -> int:
        """Bytes of frames in memory."""
        return self._store.ram_bytes

    @property
    def disk_bytes(self) -> int:
        """Bytes of frames in files."""
        return self._store.disk_bytes

    @property
    def waiting_bytes(self) -> int:
        """Bytes of frames that are not encoded yet; each take has a room of its own for them."""
        with self._lock:
            takes = list(self._takes.values())
        return sum(take.waiting_bytes for take in takes)

    def create(
        self, shot: Shot, origin: Origin, emit: Emit, controls: Controls | None = None
    ) -> Take:
        """Begin a take, letting old ones go that are over; `emit` is called on several threads."""
        folder = self._folder() / "longtake" / secrets.token_hex(8)  # not the token: names are seen
        take = Take(
            TakeStorage(self._store, folder, self._encode, self._clock),
            shot,
            origin,
            emit,
            controls,
        )
        with self._lock:
            gone = self._no_longer_kept()
            for old in gone:
                del self._takes[old.token]
            self._takes[take.token] = take
        for old in gone:
            old.drop()
        take.announce()  # now that it can be found
        return take

    def get(self, token: str) -> Take | None:
        """The take, unless it was never there or is gone."""
        with self._lock:
            take = self._takes.get(token)
        return None if take is None or self._expired(take) else take

    def of_client(self, client_id: str) -> list[Take]:
        """The newest take of each node that was queued by that page."""
        with self._lock:
            takes = list(self._takes.values())
        mine = [t for t in takes if t.origin.client_id == client_id and not self._expired(t)]
        return list({take.origin.node_id: take for take in mine}.values())

    def reset(self) -> None:
        """Let everything go and end all threads."""
        with self._lock:
            takes, self._takes = list(self._takes.values()), {}
        for take in takes:
            take.drop()
            take.finish(Ending("interrupted"))
            take.join()

    def _expired(self, take: Take) -> bool:
        ended_at = take.ended_at
        return ended_at is not None and self._clock() - ended_at > self.limits.finished_s

    def _no_longer_kept(self) -> list[Take]:
        over = [take for take in self._takes.values() if take.ended_at is not None]
        too_many = max(0, len(self._takes) + 1 - self.limits.takes)
        return [take for i, take in enumerate(over) if i < too_many or self._expired(take)]
