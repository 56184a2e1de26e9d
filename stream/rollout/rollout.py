"""ROLLOUT: what the sampler's socket carries.

A `Rollout` is settings plus a lazily produced stream of chunks over the journal: chunk i is
addressed by the hash of everything that made it, so running again, running longer, or changing only
what comes later finds it on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ...model.vae.latent_format import frame_count
from ...samplers.denoiser import Denoiser
from ...samplers.guidance import Guidance, cfg
from ...samplers.loop import Chunk
from ...samplers.settings import RolloutSettings
from ..journal.chain import Chain, ModelHistory, Span, spans
from ..journal.journal import Journal
from ..lazy.stream import Stream
from .controls import Controls
from .hot_states import HotStates
from .recache import Resume, recached
from .run import Prompter, Run

WAN_FPS = 16.0


def _one_run() -> None:
    """The scope of runs without a host: there is one."""


@dataclass(slots=True)
class Rollout:
    """One generation; nothing runs until someone reads `chunks`, as often as they like.

    `identity` is the model's fingerprint. Live edits go through `prompter` and `guided`, which
    turns a strength into guidance. All readers within one `scope` (a host's running prompt) share a
    run; another scope starts a new one, without the edits of the last. `cut` is how many chunks of
    what the settings give are left after a rewind. `snapshot_chunks`: after so many chunks the
    loop's state goes to disk too, 0 never; `hot` is where it rests between runs; `resume` is how it
    goes on where neither has it. `planned_chunks` is how many chunks there will be, None when it
    runs until stopped; where it is only planned (`plan_only`), none of them is made.
    """

    settings: RolloutSettings
    model: Denoiser
    identity: str | ModelHistory
    journal: Journal
    prompter: Prompter | None = None
    guided: Callable[[float], Guidance] = cfg
    fps: float = WAN_FPS
    scope: Callable[[], object] = _one_run
    plan_only: bool = False
    cut: int | None = None
    snapshot_chunks: int = 0
    hot: HotStates | None = None
    resume: Resume = "exact"
    chain: Chain = field(init=False)
    planned_chunks: int | None = field(init=False, default=None)
    _run: Run | None = field(init=False, default=None)
    _run_scope: object = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.chain = Chain(self.settings, self.identity)
        if self.settings.length is not None:
            self.planned_chunks = sum(1 for _ in spans(self.settings))
        if self.cut is not None:
            self.planned_chunks = min(self.cut, self.planned_chunks or self.cut)

    @property
    def run(self) -> Run:
        """The run in progress, or the one that the next reader starts."""
        scope = self.scope()
        if self._run is None or self._run_scope is not scope:
            self._run, self._run_scope = self.new_run(), scope
        return self._run

    def new_run(self) -> Run:
        """A run that nobody has read from yet; hosts make their own kind."""
        return Run(self)

    @property
    def chunks(self) -> Stream[Chunk]:
        """The chunks of the run in progress."""
        return self.run.chunks

    @property
    def chunk_count(self) -> int | None:
        """How many chunks a run makes: as many as planned, none of a mere plan."""
        return 0 if self.plan_only else self.planned_chunks

    @property
    def controls(self) -> Controls:
        """The live controls of the run in progress."""
        return self.run.controls

    @property
    def id(self) -> str:
        """Names this rollout for locks and reports: everything but its length."""
        return self.chain.id

    @property
    def latent_frames(self) -> int | None:
        """How many latent frames there will be, rewound or planned."""
        if self.cut is None or not self.planned_chunks:
            return self.settings.length
        last = self.span(self.planned_chunks - 1)
        return last.first + last.count

    @property
    def frames(self) -> int | None:
        """How many pixel frames there will be."""
        return None if self.latent_frames is None else frame_count(self.latent_frames)

    @property
    def resumed_from(self) -> int | None:
        """The chunk that the run's last production began at, None if that was the first."""
        return self.run.resumed_from

    @property
    def kv_bytes(self) -> int | None:
        """Bytes of the KV cache, once there is one."""
        return self.run.kv_bytes

    @property
    def resume_at_s(self) -> float | None:
        """Where in the video the next run goes on, in seconds: the first chunk that is missing.

        None where nothing is kept yet, or nothing is missing.
        """
        stored = self.stored_chunks()
        if not stored or stored == self.planned_chunks:
            return None
        return frame_count(self.span(stored).first) / self.fps

    def key(self, index: int) -> str:
        """The content address of chunk `index` as the settings alone make it."""
        return self.chain.key(index)

    def span(self, index: int) -> Span:
        """The latent frames of chunk `index`."""
        return self.chain.span(index)

    def stored_chunks(self) -> int:
        """How many chunks from the start are in the journal already."""
        count, chain, limit = 0, self.chain, self.planned_chunks
        while limit is None or count < limit:
            if chain.key(count) not in self.journal:
                branch = recached(chain, count) if self.resume == "recache" and count else None
                if branch is None or branch.key(count) not in self.journal:
                    break
                chain = branch
            count += 1
        return count
