"""One run of a rollout: it obeys the live controls and hands out chunks, stored or new.

Edits belong to the run. They branch the chain of chunks for all readers of this run. The rollout's
spec never changes, so the next run gives the unedited video again. Controls act between chunks.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from ...attention.sparse.stats import SparseStats, total
from ...errors import LongtakeError, OutOfMemory, StorageError
from ...samplers.compilation import ModelOfRun
from ...samplers.loop import Chunk
from ..journal.disk_limit import DiskCap
from ..journal.disk_sync import Force
from ..journal.records import touch
from ..latency import LatencyMeter
from ..lazy.stream import Stream
from ..replay_watch import ReplayWatch
from ..timecode import time_label
from .drift import DriftMeter
from .hot_states import HotState
from .live.controls import Controls
from .live.driving import Driving
from .live.edits import apply_edit
from .live.receiving import Receiving
from .observer import RunObserver
from .out_of_memory import is_out_of_memory
from .producer import ChunkProducer
from .run_record import RunRecord, chunk_facts, chunk_tensors
from .run_state import RunState
from .shared_lock import SharedLock
from .spec import RolloutSpec


class Run:
    """One run of a rollout, from its first reader to the end of its scope.

    `model` makes its chunks. `state` is what is in force, `sparse` what sparse attention did in the
    chunks of this run. `recalled` tells which past frames its chunks fetched, in words.
    `stopped_at` is the chunk that a stop left out, `resumed_from` where production last began.
    """

    def __init__(self, spec: RolloutSpec, observer: RunObserver) -> None:
        self.spec, self.observer = spec, observer
        self.model = ModelOfRun(spec.model)
        self.state = RunState(spec)
        self.controls = Controls()
        self.chunks = Stream(self._produce, stored=self._read_stored, length=spec.chunk_count)
        self.latency = LatencyMeter(self.controls.clock, spec.fps)
        self.drift = DriftMeter()
        self.disk = DiskCap(self.notify)
        self.stopped_at: int | None = None
        self.resumed_from: int | None = None
        self.kv_bytes: int | None = None
        self.sparse: SparseStats | None = None
        self.offloaded_bytes: int | None = None
        self.recalled: deque[str] = deque(maxlen=1000)  # of the newest chunks
        self._earlier_sparse: SparseStats | None = None  # from this run's earlier producers
        self._admitted = self.delivered = 0  # chunks, counted from the start of the shot
        self._record = RunRecord(spec)
        self._driving = Driving(spec, self.state, self.controls, self._record)
        self.receiving = Receiving(spec, self.state, self.controls, self._record)
        self._producer: ChunkProducer | None = None
        self._thread = 0  # the one that produces chunks
        self._smaller = False  # memory ran out once
        if spec.plan_only:
            self.controls.end(stopped=False)

    def notify(self, sentence: str) -> None:
        """Show a sentence to users."""
        self.controls.notify(sentence)
        self.observer.notify(sentence)

    def state_after(self, count: int) -> HotState | None:
        """The loop's state after `count` chunks, if it is in memory."""
        key, hot = self.state.chain.key(count - 1), self.spec.hot
        running = self._producer.state_at(key) if self._producer is not None else None
        return running or (hot.at(key) if hot is not None else None)

    def _read_stored(self, index: int) -> Chunk | None:
        if not self._admit(index):
            return None
        chunk = self.state.read(index) or self.state.read_recached(index)
        while chunk is not None and self._replan(index):
            chunk = self.state.read(index)
        if chunk is not None:
            self._deliver(chunk)
        return chunk

    def _produce(self, first: int) -> Iterator[Chunk]:
        """Make chunks from `first` on. Each is in the journal before it is handed out."""
        if not self._admit(first):
            return
        lock = self._acquire_lock()
        with contextlib.ExitStack() as at_end:  # all of it, whatever fails
            at_end.callback(lock.release)
            at_end.callback(self.controls.edit_queue.tell, self.observer.on_close)
            for end in (self.state.release, self.receiving.close, self._rest):  # from last to first
                at_end.callback(end)
            self.resumed_from = first or None
            self._thread = threading.get_ident()
            try:
                if first:  # the shared chunks are in use from now on
                    self._record.note(self.state.chain, first - 1)
                self.observer.on_open(first, self.state.start_s(first))
                with self.spec.journal.sync_behind() as to_disk:
                    chunk = lock.in_turn(self._take, first, to_disk)
                    while chunk is not None:
                        yield chunk
                        first += 1
                        if not self._admit(first):
                            break
                        chunk = lock.in_turn(self._take, first, to_disk)
            except GeneratorExit:
                raise
            except BaseException as error:
                if isinstance(error, Exception):
                    self._producer = None  # its state may be broken
                self.controls.end(stopped=True)
                raise

    def _make(self, index: int, to_disk: Force) -> Chunk | None:
        """Make chunk `index` and put it into the journal; None at the end of the schedule.

        Keys of a driver who has not seen it yet may have it made again.
        """
        self.state.prepare(index)
        chunk = self._next(index)
        while chunk is not None:
            self._keep(chunk, to_disk)
            if not self._replan(index):
                self._snapshot(index)
                self._deliver(chunk)
                break
            if self._producer is not None:
                self._producer.make_again(index)
            chunk = self._next(index)
        return chunk

    def _replan(self, index: int) -> bool:
        """Whether keys change chunk `index`, which is kept back until its driver is to see it."""
        if index < self.delivered or not self._driving.replan(index):
            return False
        self.observer.on_edit()
        return True

    def _take(self, index: int, to_disk: Force) -> Chunk | None:
        """Chunk `index` as it is in the journal, behind a hole or by another run, or made now."""
        chunk = self.state.read(index)
        while chunk is not None and self._replan(index):
            chunk = self.state.read(index)
        if chunk is None:
            return self._make(index, to_disk)
        self._rest()
        self._record.note(self.state.chain, index)
        self._deliver(chunk)
        return chunk

    def _check_alone(self) -> None:
        """BadInput if another process makes this shot, before anyone has a part of it."""
        if self.spec.stored_chunks() == self.spec.chunk_count:
            return
        with contextlib.suppress(StorageError):  # raised when the first new chunk needs the lock
            self._acquire_lock().release()

    def _acquire_lock(self) -> SharedLock:
        try:
            return SharedLock(self.spec.journal, self.spec.id, alone=self.spec.live is not None)
        except LongtakeError:
            self.controls.end(stopped=True)
            raise

    def _next(self, first: int) -> Chunk | None:
        """Make chunk `first`; if memory runs out, try once more with a smaller plan."""
        while True:
            try:
                return self._ready_producer(first).next()
            except (RuntimeError, MemoryError) as error:
                self._producer = None
                self._handle_out_of_memory(first, error)

    def _ready_producer(self, first: int) -> ChunkProducer:
        if self._producer is None or self._producer.is_outdated(first):
            self._producer = None  # before the next one takes its memory
            spec = replace(self.spec, model=self.model.ready(self.observer, self.notify))
            pause, check = self.controls.wait_while_paused, spec.model.host.check_interrupted
            watch = ReplayWatch(self.notify, lambda: pause(check), lambda: self._stops(first))
            self._producer = ChunkProducer(spec, self.state, first, watch, smaller=self._smaller)
            self._earlier_sparse = self.sparse
            if self._producer.notice is not None:
                self.notify(self._producer.notice)
        return self._producer

    def _handle_out_of_memory(self, first: int, error: Exception) -> None:
        if not is_out_of_memory(error):
            raise error
        at = time_label(self.state.start_s(first))
        if self._smaller:
            raise OutOfMemory(  # not torch's, at which a host would drop the shot's state too
                f"Memory ran out again at {at}, with the smaller plan too; everything before is "
                f"kept: free memory, or {self.spec.memory_advice}; then run again."
            ) from error
        self._smaller = True
        self.notify(
            f"Memory ran out at {at}. Continuing with a smaller plan, which is a little "
            "slower and may round differently."
        )

    def _rest(self) -> None:
        """Drop copies of weights and the producer, after it has kept its state for the next run."""
        producer, self._producer = self._producer, None
        if threading.get_ident() == self._thread:  # else a garbage collector closes the stream
            if producer is not None:
                producer.rest()
            self.spec.model.free_products()

    def _snapshot(self, index: int) -> None:
        interval = self.spec.snapshot_chunks
        if self._producer is not None and interval and (index + 1) % interval == 0:
            self._producer.snapshot(index)

    def _keep(self, chunk: Chunk, to_disk: Force) -> None:
        meta, chain = chunk_facts(chunk, self.model.current), self.state.chain
        # First the record, so that no chunk is ever without one.
        self._record.note(chain, chunk.index)
        self.spec.journal.write(chain.key(chunk.index), chunk_tensors(chunk), meta, to_disk)
        self.latency.make(chunk.index)
        self.kv_bytes, self.offloaded_bytes = chunk.kv_bytes, chunk.offloaded_bytes
        if "recalled" in meta:
            self.recalled.append(f"chunk {chunk.index}: {meta['recalled']}")
        self.sparse = total(self._earlier_sparse, chunk.sparse)
        self.observer.on_chunk(chunk)

    def _deliver(self, chunk: Chunk) -> None:
        """Account for a chunk that is handed out; a chunk that is read again does not count."""
        if chunk.index < self.delivered:
            return
        if chunk.index == 0:
            touch(self.spec.journal, self.state.chain.id)
        self.delivered = chunk.index + 1
        tensors = (chunk.latents, *chunk.in_flight)
        self.disk.journal_bytes += sum(part.numel() * part.element_size() for part in tensors)
        self.drift.chunk_done(chunk.latents, chunk.prompt)
        notice = self.observer.on_delivered(chunk, self.drift.warning)
        if notice is not None:
            self.notify(notice)
        if self.delivered == self.spec.chunk_count:
            self._record.restore(self.state.chain, chunk.index)
            self.controls.end(stopped=False)

    def _admit(self, index: int) -> bool:
        """Obey the controls before chunk `index` is first handed out; False ends the run."""
        if index < self._admitted:
            return True
        if self.stopped_at is not None or index == self.spec.chunk_count:
            return False
        if not self._admitted:
            self._check_alone()
        try:
            self._wait(index)
            if self._stops(index):
                return False
            self.latency.begin(index)
            edits = self.controls.edit_queue
            if apply_edit(index, self.state, edits, self.observer, self.notify):
                self.latency.switch(index)
                self._record.part()
            if self._driving.admit(index):
                self.observer.on_edit()
            self.receiving.admit(index)
        except BaseException:  # the host wants to end the run
            self.controls.end(stopped=True)
            raise
        self._admitted = index + 1
        return True

    def _wait(self, index: int) -> None:
        """Wait for a driver, for the end of a pause, and for live frames."""
        host, is_ready = self.spec.model.host, False
        while not is_ready:
            self._driving.wait_for_viewer(index)
            self.controls.wait_while_paused(host.check_interrupted, host.offload_caches)
            is_ready = self.receiving.wait(index, self.notify, self.observer)

    def _stops(self, index: int) -> bool:
        """Whether the run ends before chunk `index`: a user asked for that, or the disk is full."""
        may_end = index > 0 or self.controls.may_be_empty
        is_asked = may_end and self.controls.state == "stopping"
        if is_asked:
            self.observer.on_edit()
        if is_asked or (self.spec.chunk_count is None and self.disk.is_full()):
            self.stopped_at = index
            self.controls.end(stopped=True)
        return self.stopped_at is not None
