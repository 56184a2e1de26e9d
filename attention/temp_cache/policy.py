"""The policy of a TempCache: how many entries a head has, and when keys are merged into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..ann.choice import EXACT
from ..ann.choice import MAKERS as INDEXES
from ..ann.nearest import Index
from ..cache.policy import CachePolicy, WindowSink
from ..kernels.choice import AUTO
from ..kernels.choice import NAMES as KERNELS
from .entries import EntryLayout
from .merge import Rules

LEAST_ATTENDED, REDUNDANT = "least attended", "redundant"
EVICTIONS = (LEAST_ATTENDED, REDUNDANT)
ROUNDING = 1e-6  # of an entry: a fraction of a frame need not be an exact float


@dataclass(frozen=True, slots=True)
class TempCache(CachePolicy):
    """Each head stores `entry_frames` x tokens-per-frame entries.

    A fractional part of `entry_frames` adds entries but does not add to any frame count.

    `threshold` is a cosine, for all heads or by layer and head. A new key above it merges into the
    nearest cached key; the mean key of the head is subtracted first. If entries run out, the most
    similar keys above `floor` merge too. Entries of the first `sink_frames` never change.

    `reach_frames` is the largest distance from an entry to the active frames. Older entries are
    placed at that distance, so a history longer than `reach_frames` is not dense attention even
    while nothing was evicted. None places each entry at its age.

    `max_mass` is the largest number of keys that an entry counts as: 1 keeps the newest of similar
    keys and forgets the rest, None is unlimited. `index` names the search for the nearest key,
    `kernel` the kernel that searches buckets.

    `eviction` says which entries give way if there is no room: the least attended ones, or those
    whose key a newer key repeats. The latter replaces merging; threshold, floor, max_mass and index
    are then ignored, and the newest `recent_frames` stay whole, None for half of the entries.
    """

    entry_frames: float
    threshold: float | tuple[tuple[float, ...], ...] = 0.95
    floor: float = 0.95
    sink_frames: int = 0
    reach_frames: int | None = None
    max_mass: float | None = None
    index: str = EXACT
    eviction: str = LEAST_ATTENDED
    recent_frames: int | None = None
    kernel: str = AUTO

    def __post_init__(self) -> None:
        if not self.entry_frames >= self.sink_frames + 1:
            raise ValueError(
                "entry_frames must be at least sink_frames + 1; "
                f"got {self.entry_frames} and {self.sink_frames}"
            )
        if self.reach_frames is not None and self.reach_frames < 1:
            raise ValueError(f"reach_frames must be at least 1; got {self.reach_frames}")
        if self.max_mass is not None and self.max_mass < 1:
            raise ValueError(f"max_mass must be at least 1, or None; got {self.max_mass}")
        if self.index not in INDEXES:
            raise ValueError(f"index must be one of {', '.join(INDEXES)}; got {self.index!r}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}; got {self.kernel!r}")
        if self.eviction not in EVICTIONS:
            raise ValueError(
                f"eviction must be one of {', '.join(EVICTIONS)}; got {self.eviction!r}"
            )

    @property
    def limit(self) -> int:
        """The number of whole latent frames that the entries could hold."""
        return math.floor(self.entry_frames)

    def slots(self, frame_tokens: int, length: int | None) -> int:
        """Entries in a head, at most as many as a rollout of `length` latent frames can fill.

        A `length` of None has no end.
        """
        whole = math.floor(self.entry_frames * frame_tokens + ROUNDING)
        return whole if length is None else min(whole, length * frame_tokens)

    def layout(self, frame_tokens: int, length: int | None, index: Index) -> EntryLayout:
        """The entries of a rollout of `length` latent frames, whose keys `index` codes."""
        slots = self.slots(frame_tokens, length)
        return EntryLayout(slots, index, heads_agree=not self.merges)

    def victim(self, frames: Sequence[int]) -> int:
        """The index in `frames` of the oldest latent frame outside the sink."""
        return WindowSink(self.limit, self.sink_frames).victim(frames)

    def within(self, frames: int) -> TempCache:
        """The same policy with entries for at most `frames`, which must exceed the sink."""
        return replace(self, entry_frames=min(frames, self.entry_frames))

    def with_first(self) -> TempCache:
        """The same policy with a sink of one frame, unless it has a sink or no room for one."""
        return replace(self, sink_frames=1) if self.limit > 1 > self.sink_frames else self

    @property
    def remembers(self) -> bool:
        """True: merged keys stand for frames that have gone."""
        return True

    @property
    def merges(self) -> bool:
        """Whether similar keys become one; otherwise each key is kept or evicted as it is."""
        return self.eviction == LEAST_ATTENDED

    @property
    def effective_index(self) -> str:
        """The index in use; without merging, the one that stores nothing."""
        return self.index if self.merges else EXACT

    @property
    def heads_differ(self) -> bool:
        """True: each head merges for itself."""
        return True

    @property
    def codes_rows(self) -> bool:
        """True: each entry is coded by itself."""
        return True

    def rules(self, layer: int, centre: Tensor, half_step: float) -> Rules:
        """The rules of a layer whose keys have the mean `centre` (b, n, 1, d).

        `half_step` is the largest error of a stored value, relative to its vector's largest.
        """
        heads, device = centre.shape[1], centre.device
        if isinstance(self.threshold, tuple):
            row = upload(torch.tensor(self.threshold[layer]), device)
        else:
            row = torch.full((heads,), self.threshold, device=device)
        max_mass = math.inf if self.max_mass is None else self.max_mass
        room = self.limit - self.sink_frames
        recent = room // 2 if self.recent_frames is None else min(self.recent_frames, room)
        # Rounding then costs as much as averaging over fewer keys does.
        least_share = math.sqrt(half_step)
        return Rules(
            row.unsqueeze(-1), self.floor, self.sink_frames, max_mass, centre, least_share,
            max(1, recent),
        )  # fmt: skip
