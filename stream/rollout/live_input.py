"""What comes in while a shot is made: known frames that nobody knows before.

What a chunk has got is in the journal, under an address that follows from the chunk before it. So a
resumed, forked or longer shot takes the same frames again and needs no source for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from ...errors import StorageError
from ...samplers.conditioning.digest import embedding_digest
from ...samplers.conditioning.known_frame import KnownFrame
from ...samplers.conditioning.known_frames import KnownFrames
from ...samplers.settings import RolloutSettings
from ..incoming.inlet import Inlet
from ..journal.chain import Chain
from ..journal.journal import Journal

Tell = Callable[[str], None]


class Receiver(Protocol):
    """An open source, read on a thread of its own."""

    @property
    def dropped(self) -> int:
        """Frames at the shot's rate that came too early and were left out."""

    @property
    def is_lost(self) -> bool:
        """Whether the source gives nothing now."""

    def is_ready(self, count: int) -> bool:
        """Whether `count` new frames are there; a LongtakeError says why none will come."""

    def take(self, count: int, before: int = 0) -> Tensor:
        """The newest `count` frames after `before` earlier ones (n, 3, H, W), RGB in [0, 1].

        No frames if the source was lost since `is_ready`.
        """

    def close(self) -> None:
        """End the reading of the source."""


@dataclass(frozen=True, eq=False)
class LiveInput:
    """A source whose pictures become known frames at noise `level`, above 0, or as edits say.

    `name` identifies the source, the encoder and the level, and is part of every chunk's address.
    `open` begins to read; it gets a function for sentences to users, and where pictures of pages
    come in. `encode` turns frames (n, 3, H, W) into normalised latents (f, c, h, w) on the CPU.
    `sources` are what a host must claim.
    """

    name: str
    level: float
    open: Callable[[Tell, Inlet], Receiver]
    encode: Callable[[Tensor], Tensor]
    sources: tuple[object, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class StoredInput:
    """The latents of one frame that came in, read from the journal."""

    journal: Journal
    key: str
    index: int
    shape: tuple[int, ...]
    digest: str

    @property
    def source(self) -> object:
        """Nothing is to be claimed."""
        return None

    def read(self) -> Tensor:
        """Normalised latents (c, h, w); StorageError if the journal has lost them."""
        entry = self.journal.read(self.key)
        if entry is None or "latents" not in entry or len(entry["latents"]) <= self.index:
            raise _loss(self.journal)
        return entry["latents"][self.index]


def new_frames(chain: Chain, index: int, known: KnownFrames) -> Sequence[int]:
    """The latent frames that chunk `index` is the first to begin, without those that are known."""
    start = chain.span(index - 1).until if index else 0
    frames = range(start, chain.span(index).until)
    taken_frames = {frame.frame for frame in known.among(frames)}
    return [frame for frame in frames if frame not in taken_frames]


def recorded(chain: Chain, index: int, journal: Journal, live: LiveInput) -> Chain | None:
    """The chain that goes on with what the journal has for chunk `index`; None if it has nothing.

    A chunk may have got no frames, while its source was lost. Live frames before the chunk, which
    nothing will read again, are not in the settings of that chain: a shot may last for days.
    """
    frames = new_frames(chain, index, chain.settings.known_frames)
    more = _stored_frames(chain, index, frames, journal, live)
    if more is None:
        return None
    return chain.follow(index, _with_frames(chain.settings, more, chain.span(index).first))


def whole_settings(chain: Chain, count: int, journal: Journal, live: LiveInput) -> RolloutSettings:
    """The chain's settings with all that came in for its first `count` chunks.

    StorageError if the journal has lost a part.
    """
    static = KnownFrames(
        tuple(known for known in chain.settings.known_frames.frames if not _is_live(known))
    )
    frames = list(static.frames)
    for index in range(count):
        places = new_frames(chain, index, static)
        more = _stored_frames(chain, index, places, journal, live) if places else ()
        if more is None:
            raise _loss(journal)
        frames += more
    return replace(chain.settings, known_frames=KnownFrames(tuple(frames)))


def _stored_frames(
    chain: Chain, index: int, frames: Sequence[int], journal: Journal, live: LiveInput
) -> tuple[KnownFrame, ...] | None:
    """What the journal has for the latent `frames` that chunk `index` begins; None if nothing."""
    key = chain.input_key(index)
    entry = journal.read(key) if key in journal else None
    if entry is None or "latents" not in entry:
        return None
    latents = entry["latents"]
    if len(latents) not in (0, len(frames)):
        return None
    return tuple(
        KnownFrame(
            frame,
            StoredInput(journal, key, i, tuple(latents[i].shape), embedding_digest(latents[i])),
            _level_at(frame, chain.settings, live),
        )
        for i, frame in enumerate(frames[: len(latents)])
    )


def _level_at(frame: int, settings: RolloutSettings, live: LiveInput) -> float:
    past = [change.level for change in settings.level_changes if change.start_frame <= frame]
    return past[-1] if past else live.level


def record(chain: Chain, index: int, journal: Journal, latents: Tensor | None) -> None:
    """Put what came in for chunk `index` into the journal; None if nothing did."""
    nothing = torch.zeros(0, 1, chain.settings.rows, chain.settings.columns)
    tensors = {"latents": nothing if latents is None else latents}
    journal.write(chain.input_key(index), tensors, {"live": "1", "index": str(index)})


def _with_frames(
    settings: RolloutSettings, more: tuple[KnownFrame, ...], first: int
) -> RolloutSettings:
    """`settings` with more live frames, and without those before latent frame `first`."""
    frames = settings.known_frames.frames
    read = tuple(known for known in frames if known.frame >= first or not _is_live(known))
    if not more and len(read) == len(frames):
        return settings
    return replace(settings, known_frames=KnownFrames((*read, *more)))


def _is_live(known: KnownFrame) -> bool:
    return isinstance(known.latents, StoredInput)


def _loss(journal: Journal) -> StorageError:
    return StorageError(
        f"What came in live has just left the journal in {journal.folder}; run again to receive it "
        "anew."
    )
