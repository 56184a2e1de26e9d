"""A run inside the host: shown on the sampler's node, its controls remembered for the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...model.vae.latent_format import frame_count
from ...samplers.loop import Chunk
from ...stream.rollout.run import Run
from ...stream.timecode import time_label
from .. import host
from .session import session

if TYPE_CHECKING:
    from .host_rollout import HostRollout


class HostRun(Run):
    """One run of a `HostRollout`: from its first reader to the end of the host's prompt."""

    def __init__(self, rollout: HostRollout) -> None:
        super().__init__(rollout)
        self._host_rollout = rollout
        self._progress: host.Progress | None = None
        self._drifted = False
        rollout.claim.load_s = None

    def altered(self) -> None:
        """The host caches what nodes gave: at the next run, the sampler is to be run again."""
        session.note_altered(self._host_rollout.node_id)

    def encoding(self, text: str) -> None:
        """Show why the chunks wait."""
        host.show_status(self._host_rollout.node_id, f"Encoding the new prompt {text!r}.")

    def opened(self, first: int) -> None:
        """Show where production begins."""
        rollout = self._host_rollout
        if first:
            time = time_label(frame_count(self.chain.span(first).first) / rollout.fps)
            host.show_status(rollout.node_id, f"Going on at {time}, after {first} finished chunks.")
        self._progress = host.Progress(rollout.node_id, rollout.chunk_count or 0)

    def made(self, chunk: Chunk) -> None:
        """Move the sampler's progress bar, which may raise the host's interrupt."""
        if self._progress is not None:
            self._progress.advance(chunk.index + 1)

    def closed(self) -> None:
        """The sampler's node is done again."""
        if self._progress is not None:
            self._progress.finish()
        self._progress = None

    def delivered(self, chunk: Chunk) -> None:
        """Warn, once, when the picture goes wrong by itself."""
        drift = self.drift.warning
        if drift is None or self._drifted:
            return
        self._drifted = True
        time = time_label(frame_count(chunk.first_frame) / self.rollout.fps)
        warning = (
            f"The picture has drifted from the shot's beginning (by {drift:.1f}, from {time} on); "
            "a shorter window, a little context_noise or lower cfg can help."
        )
        self.tell(warning)

    def tell(self, sentence: str) -> None:
        """Show it at the sampler and to whoever watches."""
        super().tell(sentence)
        host.warn(self._host_rollout.node_id, sentence)
