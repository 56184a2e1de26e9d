"""One run of a rollout: what is in force in it, the controls it obeys, and its chunks.

Edits belong to the run. They start a branch of the chain of chunks, which every reader of the same
run sees; the rollout itself is never changed, so that its next run gives the unedited video again.
Controls are obeyed on the producing thread, between two chunks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ...attention.sparse.stats import SparseStats
from ...errors import LongtakeError, OutOfMemory, StorageError
from ...model.vae.latent_format import frame_count
from ...samplers.advice import less_memory
from ...samplers.conditioning.prompts import TimedPrompt, fit_length
from ...samplers.loop import Chunk
from ...samplers.settings import RolloutSettings, TimedGuidance, TimedLora
from ..journal.disk_limit import DiskCap
from ..journal.disk_sync import Force
from ..journal.lock import ProcessLock
from ..journal.records import RecordWriter, used
from ..lazy.stream import Stream
from .controls import Controls, Edit
from .drift import DriftMeter
from .hot_states import HotState
from .out_of_memory import is_out_of_memory
from .producer import ChunkProducer
from .recache import recached

if TYPE_CHECKING:
    from .rollout import Rollout

logger = logging.getLogger("longtake")


class Prompter(Protocol):
    """What an edit needs of whoever wrote the prompts."""

    def encode(self, text: str) -> Tensor:
        """The embedding (l, text_dim) of a prompt; a LongtakeError says why there is none."""

    def line(self, start_s: float, text: str, guidance: float | None) -> str:
        """The line of the prompts' own text that has the same effect from `start_s` on."""


class Run:
    """Everything about one run of `rollout`, from its first reader to the end of its scope."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.controls = Controls()
        self.settings, self.chain = rollout.settings, rollout.chain
        self.chunks = Stream(self._produce, stored=self._stored, length=rollout.chunk_count)
        self.drift = DriftMeter()
        self.stopped_at: int | None = None  # the chunk that a stop left out
        self.resumed_from: int | None = None
        self.kv_bytes: int | None = None
        self.sparse: SparseStats | None = None  # what it did in the chunks of this run
        self._sparse_before: SparseStats | None = None  # of them, in those of earlier makings
        self.disk = DiskCap(self.tell)
        if rollout.plan_only:
            self.controls.end(stopped=False)
        self._begun = self._delivered = 0  # chunks, counted from the start of the shot
        self._record: RecordWriter | None = None
        self._making: ChunkProducer | None = None
        self._recaches = rollout.resume == "recache"  # until chunks are made
        self._thread = 0  # that makes chunks
        self._smaller = False  # memory ran out once

    # What a host adds

    def altered(self) -> None:
        """An edit or a stop: the run is no longer what the workflow alone gives."""

    def encoding(self, text: str) -> None:
        """The text of an edit is encoded now; the chunks wait for it."""

    def opened(self, first: int) -> None:
        """Production begins at chunk `first`."""

    def made(self, chunk: Chunk) -> None:
        """A new chunk is in the journal."""

    def closed(self) -> None:
        """Production has ended, in whatever way."""

    def delivered(self, chunk: Chunk) -> None:
        """A chunk, new or kept, is handed out for the first time."""

    def tell(self, sentence: str) -> None:
        """Tell whoever watches."""
        self.controls.say(sentence)

    # Chunks

    def read(self, index: int) -> Chunk | None:
        """Chunk `index` of this run as it is in the journal, or None."""
        tensors = self.rollout.journal.read(self.chain.key(index))
        if tensors is None:
            return None
        first = self.chain.span(index).first
        prompt = self.settings.prompts.at(first).text
        in_flight = (tensors[f"in_flight.{i}"] for i in range(len(tensors) - 1))
        return Chunk(index, first, tensors["latents"], prompt, in_flight=tuple(in_flight))

    def _stored(self, index: int) -> Chunk | None:
        if not self._begin(index):
            return None
        chunk = self.read(index) or self._read_recached(index)
        if chunk is not None:
            self._deliver(chunk)
        return chunk

    def _read_recached(self, index: int) -> Chunk | None:
        """Chunk `index` of an earlier run that went on there from its window alone."""
        branch = recached(self.chain, index) if self._recaches and index else None
        if branch is None or branch.key(index) not in self.rollout.journal:
            return None
        self.settings, self.chain = branch.settings, branch
        return self.read(index)

    def may_recache(self, first: int) -> None:
        """Where that was asked for, go on at chunk `first` from the window alone; once."""
        asked, self._recaches = self._recaches, False
        branch = recached(self.chain, first) if asked and first else None
        if branch is None or branch.span(first).first in self.settings.recached:
            return
        self.settings, self.chain = branch.settings, branch
        at = frame_count(branch.span(first).first) / self.rollout.fps
        self.tell(
            f"Going on at {at:.1f} s from what the window holds alone, as asked: quickly, but what "
            "follows is not what the uninterrupted run would have given."
        )

    def _produce(self, first: int) -> Iterator[Chunk]:
        """Make chunks from `first` on, each in the journal before it is handed out.

        One process at a time.
        """
        if not self._begin(first):
            return
        lock = self._locked()
        self.resumed_from = first or None
        self._thread = threading.get_ident()
        try:
            if first:
                self._note(first - 1)  # what is shared is in use from now on
            self.opened(first)
            with self.rollout.journal.forced_behind() as to_disk:
                while self._making is None or self._begin(first):
                    chunk = self._next(first)
                    if chunk is None:
                        break
                    self._keep(chunk, to_disk)
                    self._snapshot(chunk.index)
                    yield chunk
                    first += 1
        except GeneratorExit:
            raise
        except BaseException as error:
            if isinstance(error, Exception):
                self._making = None  # what failed is not to be gone on with
            self.controls.end(stopped=True)
            raise
        finally:
            self._rest()
            self.closed()
            lock.release()

    def _locked(self) -> ProcessLock:
        try:
            return self.rollout.journal.lock(self.rollout.id)
        except LongtakeError:
            self.controls.end(stopped=True)
            raise

    def _next(self, first: int) -> Chunk | None:
        """Make chunk `first`; with a smaller plan if memory runs out."""
        while True:
            try:
                if self._making is None or self._making.is_outdated(first):
                    self._making = None  # before the next one takes its memory
                    self._making = ChunkProducer(self, first, smaller=self._smaller)
                    self._sparse_before = self.sparse
                    self._recaches = False
                return next(self._making.chunks, None)
            except (RuntimeError, MemoryError) as error:
                self._making = None
                self._memory_ran_out(first, error)

    def _rest(self) -> None:
        """Let the loop go, its state to rest where there is room."""
        making, self._making = self._making, None
        if making is not None and threading.get_ident() == self._thread:
            making.rest()  # not where a garbage collector closes the stream on another thread

    def replayed(self, indices: Iterable[int]) -> Iterator[Chunk]:
        """Chunks that are all in the journal."""
        for index in indices:
            chunk = self.read(index)
            if chunk is None:
                raise StorageError(
                    f"Chunk {index} of rollout {self.rollout.id} has just left the journal in "
                    f"{self.rollout.journal.folder}; run again to make it again."
                )
            yield chunk

    def state_after(self, count: int) -> HotState | None:
        """The loop's state after so many chunks, from this run or at rest; None where there is none
        in memory.
        """
        key = self.chain.key(count - 1)
        made = self._making.state_at(key) if self._making is not None else None
        return made or (self.rollout.hot.at(key) if self.rollout.hot is not None else None)

    def _memory_ran_out(self, first: int, error: Exception) -> None:
        """Go on once with a smaller plan; after that the run ends, and can go on later."""
        if not is_out_of_memory(error):
            raise error
        at = frame_count(self.chain.span(first).first) / self.rollout.fps if first else 0.0
        if self._smaller:
            raise OutOfMemory(
                f"Memory ran out again at {at:.1f} s, with the smaller plan too; everything before "
                f"is kept: free memory, or {less_memory(self.settings.cache)}; then run again."
            ) from error
        self._smaller = True
        self.tell(
            f"Memory ran out at {at:.1f} s. Going on with a smaller plan, which is a little slower "
            "and may round differently."
        )

    def _snapshot(self, index: int) -> None:
        """Keep the loop's state where that was asked for."""
        every = self.rollout.snapshot_chunks
        if self._making is not None and every and (index + 1) % every == 0:
            self._making.snapshot(index)

    def _keep(self, chunk: Chunk, to_disk: Force) -> None:
        model = self.rollout.model
        meta = {
            "index": str(chunk.index),
            "prompt": chunk.prompt,
            "dtype": str(model.dtype),
            "device": str(model.device),
            "torch": torch.__version__,
        }
        in_flight = {f"in_flight.{i}": part for i, part in enumerate(chunk.in_flight)}
        tensors = {"latents": chunk.latents, **in_flight}
        self._note(chunk.index)  # first, so that no chunk is ever without a record
        self.rollout.journal.write(self.chain.key(chunk.index), tensors, meta, to_disk)
        self.kv_bytes = chunk.kv_bytes
        self.sparse = _both(self._sparse_before, chunk.sparse)
        self.made(chunk)
        self._deliver(chunk)

    def _note(self, index: int) -> None:
        """Let the record of the chain in force, which an edit changes, say what there is."""
        rollout = self.rollout
        if self._record is None or self._record.chain is not self.chain:
            self._record = RecordWriter(
                rollout.journal, self.chain, channels=rollout.model.config.out_channels,
                fps=rollout.fps, lock=rollout.id,
            )  # fmt: skip
        self._record.note(index)

    def _deliver(self, chunk: Chunk) -> None:
        """Note a chunk that is handed out; those read again are passed over."""
        if chunk.index < self._delivered:
            return
        if chunk.index == 0:
            used(self.rollout.journal, self.chain.id)
        self._delivered = chunk.index + 1
        kept = (chunk.latents, *chunk.in_flight)
        self.disk.journal_bytes += sum(part.numel() * part.element_size() for part in kept)
        self.drift.chunk_done(chunk.latents, chunk.prompt)
        self.delivered(chunk)
        if self._delivered == self.rollout.chunk_count:
            self.controls.end(stopped=False)

    # Controls

    def _begin(self, index: int) -> bool:
        """Obey the controls before chunk `index` is handed out for the first time; False ends."""
        if index < self._begun:
            return True
        if self.stopped_at is not None or index == self.rollout.chunk_count:
            return False
        try:
            host = self.rollout.model.host
            self.controls.wait_while_paused(host.check_interrupted, host.offload_caches)
            if index and self.controls.state == "stopping":
                self.altered()
                return self._end(index)
            if self.rollout.chunk_count is None and self.disk.is_full():
                return self._end(index)
            edit = self.controls.take_edit()
            if edit is not None:
                self._edit(edit, index)
        except BaseException:  # the host wants to end the run
            self.controls.end(stopped=True)
            raise
        self._begun = index + 1
        return True

    def _end(self, index: int) -> bool:
        self.stopped_at = index
        self.controls.end(stopped=True)
        return False

    def _edit(self, edit: Edit, index: int) -> None:
        """Put `edit` in force from chunk `index` on, or say why not; the shot goes on."""
        first = self.chain.span(index).first
        try:
            settings = self._edited(edit, first)
        except LongtakeError as error:
            self.controls.fail_edit(edit, str(error))
            return
        except Exception as error:  # a text encoder is anybody's code; it must not end the shot
            logger.exception("An edit could not be encoded.")
            self.controls.fail_edit(
                edit, f"The text encoder failed with {type(error).__name__}: {error}"
            )
            return
        self.settings, self.chain = settings, self.chain.branched(index, settings)
        frame, prompter = frame_count(first), self.rollout.prompter
        start_s, text = frame / self.rollout.fps, settings.prompts.at(first).text
        timed = prompter is not None and (edit.text, edit.guidance) != (None, None)
        line = prompter.line(start_s, text, edit.guidance) if prompter and timed else None
        self.controls.apply_edit(edit, frame, start_s, line)
        self.altered()

    def _edited(self, edit: Edit, first: int) -> RolloutSettings:
        settings = self.settings
        if edit.text is not None:
            prompt = TimedPrompt(first, self._encoded(edit.text), edit.text, since=first)
            settings = replace(settings, prompts=settings.prompts.with_prompt(prompt))
        if edit.guidance is not None:
            change = TimedGuidance(first, self.rollout.guided(edit.guidance))
            settings = settings.with_guidance(change)
        if edit.lora is not None:
            if self.rollout.model.host.scale_loras is None:
                raise LongtakeError(
                    "The model has no LoRA whose strength could be changed; put Load Wan LoRA "
                    "before the sampler."
                )
            settings = settings.with_lora(TimedLora(first, edit.lora))
        return settings

    def _encoded(self, text: str) -> Tensor:
        if self.rollout.prompter is None:
            raise LongtakeError(
                "The prompt cannot be changed while the shot is made, because no Prompt Timeline "
                "is connected to the sampler; use one in place of CLIP Text Encode."
            )
        self.encoding(text)
        embedding = self.rollout.prompter.encode(text)
        return fit_length(embedding, len(self.settings.prompts.negative))


def _both(before: SparseStats | None, since: SparseStats | None) -> SparseStats | None:
    """What sparse attention did in all; None where nothing asked for it."""
    return since if before is None or since is None else before + since
