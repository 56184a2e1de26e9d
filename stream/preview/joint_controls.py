"""Controls of several runs that one video shows: pause, resume and stop reach all of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..drive.drive import Answer, Drive, Steer
from ..incoming.inlet import Fault, Inlet, Wish
from ..rollout.live.controls import Controls, State

BY_URGENCY: tuple[State, ...] = ("paused", "running", "stopping", "stopped")
EDIT_EACH = (
    "This video shows several shots, and an edit belongs to one; connect a preview of its own to "
    "each shot, and edit it there."
)


class JointControls(Controls):
    """Pause, resume and stop all of `members`, runs of different shots.

    Edits and keys are refused: they have a time in their own shot, and a line in its workflow.
    """

    def __init__(self, members: Sequence[Controls]) -> None:
        super().__init__()
        self.members = tuple(run for each in members for run in each.members)
        self.edit_queue.close(EDIT_EACH)
        self.drive, self.inlet = _NoDrive(self._announce), _SharedInlet(self.members)
        clocks = frozenset(run.clock for run in self.members)
        for run in self.members:
            run.paused_clocks |= clocks  # it holds up their runs too
            run.listen(self._announce)

    @property
    def state(self) -> State:
        """What all runs do: they are made in turns, so that one which pauses holds up the rest."""
        states = [run.state for run in self.members]
        return next((state for state in BY_URGENCY if state in states), "done")

    @property
    def message(self) -> str | None:
        """The last sentences of all runs; None before the first."""
        sentences = [run.message for run in self.members]
        return " ".join(dict.fromkeys(filter(None, sentences))) or None

    @property
    def wants_stop(self) -> bool:
        """Whether all runs were stopped, or end since a user asked for that."""
        return all(run.wants_stop or run.ended for run in self.members) and any(
            run.wants_stop for run in self.members
        )

    def pause(self) -> None:
        """Let every run wait before its next chunk."""
        for run in self.members:
            run.pause()

    def resume(self) -> None:
        """Let every run go on."""
        for run in self.members:
            run.resume()

    def stop(self) -> None:
        """End every run after its current chunk."""
        for run in self.members:
            run.stop()


class _NoDrive(Drive):
    """A wheel that nobody can take."""

    def steer(self, message: Steer) -> Answer:
        return "several shots"


class _SharedInlet(Inlet):
    """The pictures of one page for all runs that want some."""

    def __init__(self, members: Sequence[Controls]) -> None:
        super().__init__(lambda: None)
        self._members = members

    @property
    def wish(self) -> Wish | None:
        return next(filter(None, (run.inlet.wish for run in self._members)), None)

    def put(self, picture: bytes) -> bool:
        return any([run.inlet.put(picture) for run in self._members])

    def fail(self, fault: Fault) -> bool:
        return any([run.inlet.fail(fault) for run in self._members])
