"""ROLLOUT: the value on the sampler's socket, a spec and the run in progress.

Chunk i is addressed by a hash of everything that made it. Running again, running longer or changing
only what comes later therefore finds the finished chunks on disk.
"""

from __future__ import annotations

from collections.abc import Callable

from ...samplers.denoiser import Denoiser
from ...samplers.loop import Chunk
from ...samplers.settings import RolloutSettings
from ..journal.chain import Span
from ..lazy.stream import Stream
from .live.controls import Controls
from .observer import RunObserver, SilentObserver
from .run import Run
from .spec import RolloutSpec


def _single_scope() -> None:
    """The scope of a program that has no host: all readers share one run."""


class Rollout:
    """One generation. Nothing runs until a reader takes `chunks`, and any number may read them.

    All readers within one `scope` (a host's running prompt) share a run. Another scope starts a new
    run, without the edits of the last one and with an observer of its own.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        scope: Callable[[], object] = _single_scope,
        new_observer: Callable[[], RunObserver] = SilentObserver,
    ) -> None:
        self.spec = spec
        self._scope, self._new_observer = scope, new_observer
        self._run: Run | None = None
        self._run_scope: object = None

    @property
    def run(self) -> Run:
        """The run in progress, or the one that the next reader starts."""
        if self._run is None or not self.has_begun:
            self._run_scope = self._scope()
            self._run = Run(self.spec, self._new_observer())
        return self._run

    @property
    def has_begun(self) -> bool:
        """Whether the next reader joins a run instead of starting one."""
        return self._run is not None and self._run_scope is self._scope()

    @property
    def chunks(self) -> Stream[Chunk]:
        """The chunks of the run in progress."""
        return self.run.chunks

    @property
    def controls(self) -> Controls:
        """The live controls of the run in progress."""
        return self.run.controls

    @property
    def resumed_from(self) -> int | None:
        """The chunk at which the run last began production; None for the first chunk."""
        return self.run.resumed_from

    @property
    def kv_bytes(self) -> int | None:
        """Bytes of the KV cache; None before it is allocated."""
        return self.run.kv_bytes

    # Facts of the spec that every reader needs

    @property
    def settings(self) -> RolloutSettings:
        """What the rollout generates, without live edits."""
        return self.spec.settings

    @property
    def model(self) -> Denoiser:
        """The model that makes the chunks."""
        return self.spec.model

    @property
    def fps(self) -> float:
        """Frames per second of video."""
        return self.spec.fps

    @property
    def id(self) -> str:
        """Identifies the rollout in locks and reports."""
        return self.spec.id

    @property
    def plan_only(self) -> bool:
        """Whether no chunks are made."""
        return self.spec.plan_only

    @property
    def chunk_count(self) -> int | None:
        """The number of chunks that a run hands out."""
        return self.spec.chunk_count

    @property
    def frames(self) -> int | None:
        """The pixel frames of the whole shot; None if it runs until stopped."""
        return self.spec.frames

    @property
    def latent_frames(self) -> int | None:
        """The latent frames of the whole shot; None if it runs until stopped."""
        return self.spec.latent_frames

    def span(self, index: int) -> Span:
        """The latent frames of chunk `index`."""
        return self.spec.span(index)
