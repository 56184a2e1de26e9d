"""A window of which each head reads one part, which the shot's second chunk tells.

Many heads of a causal video model hardly look at the past. After Dummy Forcing (csguoh/DummyForcing
28128ed, `wan/modules/dummyforcing.py`) one commit measures how much attention of each head falls on
the sink and on the rest of the window. From then on every head reads one part of the history. All
frames stay held for all heads, so this saves time and no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ....machine.uploads import upload
from ...layout import AttentionInputs, HistoryAttention
from ...snapshot import Snapshot
from ...storage.dense import DENSE, KeysValues, Storage
from ...storage.shape import CacheShape
from ..kv_cache import KVCache
from ..policy import WindowSink
from ..prompt_keys import PromptKeys
from .head_kinds import KINDS, HeadGroups, HeadKindAttention, kinds_of_heads
from .heavy_hitters import attention_shares

SAMPLED_QUERIES = 512
"""About how many queries of a commit tell the kinds of heads."""


@dataclass(frozen=True, slots=True)
class DummyHeads(WindowSink):
    """A window of which each head reads one part (Dummy Forcing).

    The `dummy_share` of all heads, those that look at the past least, read its newest
    `dummy_frames`. Each other head reads the sink or all that follows it, whichever it looks at
    more. The published program has a `distant_sink`: the sink stays where it was in time.
    """

    dummy_share: float = 0.5
    dummy_frames: int = 1
    distant_sink: bool = False

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if not 0 <= self.dummy_share <= 1:
            raise ValueError(f"dummy_share must be from 0 to 1; got {self.dummy_share}")
        if self.dummy_frames < 0:
            raise ValueError(f"dummy_frames must be at least 0; got {self.dummy_frames}")

    @property
    def window_follows_sink(self) -> bool:
        """Whether no gap grows between the sink and the window."""
        return not self.distant_sink

    @property
    def keeps_distances(self) -> bool:
        """Whether a gap opens behind the sink."""
        return self.distant_sink

    @property
    def remembers(self) -> bool:
        """True: an early chunk tells which heads read what."""
        return True

    @property
    def heads_differ(self) -> bool:
        """True: heads read different frames."""
        return True

    @property
    def codes_rows(self) -> bool:
        """True: all heads hold the same frames, so any storage serves."""
        return True


class DummyHeadCache(KVCache):
    """A sink and a window, of which each head reads its part once that is known."""

    policy: DummyHeads

    def __init__(
        self,
        shape: CacheShape,
        policy: DummyHeads,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        self._groups: HeadGroups | None = None
        self._shares: list[Tensor] = []  # (n, f) of each layer, in the pass before a commit

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> HistoryAttention:
        """Attention to the history; each head reads its part."""
        whole = super().attention(frames, visible, rows=rows, positions=positions)
        if self._groups is None:
            return whole
        return HeadKindAttention(
            whole.history, whole.parts, whole.rows, whole.rotation, whole.products,
            groups=self._groups,
        )  # fmt: skip

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """Attention of finished frames; the first one to a sink and a window is measured."""
        self._shares = []
        attention = super().attention_of_commit(visible)
        if len(self.kept_frames) <= self.policy.sink_frames:
            return attention
        if self._groups is None:
            return replace(attention, record=self._record_shares)
        # a rehearsal may leave out the measured pass, the only one through all layers
        return replace(attention, record=_ignore) if self.device.type == "meta" else attention

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames, after what their pass tells of the heads."""
        if self._shares:
            self._groups = self._groups_of(self._kinds(self._shares))
            self._shares = []
        super().commit(keys_values, prompt)

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined; for rehearsals."""
        super().assume(frames)
        if len(self.kept_frames) > self.policy.sink_frames:
            self._groups = self._groups_of(self._largest_kinds())

    def clear(self) -> None:
        """Forget the history and what heads read."""
        super().clear()
        self._groups, self._shares = None, []

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""
        super().move(device)
        if self._groups is not None:
            self._groups = replace(self._groups, by_kind=self._groups.by_kind.to(self.device))

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        stored = super().snapshot()
        if self._groups is None:
            return stored
        kinds = torch.tensor(self._groups.kinds)
        return Snapshot({**stored.tensors, "kinds": kinds}, stored.facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        super().restore(snapshot)
        kinds = snapshot.tensors.get("kinds")
        self._groups = None if kinds is None else self._groups_of(kinds)

    def _record_shares(self, layer: int, inputs: AttentionInputs) -> None:
        self._shares.append(attention_shares(inputs, SAMPLED_QUERIES))

    def _kinds(self, shares: Sequence[Tensor]) -> Tensor:
        """The kind (layers, n) of each head, by the shares (n, f) of its attention by frame."""
        by_frame = torch.stack([*shares])
        if by_frame.is_meta:  # a rehearsal has no numbers
            return self._largest_kinds()
        measured = by_frame.cpu().double()
        in_sink = torch.tensor([frame < self.policy.sink_frames for frame in self.kept_frames])
        on_sink, on_window = (measured[..., at].sum(-1) for at in (in_sink, ~in_sink))
        return kinds_of_heads(on_sink, on_window, self.policy.dummy_share)

    def _largest_kinds(self) -> Tensor:
        """The kinds that take the most memory, which depends on the window, in turn by layer."""
        return torch.arange(self.shape.layers)[:, None].repeat(1, self.shape.heads) % len(KINDS)

    def _groups_of(self, kinds: Tensor) -> HeadGroups:
        by_layer = tuple(tuple(layer) for layer in kinds.tolist())
        by_kind = upload(kinds.argsort(dim=-1, stable=True), self.device)
        return HeadGroups(by_layer, by_kind, self.policy.sink_frames, self.policy.dummy_frames)


def _ignore(layer: int, inputs: AttentionInputs) -> None:
    """Note nothing: a pass that is observed goes through all layers, and that is all we want."""
