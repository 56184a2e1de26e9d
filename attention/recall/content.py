"""A recalling window that knows how its archived frames look.

A frame's summary is the mean of its keys in every region of the picture, in a few layers. The
newest frames are found again among the past ones by the cosines of summaries, region by region.
What follows there, in the direction in which the past goes by again, is what comes next. Keys are
un-rotated, so that places in time do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cache.prompt_keys import PromptKeys
from ..snapshot import Snapshot
from ..storage.dense import DENSE, KeysValues, Storage
from ..storage.shape import CacheShape
from . import cache as recall_cache
from .cache import RecallCache
from .window import RecallWindow, archive_slots

SUMMARY_LAYERS = 6
"""Layers that summaries are of at most, evenly spaced from the last back."""
REGION_ROWS, REGION_COLUMNS = 4, 6
"""Regions of a picture at most; the demo's tokens at 96x64."""
NEWEST = 3
"""Newest frames that are found again. Several tell in which direction the past goes by."""
SHARPNESS = 4.0
"""A match that is one standard deviation more alike gets exp 4 times the share."""
LEAD = 2
"""Frames of a run on the near side of a match, whose place in time is not exact."""
ALL_ALIKE = 1e-6  # a smaller deviation of cosines is rounding


def planned_offloaded(
    shape: CacheShape, policy: RecallWindow, length: int | None, storage: Storage = DENSE
) -> int:
    """Exact value of `ContentCache.offloaded_bytes`; it may only start there, as the archive."""
    archive = recall_cache.planned_offloaded(shape, policy, length, storage)
    values = torch.Size(_summary_size(shape)).numel()
    return archive + archive_slots(policy, length) * values * torch.float32.itemsize


def summary_layers(layers: int) -> list[int]:
    """The layers that summaries are of: at most SUMMARY_LAYERS of all, the last one too."""
    count = min(layers, SUMMARY_LAYERS)
    return [layers * (i + 1) // count - 1 for i in range(count)]


def summarise(shape: CacheShape, keys: Iterable[Tensor]) -> Tensor:
    """The summary (l, b, r, n d) of one frame's keys (b, s, n, d) in the summary layers.

    The mean key of each region r, of all heads together, has length 1.
    """
    by_layer = torch.stack([k.float().flatten(2) for k in keys])  # (l, b, s, c)
    grid = by_layer.flatten(0, 1).transpose(1, 2).unflatten(2, (shape.rows, shape.columns))
    means = F.adaptive_avg_pool2d(grid, _regions(shape)).flatten(2).transpose(1, 2)  # (l b, r, c)
    summary: Tensor = F.normalize(means, dim=-1).unflatten(0, by_layer.shape[:2])
    return summary


def match(likeness: Tensor) -> Tensor:
    """How likely the newest frame is past frame i seen again: shares (2, f) that sum to 1.

    `likeness` (a, f) is that of the newest frame but a and of past frame f. In the first row the
    past goes by backwards, so that the newest but a is past frame i + a; in the second forwards.
    """
    ages, count = likeness.shape
    means = []
    for step in (1, -1):
        at = torch.arange(count) + step * torch.arange(ages)[:, None]
        inside = (at >= 0) & (at < count)
        along = likeness.gather(1, at.clamp(0, count - 1)) * inside
        means.append(along.sum(0) / inside.sum(0))
    both = torch.stack(means)
    deviations = (both - both.mean()) / both.std(correction=0).clamp(min=ALL_ALIKE)
    return (SHARPNESS * deviations).flatten().softmax(0).view_as(both)


def score_frames(shares: Tensor, size: int) -> list[float]:
    """The sum, for each past frame, of the `shares` (2, f) of matches whose run it is in.

    A run has `size` frames: LEAD on the near side of a match, the match, and what follows.
    """
    near = min(LEAD, size - 1)
    after = size - 1 - near
    backwards = F.pad(shares[0], (near, after)).unfold(0, size, 1).sum(-1)
    forwards = F.pad(shares[1], (after, near)).unfold(0, size, 1).sum(-1)
    return [float(score) for score in backwards + forwards]


class ContentCache(RecallCache):
    """A history of sink, recalled and newest frames whose archive has summaries."""

    def __init__(
        self,
        shape: CacheShape,
        policy: RecallWindow,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        home = "meta" if self.device.type == "meta" else "cpu"
        size = _summary_size(shape)
        self._layers = summary_layers(shape.layers)
        self._summaries = torch.zeros(archive_slots(policy, length), *size, device=home)
        self._newest = torch.zeros(0, *size, device=home)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or files, those of the summaries included."""
        return 0 if self.dropped else super().offloaded_bytes + self._summaries.nbytes

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames; the newest ones are what the past is searched for."""
        super().commit(keys_values, prompt)
        by_layer = [keys_values[layer][0] for layer in self._layers]
        frames = zip(*(k.split(self.shape.frame_tokens, 1) for k in by_layer), strict=True)
        summaries = [summarise(self.shape, keys) for keys in [*frames][-NEWEST:]]
        newest = torch.stack(summaries).to(self._newest.device)
        self._newest = torch.cat([self._newest, newest])[-NEWEST:]

    def scores(self, frames: Sequence[int]) -> list[float]:
        """How likely each of these archived frames, rising, is a part of what comes next."""
        slots = torch.tensor([self.archive.frames.index(frame) for frame in frames])
        summaries = self._summaries[: len(self.archive.frames)].flatten(1)
        cosines = (self._newest.flip(0).flatten(1) @ summaries.T)[:, slots]
        run_frames = -(-self.policy.recall_frames // self.policy.runs)
        return score_frames(match(cosines / self._newest[0, ..., 0].numel()), run_frames)

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        before = super().snapshot()
        means = self._summaries[: len(self.archive.frames)].clone()
        own = {"means": means, "newest": self._newest.clone()}
        return Snapshot({**before.tensors, **own}, before.facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        super().restore(snapshot)
        means = snapshot.tensors["means"]
        self._reserve_means()
        self._summaries[: len(means)] = means
        self._newest = snapshot.tensors["newest"].clone()

    def _forget_past(self) -> None:
        super()._forget_past()
        self._newest = self._newest[:0]

    def _archive(self, frame: int) -> None:
        super()._archive(frame)
        self._reserve_means()
        slot, store = self.slots.kept_slots.index(frame), self._store
        means = summarise(self.shape, (store.frame(layer, slot)[0] for layer in self._layers))
        self._summaries[self.archive.frames.index(frame)] = means.to(self._summaries.device)

    def _reserve_means(self) -> None:
        """Have as many summaries as the archive has slots."""
        missing = self.archive.slots - len(self._summaries)
        if missing > 0:
            more = self._summaries.new_zeros(missing, *self._summaries.shape[1:])
            self._summaries = torch.cat([self._summaries, more])


def _regions(shape: CacheShape) -> tuple[int, int]:
    """Rows and columns of regions of the picture."""
    return min(shape.rows, REGION_ROWS), min(shape.columns, REGION_COLUMNS)


def _summary_size(shape: CacheShape) -> tuple[int, int, int, int]:
    """Layers, branches, regions and channels of a summary."""
    rows, columns = _regions(shape)
    layers = len(summary_layers(shape.layers))
    return layers, shape.batch, rows * columns, shape.heads * shape.head_dim
