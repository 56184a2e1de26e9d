"""ROLLOUT and FRAMES: what the sampler's and the decoder's sockets carry.

A `Rollout` is settings plus a lazily produced stream of chunks over the journal: chunk i is
addressed by the hash of everything that made it, so running again, running longer, or changing only
what comes later finds it on disk. A `FrameStream` decodes a rollout's chunks; a reader that starts
in the middle decodes a short proven overlap first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..model.vae.latent_format import SPATIAL_FACTOR, frame_count
from ..samplers.denoiser import Denoiser
from ..samplers.prompts import embedding_digest
from ..samplers.rollout import Chunk, generate
from ..samplers.settings import RolloutSettings
from .frames import FrameChunk
from .journal import Journal, next_key, root_key
from .stream import Stream


class Decoder(Protocol):
    """A streaming VAE decoder.

    Latents (f, c, h, w) normalised in, frames (n, 3, H, W) in [0, 1] out.
    """

    def feed(self, latents: Tensor) -> Tensor:
        """Decode the next latents."""

    @property
    def overlap_frames(self) -> int:
        """Latent frames that must be decoded again before a frame in mid-stream is exact."""


@dataclass(frozen=True, slots=True)
class Span:
    """The latent frames [first, first + count) of one chunk; none from `until` on was active before
    it finished.
    """

    first: int
    count: int
    until: int


def spans(settings: RolloutSettings) -> Iterator[Span]:
    """The chunks that a rollout finishes, in order."""
    until = 0
    for row in settings.noise_rows():
        until = max(until, row.frames.stop)
        if row.finished:
            yield Span(row.first, row.finished, until)


@dataclass(slots=True)
class Rollout:
    """One generation; nothing runs until someone reads `chunks`, as often as they like.

    `identity` is the model's fingerprint; `chunk_count` is None when it runs until stopped;
    `resumed_from` tells which chunk the last production began at.
    """

    settings: RolloutSettings
    model: Denoiser
    identity: str
    journal: Journal
    chunks: Stream[Chunk] = field(init=False)
    chunk_count: int | None = field(init=False, default=None)
    resumed_from: int | None = field(init=False, default=None)
    kv_bytes: int | None = field(init=False, default=None)
    _keys: list[str] = field(init=False)
    _spans: list[Span] = field(init=False, default_factory=list)
    _more_spans: Iterator[Span] = field(init=False)

    def __post_init__(self) -> None:
        self._keys = [root_key(self._root_fields())]
        self._more_spans = spans(self.settings)
        if self.settings.length is not None:
            self.chunk_count = sum(1 for _ in spans(self.settings))
        self.chunks = Stream(self._produce, stored=self.stored, length=self.chunk_count)

    @property
    def id(self) -> str:
        """Names this rollout for locks and reports: everything but its length."""
        prompts = [
            (entry.start_frame, embedding_digest(entry.embedding))
            for entry in self.settings.prompts.entries
        ]
        return next_key(self._keys[0], {"prompts": prompts})[:16]

    @property
    def frames(self) -> int | None:
        """How many pixel frames there will be."""
        return None if self.settings.length is None else frame_count(self.settings.length)

    def key(self, index: int) -> str:
        """The content address of chunk `index`.

        A hash over the chain of everything in force so far.
        """
        while len(self._keys) <= index + 1:
            span = self.span(len(self._keys) - 1)
            prompt = self.settings.prompts.at(span.first)
            in_force = {
                "frames": span.count,
                "until": span.until,
                "prompt": embedding_digest(prompt.embedding),
            }
            self._keys.append(next_key(self._keys[-1], in_force))
        return self._keys[index + 1]

    def span(self, index: int) -> Span:
        """The latent frames of chunk `index`."""
        while len(self._spans) <= index:
            self._spans.append(next(self._more_spans))
        return self._spans[index]

    def stored(self, index: int) -> Chunk | None:
        """Chunk `index` read back from the journal, or None."""
        key = self.key(index)
        tensors = self.journal.read(key)
        if tensors is None:
            return None
        first = self.span(index).first
        prompt = self.settings.prompts.at(first).text
        in_flight = (tensors[f"in_flight.{i}"] for i in range(len(tensors) - 1))
        return Chunk(index, first, tensors["latents"], prompt, in_flight=tuple(in_flight))

    def stored_chunks(self) -> int:
        """How many chunks from the start are in the journal already."""
        count = 0
        limit = self.chunk_count
        while (limit is None or count < limit) and self.key(count) in self.journal:
            count += 1
        return count

    def _produce(self, first: int) -> Iterator[Chunk]:
        """Make chunks from `first` on, each in the journal before it is handed out.

        One process at a time.
        """
        lock = self.journal.lock(self.id)
        try:
            self.resumed_from = first or None
            for chunk in generate(self.settings, self.model, self._replayed(first)):
                meta = {
                    "index": str(chunk.index),
                    "prompt": chunk.prompt,
                    "dtype": str(self.model.dtype),
                    "device": str(self.model.device),
                    "torch": torch.__version__,
                }
                in_flight = {f"in_flight.{i}": part for i, part in enumerate(chunk.in_flight)}
                tensors = {"latents": chunk.latents, **in_flight}
                self.journal.write(self.key(chunk.index), tensors, meta)
                self.kv_bytes = chunk.kv_bytes
                yield chunk
        finally:
            lock.release()

    def _replayed(self, stop: int) -> Iterator[Chunk]:
        for index in range(stop):
            chunk = self.stored(index)
            if chunk is None:
                raise LookupError(
                    f"chunk {index} of rollout {self.id} left the journal while it was replayed"
                )
            yield chunk

    def _root_fields(self) -> Mapping[str, object]:
        s = self.settings
        return {
            "model": self.identity, "seed": s.seed, "rows": s.rows, "columns": s.columns,
            "schedule": s.schedule, "solver": s.solver, "guidance": s.guidance,
            "cache": s.cache, "context_noise": s.context_noise,
            "negative": embedding_digest(s.prompts.negative),
        }  # fmt: skip


@dataclass(slots=True)
class FrameStream:
    """The pictures of a rollout as they are decoded. `open_decoder` gives a fresh decoder, once a
    chunk is wanted.
    """

    rollout: Rollout
    open_decoder: Callable[[], Decoder]
    fps: float
    chunks: Stream[FrameChunk] = field(init=False)

    def __post_init__(self) -> None:
        self.chunks = Stream(self._decode, length=self.rollout.chunk_count)

    @property
    def width(self) -> int:
        """Picture width in pixels."""
        return self.rollout.settings.columns * SPATIAL_FACTOR

    @property
    def height(self) -> int:
        """Picture height in pixels."""
        return self.rollout.settings.rows * SPATIAL_FACTOR

    def _decode(self, first: int) -> Iterator[FrameChunk]:
        decoder = self.open_decoder()
        start = self._overlap_start(first, decoder.overlap_frames)
        for chunk in self.rollout.chunks.read_from(start):
            frames = decoder.feed(chunk.latents)
            if chunk.index >= first:
                yield FrameChunk(
                    chunk.index, frame_count(chunk.first_frame), frames.float().cpu(), chunk
                )

    def _overlap_start(self, first: int, overlap: int) -> int:
        """The chunk to start decoding at so that chunk `first` is exact."""
        start = first
        while (
            start > 0 and self.rollout.span(first).first - self.rollout.span(start).first < overlap
        ):
            start -= 1
        return start
