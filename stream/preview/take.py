"""A take: the encoded frames of one rollout, which browsers fetch while it grows."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from pathlib import Path

from torch import Tensor

from ...units import count_of
from ..lazy.frame_chunk import Pictures, Spans
from ..rollout.live.controls import Controls
from ..video.sound.reading import Sound
from .blobs import Blob, BlobStore
from .frame_encoder import FrameEncoder, failure_sentence
from .messages import (
    CHUNK_EVENT,
    TAKE_EVENT,
    Emit,
    Ending,
    JsonObject,
    PromptChange,
    TakeFile,
    TakeRecord,
    TakeStats,
)
from .take_controls import TakeControls


@dataclass(frozen=True, slots=True)
class TakeStorage:
    """Where one take keeps its bytes, in a folder of its own, and how it encodes and dates them."""

    store: BlobStore
    folder: Path
    encode: Callable[[Pictures], bytes]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """One encoded chunk; `prompt` is an index into the take's prompt changes.

    `key` identifies the pictures; None where that is unknown. `recalled` are the earlier frames
    that were fetched to make these.
    """

    first_frame: int
    count: int
    prompt: int
    blob: Blob
    key: str | None = None
    recalled: Spans = ()


class Take:
    """The frames of one rollout.

    The thread that makes frames calls `show` and `finish`, which never block. All other methods are
    safe on any thread. The controls are never called while the records are locked.
    """

    def __init__(
        self,
        storage: TakeStorage,
        record: TakeRecord,
        emit: Emit,
        controls: Controls | None,
    ) -> None:
        self.ended_at: float | None = None
        self.first_new = 0  # the chunk after those of an earlier take
        self.sound: Sound | None = None  # of the pictures, for live addresses
        self._storage = storage
        self._emit = emit
        self._lock = threading.Lock()  # guards the records below
        self._announcing = threading.Lock()  # so that the newest state is announced last
        self._record = record
        self.shot, self.origin = record.shot, record.origin
        self._chunks: list[ChunkEntry] = []
        self._dropped = False
        self._closing = False
        self._announced_losses = 0  # chunks
        self._encoder = FrameEncoder(self._fail, encode=storage.encode)
        self.controls = TakeControls(controls, self.announce)

    @property
    def token(self) -> str:
        """The only way to find this take."""
        return self._record.token

    # In: from the thread that makes frames

    def show(
        self,
        frames: Tensor,
        first_frame: int,
        prompt: str,
        stats: TakeStats,
        key: str | None = None,
        recalled: Spans = (),
    ) -> None:
        """Add the next chunk of frames (n, 3, H, W) in [0, 1], which must not change afterwards.

        `key` identifies the pictures for a later run that makes them again. `recalled` are the
        earlier frames that were fetched to make these.
        """
        if not self._closing:
            span = range(first_frame, first_frame + len(frames))
            deliver = partial(self._publish, span, key, recalled, prompt, stats)
            self._encoder.put(frames, deliver)

    def finish(self, ending: Ending) -> None:
        """Record that no frames follow. Returns at once; the end is announced after encoding."""
        if not self._closing:
            self._closing = True
            self._encoder.close(partial(self._finish, ending))

    def add_file(self, file: TakeFile) -> None:
        """Announce that the same frames were saved as a file."""
        with self._lock:
            self._record.files.append(file)
        self.announce()

    def add_refined(self, token: str) -> None:
        """Announce the take that shows the same frames refined."""
        with self._lock:
            self._record.refined = token
        self.announce()

    @property
    def files(self) -> tuple[TakeFile, ...]:
        """The saved files of the same frames."""
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
        """Free all frames. A rollout that still runs continues unseen."""
        with self._lock:
            self._dropped = True
            blobs = [entry.blob for entry in self._chunks]
        self._storage.store.drop(blobs)
        with contextlib.suppress(OSError):  # never made, or not empty: the host empties its temp
            self._storage.folder.rmdir()

    # From one take to the next

    def take_over(self, earlier: Take, count: int) -> None:
        """Begin with `count` chunks of an ended take, which loses all; call this before `show`."""
        with earlier._lock:
            chunks, earlier._chunks = earlier._chunks, []
        self._chunks = chunks[:count]
        self.first_new = count
        prompts = 1 + max((chunk.prompt for chunk in self._chunks), default=-1)
        self._record.prompts = earlier._record.prompts[:prompts]
        self._storage.store.drop(chunk.blob for chunk in chunks[count:])

    # Out: to browsers

    @property
    def state(self) -> str:
        """waiting, running, paused or stopping; after the end, how the take ended."""
        ending, run_state = self._record.ending, self.controls.run_state
        if ending is not None:
            return ending.state
        return "waiting" if run_state == "running" and not self._chunks else run_state

    def blob(self, seq: int) -> Blob | None:
        """Chunk `seq` as `jpeg.pack_frames` packs it; None if it does not exist yet."""
        chunks = self._chunks
        return chunks[seq].blob if seq < len(chunks) else None

    @property
    def chunks(self) -> Sequence[ChunkEntry]:
        """All chunks so far, which grow."""
        return self._chunks

    def manifest(self) -> JsonObject:
        """Everything a player must know."""
        return {**self.summary(), "chunks": [*starmap(_chunk_json, enumerate(self._chunks[:]))]}

    def summary(self) -> JsonObject:
        """The manifest without its chunks."""
        state, edits, rev = self.state, self.controls.edits, self.controls.rev
        drive, wish = self.controls.drive, self.controls.wish
        with self._lock:
            known = self._record.to_json(state, edits, rev, drive, wish)
            frames = sum(entry.count for entry in self._chunks)
            dropped = sum(entry.count for entry in self._chunks if entry.blob.gone)
        loss = _describe_loss(self._storage.store, dropped) if dropped else None
        message = known["message"] or self.controls.message or loss
        news = {"frames": frames, "message": message, "fork_seed": self.controls.fork_seed}
        return {**known, **news}

    def announce(self) -> None:
        """Send the summary to the page that queued the rollout."""
        with self._announcing:
            self._emit(TAKE_EVENT, self.summary())

    # On the encoder's thread

    def _publish(
        self,
        span: range,
        key: str | None,
        recalled: Spans,
        prompt: str,
        stats: TakeStats,
        packed: bytes,
    ) -> None:
        if self._dropped:
            return
        seq = len(self._chunks)  # only this thread appends
        blob = self._storage.store.add(packed, self._storage.folder / f"{seq:06}.jpegs")
        with self._lock:
            prompts = self._record.prompts
            changed = not prompts or prompts[-1].text != prompt
            if changed:
                prompts.append(PromptChange(span.start, prompt))
            last = len(prompts) - 1
            entry = ChunkEntry(span.start, len(span), last, blob, key, recalled)
            self._chunks.append(entry)
            self._record.stats = stats
        if self._dropped:  # while the chunk was being encoded
            self.drop()
        news = {**_chunk_json(seq, entry), "stats": stats.to_json()}
        self._emit(CHUNK_EVENT, {**self._record.head, **news})
        losses = sum(entry.blob.gone for entry in self._chunks)
        changed = changed or losses != self._announced_losses
        self._announced_losses = losses
        if changed:  # the first chunk is a change too, from waiting to running
            self.announce()

    def _finish(self, ending: Ending) -> None:
        self.controls.close()
        with self._lock:
            self._record.ending = self._record.ending or ending
        self.controls.release()
        self.ended_at = self._storage.clock()
        self.announce()

    def _fail(self, error: BaseException) -> None:
        """Record that the preview failed; the rollout learns it at the next `show`."""
        self.controls.close()
        with self._lock:
            self._record.ending = Ending("error", failure_sentence(error))


def _describe_loss(store: BlobStore, frames: int) -> str:
    error = store.disk_error
    why = f"The temp folder cannot be used ({error})" if error else "The preview store is full"
    return f"{why}: {count_of(frames, 'earlier frame')} can be seen in saved files only."


def _chunk_json(seq: int, chunk: ChunkEntry) -> JsonObject:
    about: JsonObject = {
        "seq": seq,
        "first_frame": chunk.first_frame,
        "count": chunk.count,
        "bytes": 0 if chunk.blob.gone else chunk.blob.size,
        "prompt": chunk.prompt,
    }
    return {**about, "recalled": [[*span] for span in chunk.recalled]} if chunk.recalled else about
