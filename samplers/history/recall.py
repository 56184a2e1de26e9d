"""Which past latent frames a history fetches again for the next chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...attention.history import HistoryCache
from ...attention.recall.cache import RecallCache
from ...attention.recall.content import ContentCache
from ...attention.recall.window import RecallWindow
from ...attention.snapshot import Snapshot
from ..camera.implied import implied_path
from ..camera.overlap import Views, overlap
from ..camera.path import CameraPath
from ..camera.track import CameraTrack
from ..current import CurrentSettings
from ..strip import word_paths
from .runs import best_runs

LEAST_GAIN = 1e-6
"""A share of a view by which a past frame must show more; a smaller one is rounding."""


class FrameRecall(Protocol):
    """Fetches past frames; depends on nothing but the settings and the frames before the chunk."""

    @property
    def frames(self) -> tuple[int, ...]:
        """The latent frames fetched for the chunk in work, rising."""

    def note(self, frames: Sequence[int]) -> None:
        """Take the next latent `frames` as committed, under the settings still in force."""

    def fetch(self, frames: Sequence[int]) -> bool:
        """Fetch what a chunk of these next latent `frames` recalls; returns whether that is new."""

    def snapshot(self) -> Snapshot:
        """All that later choices depend on, beside the cache."""

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot."""


class NoRecall:
    """A history that fetches nothing: frames that leave the window are forgotten."""

    frames: tuple[int, ...] = ()

    def note(self, frames: Sequence[int]) -> None:
        """Do nothing: no choice depends on frames that left."""

    def fetch(self, frames: Sequence[int]) -> bool:
        """Fetch nothing, which is never new."""
        return False

    def snapshot(self) -> Snapshot:
        """An empty snapshot, since no choice is made."""
        return Snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Take nothing from the snapshot."""


class ViewRecall:
    """Fetches the runs of past frames that saw most of what the next chunk will see.

    If the policy asks for new views alone, it fetches none that the newest frames show as well.
    The camera follows the settings' path; without one, the words of each frame's prompt.
    """

    def __init__(self, current: CurrentSettings, cache: RecallCache) -> None:
        self._current, self._cache = current, cache
        flat = cache.policy.flat_world
        self._track = CameraTrack(current.settings.columns, flat_world=flat)

    @property
    def frames(self) -> tuple[int, ...]:
        """The latent frames fetched for the chunk in work, rising."""
        return tuple(self._cache.recalled)

    def note(self, frames: Sequence[int]) -> None:
        """Follow the camera over frames that were committed."""
        self._track.extend(self._paths(frames))

    def fetch(self, frames: Sequence[int]) -> bool:
        """Fetch the runs whose views overlap most with those of the next `frames`."""
        past = sorted(self._cache.archive.frames)
        if not past:
            return recall_best(self._cache, [], [])
        ahead = self._track.ahead(self._paths(frames))
        only_new = self._cache.policy.only_new_views
        newest = self._cache.unfetched if only_new else []
        both = view_scores(self._track, ahead, [*past, *newest])  # at once, in half the time
        scores, shown = both[: len(past)], both[len(past) :]
        if only_new and max(scores) <= max(shown, default=0.0) + LEAST_GAIN:
            return recall_best(self._cache, [], [])
        return recall_best(self._cache, past, scores)

    def snapshot(self) -> Snapshot:
        """The views of all frames so far."""
        views = self._track.views
        return Snapshot({"poses": views.poses.clone(), "lenses": views.lenses.clone()})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue with the views of a snapshot."""
        tensors = snapshot.tensors
        self._track.views = Views(tensors["poses"].clone(), tensors["lenses"].clone())

    def _paths(self, frames: Sequence[int]) -> list[CameraPath]:
        camera, prompts = self._current.settings.camera, self._current.prompts
        if camera is not None:
            return [camera] * len(frames)
        if self._cache.policy.flat_world:
            return word_paths(self._current.settings, frames)
        entries = (prompts.prompts[prompts.text_of(frame)][1] for frame in frames)
        return [implied_path(entry.text) for entry in entries]


class ContentRecall:
    """Fetches the runs of past frames beside those that look like the newest ones.

    The cache holds all that the choice depends on.
    """

    def __init__(self, cache: ContentCache) -> None:
        self._cache = cache

    @property
    def frames(self) -> tuple[int, ...]:
        """The latent frames fetched for the chunk in work, rising."""
        return tuple(self._cache.recalled)

    def note(self, frames: Sequence[int]) -> None:
        """Do nothing: the cache notes the keys of commits itself."""

    def fetch(self, frames: Sequence[int]) -> bool:
        """Fetch the runs with the highest scores."""
        past = sorted(self._cache.archive.frames)
        return recall_best(self._cache, past, self._cache.scores(past) if past else [])

    def snapshot(self) -> Snapshot:
        """An empty snapshot: summaries are in the cache's."""
        return Snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Take nothing from the snapshot."""


def view_scores(track: CameraTrack, ahead: Views, past: Sequence[int]) -> list[float]:
    """The mean share of what the views `ahead` see that each `past` frame saw."""
    shares = overlap(ahead, track.views.at(past), track.scenery)
    return shares.mean(0).tolist()


def recall_best(cache: RecallCache, past: Sequence[int], scores: Sequence[float]) -> bool:
    """Recall the best runs of `past` frames; returns whether they are new."""
    policy: RecallWindow = cache.policy
    chosen = [past[i] for i in best_runs(scores, policy.recall_frames, policy.runs)]
    is_new = chosen != cache.recalled
    cache.recall(chosen)
    return is_new


def open_recall(current: CurrentSettings, cache: HistoryCache) -> FrameRecall:
    """The recall of a history whose frames `cache` holds."""
    if not isinstance(cache, RecallCache) or not cache.policy.recall_frames:
        return NoRecall()
    if isinstance(cache, ContentCache):
        return ContentRecall(cache)
    return ViewRecall(current, cache)
