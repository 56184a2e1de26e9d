"""`RolloutSpec`: everything that decides about a rollout, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor

from ...model.vae.latent_format import frame_count
from ...samplers.denoiser import Denoiser
from ...samplers.guidance import Guidance, cfg
from ...samplers.settings import RolloutSettings
from ..journal.chain import Chain, ModelHistory, Span, count_spans
from ..journal.journal import Journal
from .hot_states import HotStates
from .live_input import LiveInput, recorded
from .recache import Resume, recached_chain

WAN_FPS = 16.0
Warn = Callable[[str], None]
"""Shows a sentence to users."""


class Prompter(Protocol):
    """Encodes the prompts of live edits and writes them as timeline lines."""

    def encode(self, text: str, warn: Warn) -> Tensor:
        """Encode a prompt as (l, text_dim); a LongtakeError says why that is impossible.

        `warn` gets a sentence for what of the prompt has no effect.
        """

    def line(
        self, start_s: float, text: str, guidance: float | None, lora: float | None, over_s: float
    ) -> str:
        """Write the timeline line that has the same effect from `start_s` on.

        Its prompt blends in over `over_s` seconds.
        """


@dataclass(frozen=True, eq=False)
class RolloutSpec:
    """What a rollout is made from and where its chunks are kept.

    `identity` is the model's fingerprint. Live edits use `prompter` for text and `guided`, which
    turns a guidance strength into guidance. `cut` limits the number of chunks after a rewind.
    `plan_only` makes no chunks at all.

    Every `snapshot_chunks` chunks the loop's state goes to disk (0: never). `hot` keeps the state
    in memory between runs. `resume` says how to continue where neither of them has the state.
    `memory_advice` ends the message of a run whose memory ran out. `live` is what comes in while
    the rollout is made.
    """

    settings: RolloutSettings
    model: Denoiser
    identity: str | ModelHistory
    journal: Journal
    prompter: Prompter | None = None
    guided: Callable[[float], Guidance] = cfg
    fps: float = WAN_FPS
    plan_only: bool = False
    cut: int | None = None
    snapshot_chunks: int = 0
    hot: HotStates | None = None
    resume: Resume = "exact"
    memory_advice: str = "generate smaller frames or keep a shorter history"
    live: LiveInput | None = None

    @cached_property
    def chain(self) -> Chain:
        """The content addresses of the chunks, without any live edits."""
        return Chain(self.settings, self.identity, self.live.name if self.live else "")

    @property
    def id(self) -> str:
        """Identifies the rollout in locks and reports; independent of its length."""
        return self.chain.id

    def strength_of(self, guidance: Guidance) -> float | None:
        """The strength that `guided` takes for this guidance; None if no strength gives it."""
        scale = guidance.text_scale  # as 1 - (1 - scale), which loses its last bits
        strengths = (guidance.strength, round(scale, 9), scale)
        return next((s for s in strengths if self.guided(s) == guidance), None)

    @cached_property
    def planned_chunks(self) -> int | None:
        """The number of chunks of the whole shot; None if it runs until stopped."""
        if self.settings.length is None:
            return self.cut
        whole = count_spans(self.settings, self.settings.length)
        return whole if self.cut is None else min(whole, self.cut)

    @property
    def chunk_count(self) -> int | None:
        """The number of chunks that a run hands out: 0 if `plan_only`."""
        return 0 if self.plan_only else self.planned_chunks

    @property
    def latent_frames(self) -> int | None:
        """The latent frames of the whole shot, after a rewind; None if it runs until stopped."""
        if self.cut is None or not self.planned_chunks:
            return self.settings.length
        last = self.span(self.planned_chunks - 1)
        return last.first + last.count

    @property
    def frames(self) -> int | None:
        """The pixel frames of the whole shot; None if it runs until stopped."""
        return None if self.latent_frames is None else frame_count(self.latent_frames)

    def key(self, index: int) -> str:
        """The content address of chunk `index`, without any live edits."""
        return self.chain.key(index)

    def span(self, index: int) -> Span:
        """The latent frames of chunk `index`."""
        return self.chain.span(index)

    def stored_chunks(self) -> int:
        """Count the chunks that the journal holds without a gap from the start."""
        return self._stored()[0]

    @property
    def stored_chain(self) -> Chain:
        """The chain of the chunks that the journal holds, with what came in for them."""
        return self._stored()[1]

    def _stored(self) -> tuple[int, Chain]:
        count, chain, limit = 0, self.chain, self.planned_chunks
        may_recache = self.resume == "recache"
        while limit is None or count < limit:
            if self.live is not None:
                chain = recorded(chain, count, self.journal, self.live) or chain
            if chain.key(count) not in self.journal:
                branch = recached_chain(chain, count) if may_recache and count else None
                if branch is None or branch.key(count) not in self.journal:
                    break
                chain = branch
            count += 1
        return count, chain

    @property
    def resume_at_s(self) -> float | None:
        """Where the next run continues, in seconds of video: the first missing chunk.

        None if the journal holds no chunk or all of them.
        """
        stored = self.stored_chunks()
        if not stored or stored == self.planned_chunks:
            return None
        return frame_count(self.span(stored).first) / self.fps
