"""The store of takes by token. All takes share one budget; the oldest finished ones go first.

A token is the only way to find a take. Tokens cannot be guessed, and clients never name files.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..lazy.frame_chunk import Pictures
from ..rollout.live.controls import Controls
from .blobs import BlobStore
from .jpeg import pack_frames
from .messages import Emit, Ending, Origin, Shot, TakeRecord
from .places import Places
from .take import Take, TakeStorage

KeyOf = Callable[[int], str | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for all takes together. 10 minutes of 832x480 at 16 fps take about 700 MB."""

    ram_bytes: int = 256 * 2**20
    disk_bytes: int = 8 * 2**30
    takes: int = 32  # not counting those that still run
    finished_s: float = 24 * 3600.0  # how long a finished take is kept


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a run shows: the key of each chunk, and how many may come from an earlier take."""

    key_of: KeyOf
    limit: int | None


class Takes:
    """The store of takes. Looking up a take changes nothing; `folder` is called when needed."""

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
        self._places = Places()
        self._expired = 0  # newest takes of a place that were dropped for their age
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
        """Bytes of frames that are not encoded yet; each take has a budget of its own for them."""
        with self._lock:
            takes = list(self._takes.values())
        return sum(take.waiting_bytes for take in takes)

    def create(
        self,
        shot: Shot,
        origin: Origin,
        emit: Emit,
        controls: Controls | None = None,
        earlier: Earlier | None = None,
    ) -> Take:
        """Start a take and drop finished ones over the limits. Any thread may call `emit`.

        With `earlier`, the take begins with the chunks of the last one of its node, if the run
        shows all of these again; it takes its place.
        """
        folder = self._folder() / "longtake" / secrets.token_hex(8)  # names are visible
        storage = TakeStorage(self._store, folder, self._encode, self._clock)
        with self._lock:
            live = self._places.token(origin.place)
        record = TakeRecord(secrets.token_urlsafe(16), live, shot, origin)
        take = Take(storage, record, emit, controls)
        with self._lock:
            for old in self._takes.values():
                if old.origin.place == origin.place or old.ended_at is not None:
                    old.sound = None  # a minute takes 20 MB, and held pictures are silent
            if earlier is not None:
                self._continue(take, shot, earlier)
            expired = self._over_limits()
            self._expired += self._count_expired(expired)
            for old in expired:
                del self._takes[old.token]
            self._takes[take.token] = take
        for old in expired:
            old.drop()
        take.announce()  # only now can it be found
        return take

    def get(self, token: str) -> Take | None:
        """The take with this token; None if it never existed or was dropped."""
        with self._lock:
            take = self._takes.get(token)
        return None if take is None or self._is_expired(take) else take

    @property
    def expirations(self) -> int:
        """How often a page's newest take of a node became too old; it never decreases.

        A host that caches what the node returned still names that take. It must run the node again.
        """
        with self._lock:
            return self._expired + self._count_expired(self._takes.values())

    def newest(self, live: str) -> Take | None:
        """The newest take at a live address; None if the token is unknown or no take is left."""
        with self._lock:
            place = self._places.place(live)
            takes = [take for take in self._takes.values() if take.origin.place == place]
        return takes[-1] if place is not None and takes else None

    def of_client(self, client_id: str) -> list[Take]:
        """The newest take of each node that the page `client_id` queued, refined ones too.

        The newest is last.
        """
        with self._lock:
            takes = list(self._takes.values())
        mine = [t for t in takes if t.origin.client_id == client_id and not self._is_expired(t)]
        newest = {take.origin.place: number for number, take in enumerate(mine)}
        return [mine[number] for number in sorted(newest.values())]

    def reset(self) -> None:
        """Drop all takes and end all threads."""
        with self._lock:
            takes, self._takes = list(self._takes.values()), {}
        for take in takes:
            take.drop()
            take.finish(Ending("interrupted"))
            take.join()

    def _continue(self, take: Take, shot: Shot, earlier: Earlier) -> None:
        """Begin a take with the chunks of the last one of its node."""
        ended = [old for old in self._takes.values() if old.ended_at is not None]
        mine = [old for old in ended if old.origin.place == take.origin.place]
        for old in reversed(mine):
            count = _count_shared(old, shot, earlier.key_of)
            shared = count if earlier.limit is None else min(count, earlier.limit)
            if shared > 0:
                self._expired += self._count_expired([old])
                del self._takes[old.token]
                take.take_over(old, shared)
                return

    def _count_expired(self, takes: Iterable[Take]) -> int:
        """Count those that are too old and the newest of their place."""
        newest = {take.origin.place: take for take in self._takes.values()}
        return sum(newest[t.origin.place] is t and self._is_expired(t) for t in takes)

    def _is_expired(self, take: Take) -> bool:
        ended_at = take.ended_at
        return ended_at is not None and self._clock() - ended_at > self.limits.finished_s

    def _over_limits(self) -> list[Take]:
        ended = [take for take in self._takes.values() if take.ended_at is not None]
        too_many = max(0, len(ended) + 1 - self.limits.takes)
        return [take for i, take in enumerate(ended) if i < too_many or self._is_expired(take)]


def _count_shared(old: Take, shot: Shot, key_of: KeyOf) -> int:
    """The number of chunks of an ended take, if a run shows all of it again; else 0."""
    same = (old.shot.width, old.shot.height, old.shot.fps) == (shot.width, shot.height, shot.fps)
    known = all(
        not chunk.blob.gone and chunk.key is not None and chunk.key == key_of(index)
        for index, chunk in enumerate(old.chunks)
    )
    return len(old.chunks) if same and known else 0
