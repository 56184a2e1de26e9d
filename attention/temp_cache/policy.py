"""What a TempCache keeps: so many entries a head, and when keys are merged into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..ann.choice import EXACT
from ..ann.choice import MAKERS as INDEXES
from ..cache.policy import CachePolicy, WindowSink
from ..kernels.choice import AUTO
from ..kernels.choice import NAMES as KERNELS
from .merge import Rules

ATTENDED, ALIKE = "least attended", "alike"
GIVES_WAY = (ATTENDED, ALIKE)
ROUNDING = 1e-6  # of an entry: a part of a frame need not be a number that floats can be


@dataclass(frozen=True, slots=True)
class TempCache(CachePolicy):
    """Keep `entry_frames` latent frames' worth of entries in every head, a part of one frame too,
    which counts in no number of frames.

    `threshold` is the cosine, of keys less their head's mean, above which a new key is merged into
    the nearest cached one, for all heads or by layer and head; for want of room, so are the most
    similar ones above `floor`. The first `sink_frames` are never changed. `reach_frames` is the
    farthest that an entry stands before the active frames, None as far as its age: in a history
    of more, the older ones stand there together, so that it is not dense attention even while
    nothing gave way. `most_mass` is the most keys that an entry counts as, None as many as it
    is made of: 1 keeps the newest of like keys and forgets the rest. `index` names what finds
    the nearest key, `kernel` what looks through the buckets of one that has them. `gives_way`
    says what goes where there is no room: the entries that are attended to least, or those
    whose key a newer one says again. The latter is done instead of merging: threshold, floor,
    most_mass and index are of no account then, and the newest `recent_frames` stay whole, None
    for as many as half of the entries hold.
    """

    entry_frames: float
    threshold: float | tuple[tuple[float, ...], ...] = 0.95
    floor: float = 0.95
    sink_frames: int = 0
    reach_frames: int | None = None
    most_mass: float | None = None
    index: str = EXACT
    gives_way: str = ATTENDED
    recent_frames: int | None = None
    kernel: str = AUTO

    def __post_init__(self) -> None:
        if not self.entry_frames >= self.sink_frames + 1:
            raise ValueError(
                "entry_frames must be more than sink_frames, by one at least; "
                f"got {self.entry_frames} and {self.sink_frames}"
            )
        if self.reach_frames is not None and self.reach_frames < 1:
            raise ValueError(f"reach_frames must be at least 1; got {self.reach_frames}")
        if self.most_mass is not None and self.most_mass < 1:
            raise ValueError(f"most_mass must be at least 1, or None; got {self.most_mass}")
        if self.index not in INDEXES:
            raise ValueError(f"index must be one of {', '.join(INDEXES)}; got {self.index!r}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}; got {self.kernel!r}")
        if self.gives_way not in GIVES_WAY:
            raise ValueError(
                f"gives_way must be one of {', '.join(GIVES_WAY)}; got {self.gives_way!r}"
            )

    @property
    def limit(self) -> int:
        """As many whole latent frames as there are entries for."""
        return math.floor(self.entry_frames)

    def slots(self, frame_tokens: int, length: int | None) -> int:
        """Entries in a head; no more than a rollout of `length` latent frames can fill, None has no
        end.
        """
        whole = math.floor(self.entry_frames * frame_tokens + ROUNDING)
        return whole if length is None else min(whole, length * frame_tokens)

    def victim(self, held: Sequence[int]) -> int:
        """Of the latent frames that count as held, the oldest that is not of the sink."""
        return WindowSink(self.limit, self.sink_frames).victim(held)

    def within(self, frames: int) -> TempCache:
        """With entries for at most `frames`, which must be more than the sink."""
        return replace(self, entry_frames=min(frames, self.entry_frames))

    def with_first(self) -> TempCache:
        """A sink of one, where there is none and there is room for it."""
        return replace(self, sink_frames=1) if self.limit > 1 > self.sink_frames else self

    @property
    def remembers(self) -> bool:
        """Merged keys stand for frames that have gone."""
        return True

    @property
    def merges(self) -> bool:
        """Whether like keys become one; else they are kept or not, as they are."""
        return self.gives_way == ATTENDED

    @property
    def searches_by(self) -> str:
        """The index that is asked; where nothing is merged, one that keeps and needs nothing."""
        return self.index if self.merges else EXACT

    @property
    def heads_differ(self) -> bool:
        """Each head merges for itself."""
        return True

    @property
    def coded_singly(self) -> bool:
        """An entry is coded by itself."""
        return True

    def rules(self, layer: int, centre: Tensor, half_step: float) -> Rules:
        """The rules of one layer whose keys have the mean `centre` (b, n, 1, d), where values are
        stored to within `half_step` of a vector's largest.
        """
        select_heads, heads, device = self.threshold, centre.shape[1], centre.device
        if isinstance(select_heads, tuple):
            row = torch.tensor(select_heads[layer], device=device)
        else:
            row = torch.full((heads,), select_heads, device=device)
        most = math.inf if self.most_mass is None else self.most_mass
        room = self.limit - self.sink_frames
        recent = room // 2 if self.recent_frames is None else min(self.recent_frames, room)
        recent = max(1, recent)
        # As much as is lost to rounding is then lost to the mean's being over fewer keys.
        least = math.sqrt(half_step)
        return Rules(row.unsqueeze(-1), self.floor, self.sink_frames, most, centre, least, recent)
