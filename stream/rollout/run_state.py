"""`RunState`: the settings and the chain in force in one run, and the chunks they address.

A live edit or a recache replaces both. The rollout's own spec never changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ...errors import StorageError
from ...model.vae.latent_format import frame_count
from ...samplers.camera.path import CameraPath
from ...samplers.loop import Chunk
from ...samplers.settings import RolloutSettings
from ..journal.chain import Chain
from ..timecode import read_spans, time_label
from .live_input import whole_settings
from .recache import recached_chain
from .spec import RolloutSpec

logger = logging.getLogger("longtake")


class RunState:
    """Settings and chain in force; both belong to the thread that produces chunks."""

    def __init__(self, spec: RolloutSpec) -> None:
        self.spec = spec
        self.settings: RolloutSettings = spec.settings
        self.chain: Chain = spec.chain
        self.may_recache = spec.resume == "recache"  # until the first chunk is produced

    def branch(self, index: int, settings: RolloutSettings) -> None:
        """Use other settings from chunk `index` on."""
        self._follow(self.chain.branch(index, settings))

    def steer(self, index: int, camera: CameraPath) -> None:
        """Let the camera follow another path from chunk `index` on."""
        self._follow(self.chain.steer(index, replace(self.settings, camera=camera)))

    def receive(self, chain: Chain) -> None:
        """Go on with the chain that holds what came in for the next chunk."""
        self._follow(chain)

    def whole_settings(self, count: int) -> RolloutSettings:
        """The settings in force, with all that came in live for the first `count` chunks."""
        live = self.spec.live
        if live is None:
            return self.settings
        return whole_settings(self.chain, count, self.spec.journal, live)

    def start_s(self, index: int) -> float:
        """The time at which chunk `index` begins, in seconds of video."""
        return frame_count(self.chain.span(index).first) / self.spec.fps if index else 0.0

    def read(self, index: int) -> Chunk | None:
        """Read chunk `index` from the journal; None if it is missing, damaged or impossible."""
        entry = self.spec.journal.read_entry(self.chain.key(index))
        if entry is None:
            return None
        tensors, meta = entry
        first = self.chain.span(index).first
        try:
            recalled = read_spans(meta.get("recalled", ""), first)
        except ValueError as error:
            logger.warning(
                "Chunk %d of rollout %s names past frames that it cannot have used (%s).",
                index, self.spec.id, error,
            )  # fmt: skip
            return None
        prompt = self.settings.prompts.at(first).text
        in_flight = (tensors[f"in_flight.{i}"] for i in range(len(tensors) - 1))
        return Chunk(
            index, first, tensors["latents"], prompt, in_flight=tuple(in_flight), recalled=recalled
        )

    def prepare(self, index: int) -> None:
        """Have what chunk `index` reads of another shot made, before its own models are loaded."""
        control = self.settings.control
        if control is not None:
            span = self.chain.span(index)
            control.prepare(range(span.first, span.until))

    def release(self) -> None:
        """Let other shots go, when production ends."""
        if self.settings.control is not None:
            self.settings.control.release()

    def replay(self, indices: Iterable[int]) -> Iterator[Chunk]:
        """Read chunks that the journal must hold; StorageError if one is missing."""
        for index in indices:
            chunk = self.read(index)
            if chunk is None:
                raise StorageError(
                    f"Chunk {index} of rollout {self.spec.id} has just left the journal in "
                    f"{self.spec.journal.folder}; run again to make it again."
                )
            yield chunk

    def read_recached(self, index: int) -> Chunk | None:
        """Read chunk `index` of an earlier run that recached there, and follow its chain."""
        branch = recached_chain(self.chain, index) if self.may_recache and index else None
        if branch is None or branch.key(index) not in self.spec.journal:
            return None
        self._follow(branch)
        return self.read(index)

    def try_recache(self, index: int) -> str | None:
        """Continue at chunk `index` from the window alone, if the spec asks for it; only once.

        Returns the sentence that tells users what they get, or None if nothing changed.
        """
        allowed, self.may_recache = self.may_recache, False
        branch = recached_chain(self.chain, index) if allowed and index else None
        if branch is None or branch.span(index).first in self.settings.recache_frames:
            return None
        self._follow(branch)
        return (
            f"Continuing at {time_label(self.start_s(index))} from the window alone, as requested. "
            "This is fast, but what follows differs from what the uninterrupted run would have "
            "given."
        )

    def _follow(self, branch: Chain) -> None:
        self.settings, self.chain = branch.settings, branch
