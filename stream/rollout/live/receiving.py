"""Live input of a run: as each chunk begins, the newest frames become known ones."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from ....errors import BadInput
from ....model.vae.latent_format import frame_count
from ...journal.chain import Chain
from ..live_input import LiveInput, Receiver, new_frames, record, recorded
from ..observer import RunObserver
from ..run_record import RunRecord
from ..run_state import RunState
from ..spec import RolloutSpec
from .controls import Controls

WAIT_S = 0.02
STOPPED = (
    "The run was stopped before the live source had sent the pictures of the first chunk, so "
    "nothing was made; run again once the source sends."
)


class Receiving:
    """Puts what comes in into the settings of a run, one chunk at a time.

    The source is opened when the first chunk needs it that the journal has nothing for.
    """

    def __init__(
        self, spec: RolloutSpec, state: RunState, controls: Controls, record: RunRecord
    ) -> None:
        self._spec, self._state, self._controls = spec, state, controls
        self._record = record
        self._receiver: Receiver | None = None
        self._dropped = 0  # with earlier receivers
        self._unlisten: Callable[[], None] | None = None  # controls outlive the run

    @property
    def dropped(self) -> int | None:
        """Frames that came while chunks were made, and were left out; None without live input."""
        if self._spec.live is None:
            return None
        return self._dropped + (self._receiver.dropped if self._receiver else 0)

    def wait(self, index: int, tell: Callable[[str], None], observer: RunObserver) -> bool:
        """Wait until the frames for chunk `index` are there, or the source is lost.

        `tell` gets a sentence when the source changes. False if users pause the run meanwhile.
        """
        live = self._spec.live
        if live is None or not self._frames(index) or self._recorded(index, live) is not None:
            return True
        if self._receiver is not None:
            return self._wait_for_pictures(index, self._receiver)
        self._receiver = live.open(tell, self._controls.inlet)
        self._unlisten = self._controls.listen(self._close_at_end)
        observer.on_receive()
        try:
            return self._wait_for_pictures(index, self._receiver)
        finally:
            observer.on_received()

    def _wait_for_pictures(self, index: int, receiver: Receiver) -> bool:
        count = self._picture_count(index)[0]
        with self._controls.work_clock.pause():
            while not receiver.is_ready(count) and not receiver.is_lost:
                self._spec.model.host.check_interrupted()
                if self._controls.state == "paused":
                    return False
                if self._controls.state != "running":
                    return True
                time.sleep(WAIT_S)
        return True

    def admit(self, index: int) -> None:
        """Put the frames of chunk `index` in force: from the journal, or else the newest ones.

        BadInput if a person stops the run while the first chunk still waits for them: a later run
        would take it for a chunk of a lost source, which goes without.
        """
        live = self._spec.live
        if live is None or not self._frames(index):
            return
        chain = self._recorded(index, live)
        if chain is None:
            latents = self._receive(index, live)
            record(self._state.chain, index, self._spec.journal, latents)
            chain = self._recorded(index, live)
        assert chain is not None
        self._state.receive(chain)
        self._record.follow(chain, index)

    def close(self) -> None:
        """Let the source go; a later chunk opens it again."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()
            self._dropped += receiver.dropped
        unlisten, self._unlisten = self._unlisten, None
        if unlisten is not None:
            unlisten()

    def _close_at_end(self) -> None:
        if self._controls.ended:
            self.close()

    def _receive(self, index: int, live: LiveInput) -> Tensor | None:
        """The newest frames as latents; None while the source is lost."""
        count, before = self._picture_count(index)
        receiver = self._receiver
        if receiver is None:
            return None
        if not receiver.is_ready(count):
            if index == 0 and self._controls.state == "stopping" and not receiver.is_lost:
                raise BadInput(STOPPED)
            return None
        pictures, frames = receiver.take(count, before), self._frames(index)
        if not len(pictures):
            return None
        latents = live.encode(pictures)[frames[0] - frames[-1] - 1 :]
        return latents[[frame - frames[0] for frame in frames]]

    def _picture_count(self, index: int) -> tuple[int, int]:
        """How many pictures chunk `index` takes, and how many earlier ones its encoder reads."""
        frames = self._frames(index)
        return frame_count(frames[-1] + 1) - frame_count(frames[0]), min(1, frames[0])

    def _frames(self, index: int) -> list[int]:
        return [*new_frames(self._state.chain, index, self._state.settings.known_frames)]

    def _recorded(self, index: int, live: LiveInput) -> Chain | None:
        return recorded(self._state.chain, index, self._spec.journal, live)
