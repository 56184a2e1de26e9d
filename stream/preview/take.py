"""A take: the encoded frames of one rollout, bounded, for browsers to fetch while it grows."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from ..lazy.frame_chunk import Pictures
from ..rollout.controls import Controls, Edit
from .blobs import Blob, BlobStore
from .frame_encoder import FrameEncoder
from .messages import (
    CHUNK_EVENT,
    TAKE_EVENT,
    Emit,
    Ending,
    Origin,
    PromptChange,
    Record,
    Shot,
    TakeFile,
    TakeRecord,
    TakeStats,
)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where a take keeps its bytes (a folder of its own), and how it makes and dates them."""

    store: BlobStore
    folder: Path
    encode: Callable[[Pictures], bytes]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Entry:
    """One chunk: its frames, the index of its prompt among the prompt changes, its bytes."""

    first_frame: int
    count: int
    prompt: int
    blob: Blob


class Take:
    """One rollout's frames.

    The thread that makes them calls `show` and `finish`, and never waits. All else may be called on
    any thread. The controls are never called with the records locked.
    """

    def __init__(
        self, shelf: Shelf, shot: Shot, origin: Origin, emit: Emit, controls: Controls | None
    ) -> None:
        self.ended_at: float | None = None
        self._shelf = shelf
        self._emit = emit
        self._controls = controls
        self._lock = threading.Lock()  # of the records below
        self._telling = threading.Lock()  # so that the newest state is told last
        self._record = TakeRecord(secrets.token_urlsafe(16), shot, origin)
        self._edits: tuple[Edit, ...] = ()  # once it is over, as the next
        self._last_message: str | None = None
        self._chunks: list[Entry] = []
        self._dropped = False
        self._closing = False
        self._encoder = FrameEncoder(self._fail, encode=shelf.encode)
        self._stop_listening = controls.listen(self.announce) if controls else None

    @property
    def token(self) -> str:
        """The one way to find this take."""
        return self._record.token

    @property
    def origin(self) -> Origin:
        """Who made it."""
        return self._record.origin

    # In: from the thread that makes the frames

    def show(self, frames: Tensor, first_frame: int, prompt: str, stats: TakeStats) -> None:
        """Add the next chunk of frames (n, 3, H, W) in [0, 1], not to be changed afterwards."""
        if not self._closing:
            publish = partial(self._publish, first_frame, len(frames), prompt, stats)
            self._encoder.put(frames, publish)

    def finish(self, ending: Ending) -> None:
        """No frames follow. The end is told once all are encoded; this does not wait for it."""
        if not self._closing:
            self._closing = True
            self._encoder.close(partial(self._finish, ending))

    def add_file(self, file: TakeFile) -> None:
        """Tell that the same frames were saved as a file."""
        with self._lock:
            self._record.files.append(file)
        self.announce()

    @property
    def files(self) -> tuple[TakeFile, ...]:
        """What `add_file` told of."""
        with self._lock:
            return tuple(self._record.files)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of frames that are not encoded yet."""
        return self._encoder.waiting_bytes

    def join(self) -> None:
        """Wait until everything is encoded, after `finish`."""
        self._encoder.join()

    def drop(self) -> None:
        """Let all frames go; a rollout that still runs goes on unseen."""
        with self._lock:
            self._dropped = True
            blobs = [entry.blob for entry in self._chunks]
        self._shelf.store.drop(blobs)
        with contextlib.suppress(OSError):  # never made, or not empty: the host empties its temp
            self._shelf.folder.rmdir()

    # Out: to browsers

    @property
    def state(self) -> str:
        """waiting, running, paused, stopping, or how it ended."""
        controls, ending = self._controls, self._record.ending
        if ending is not None:
            return ending.state
        asked = controls.state if controls else "running"
        if asked in ("paused", "stopping", "stopped"):  # it is stopped when all frames are here
            return "paused" if asked == "paused" else "stopping"
        return "running" if self._chunks else "waiting"

    @property
    def control_rev(self) -> int:
        """The newest control request obeyed."""
        return self._record.control_rev

    def control(self, rev: int, command: Callable[[Controls], None]) -> bool:
        """Obey `command` unless `rev` is not newer than the last, or it is all over."""
        controls = self._controls
        with self._lock:
            over = controls is None or self._record.ending is not None
            if controls is None or over or rev <= self._record.control_rev:
                return False
            self._record.control_rev = rev
        command(controls)
        return True

    def blob(self, seq: int) -> Blob | None:
        """Chunk `seq` as `jpeg.pack_frames` packs it; None if there is none yet."""
        return self._chunks[seq].blob if seq < len(self._chunks) else None

    def manifest(self) -> Record:
        """Everything a player must know, as JSON."""
        return {**self.summary(), "chunks": _listed(self._chunks[:])}

    def summary(self) -> Record:
        """The manifest without its chunks."""
        controls, state = self._controls, self.state
        edits = controls.edits if controls else self._edits
        with self._lock:
            known = self._record.to_json(state, edits)
            frames = sum(entry.count for entry in self._chunks)
            gone = sum(entry.count for entry in self._chunks if entry.blob.gone)
        said = controls.message if controls else self._last_message
        message = known["message"] or said or (self._what_is_gone(gone) if gone else None)
        return {**known, "frames": frames, "message": message}

    def announce(self) -> None:
        """Tell the page that queued it about a change."""
        with self._telling:
            self._emit(TAKE_EVENT, self.summary())

    def _what_is_gone(self, frames: int) -> str:
        error = self._shelf.store.disk_error
        why = f"The temp folder cannot be used ({error})" if error else "The preview store is full"
        return f"{why}: the oldest {frames} frames can be seen in saved files only."

    # On the encoder's thread

    def _publish(
        self, first_frame: int, count: int, prompt: str, stats: TakeStats, packed: bytes
    ) -> None:
        if self._dropped:
            return
        seq = len(self._chunks)  # only this thread appends
        blob = self._shelf.store.add(packed, self._shelf.folder / f"{seq:06}.jpegs")
        with self._lock:
            prompts = self._record.prompts
            changed = not prompts or prompts[-1].text != prompt
            if changed:
                prompts.append(PromptChange(first_frame, prompt))
            self._chunks.append(Entry(first_frame, count, len(prompts) - 1, blob))
            self._record.stats = stats
        if self._dropped:  # while it was being encoded
            self.drop()
        news = {"seq": seq, "first_frame": first_frame, "count": count, "bytes": blob.size}
        self._emit(CHUNK_EVENT, {**self._record.head, **news, "stats": stats.to_json()})
        if changed:  # the first chunk is a change too, from waiting to running
            self.announce()

    def _finish(self, ending: Ending) -> None:
        if self._controls is not None:
            self._edits, self._last_message = self._controls.edits, self._controls.message
        with self._lock:
            self._record.ending = self._record.ending or ending
        if self._stop_listening is not None:
            self._stop_listening()
        self._controls = None  # and with them the rollout
        self.ended_at = self._shelf.clock()
        self.announce()

    def _fail(self, error: BaseException) -> None:
        """The preview itself failed; the rollout learns it at the next `show`."""
        with self._lock:
            self._record.ending = Ending("error", f"The preview cannot encode frames ({error}).")


def _listed(chunks: list[Entry]) -> list[Record]:
    return [
        {
            "seq": seq,
            "first_frame": one.first_frame,
            "count": one.count,
            "bytes": 0 if one.blob.gone else one.blob.size,
            "prompt": one.prompt,
        }
        for seq, one in enumerate(chunks)
    ]
