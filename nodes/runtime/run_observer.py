"""Shows a run on the sampler's node and remembers for the session that it was altered."""

from __future__ import annotations

from collections.abc import Sequence

from ...model.vae.latent_format import frame_count
from ...samplers.guidance import Guidance
from ...samplers.loop import Chunk
from ...stream.rollout.spec import RolloutSpec
from ...stream.timecode import time_label
from ...units import count_of
from .. import host
from .session import session

TOLD_EDITS = 20
"""How many of a run's edits its end names; an OSC controller may make one a chunk."""


def describe_edits(lines: Sequence[str], others: Sequence[str]) -> str:
    """What becomes of the edits of a run: those that lines say, to be copied, and others."""
    count = len(lines) + len(others)
    them, these = ("it", "this line") if count == 1 else ("them", "these lines")
    fate = f"This run had {count_of(count, 'live edit')}. The next run goes on without {them}"
    said = [f"{fate}, unless the Prompt Timeline has {these}:" if lines else f"{fate}."]
    said += lines[-TOLD_EDITS:]
    words = ", ".join(others[-TOLD_EDITS:])
    return "\n".join([*said, f"No line can say: {words}."] if words else said)


def advise_on_drift(guidance: Guidance) -> str:
    """What may keep a shot from drifting under that guidance."""
    if len({branch.view for branch in guidance.branches}) > 1:
        return "lower scales of the history guidance"
    if len(guidance.branches) > 1:
        return "Memory Rules, a shorter window, a little context_noise or lower cfg"
    return "Memory Rules, a shorter window or a little context_noise"


class HostRunObserver:
    """Shows one run, which ends with the host's prompt, on the node `node_id`."""

    def __init__(self, spec: RolloutSpec, node_id: str | None, status: str) -> None:
        """`status` is the text that the node shows when the run begins."""
        self._spec, self._node_id, self._status = spec, node_id, status
        self._progress: host.Progress | None = None
        self._warned_of_drift = False
        self._told = 0  # edits

    def on_edit(self) -> None:
        """Make the host run the sampler again next time, instead of using its cached output."""
        session.note_altered(self._node_id)

    def on_encode(self, text: str) -> None:
        """Show why the chunks wait."""
        host.show_status(self._node_id, f"Encoding the new prompt {text!r}.")

    def on_encoded(self) -> None:
        """Show again what the node showed before."""
        host.show_text(self._node_id, self._status)

    def on_compile(self) -> None:
        """Show why the first chunk waits."""
        host.show_status(
            self._node_id, "Compiling the model; this takes up to a minute, once after each start."
        )

    def on_compiled(self) -> None:
        """Show again what the node showed before."""
        host.show_text(self._node_id, self._status)

    def on_receive(self) -> None:
        """Show why the next chunk waits, and what a page's camera needs."""
        host.show_status(
            self._node_id,
            "Waiting for the first picture of the live source. A webcam or screen starts with its "
            "button in the Streaming Preview.",
        )

    def on_received(self) -> None:
        """Show again what the node showed before."""
        host.show_text(self._node_id, self._status)

    def on_open(self, first: int, start_s: float) -> None:
        """Show where production begins."""
        if first:
            time = time_label(start_s)
            self._status = f"Continuing at {time}, after {count_of(first, 'finished chunk')}."
            host.show_status(self._node_id, self._status)
        self._progress = host.Progress(self._node_id, self._spec.chunk_count or 0)

    def on_chunk(self, chunk: Chunk) -> None:
        """Move the progress bar, which may raise the host's interrupt."""
        if self._progress is not None:
            self._progress.advance(chunk.index + 1)

    def on_close(self, lines: Sequence[str], others: Sequence[str]) -> None:
        """Finish the progress bar, and log what the next run does not have."""
        if self._progress is not None:
            self._progress.finish()
        self._progress = None
        count = len(lines) + len(others)
        if count > self._told:
            host.log(describe_edits(lines, others))
        self._told = count

    def on_delivered(self, chunk: Chunk, drift: float | None) -> str | None:
        """Warn once if the picture drifts."""
        if drift is None or self._warned_of_drift:
            return None
        self._warned_of_drift = True
        time = time_label(frame_count(chunk.first_frame) / self._spec.fps)
        return (
            f"The picture has drifted from the shot's beginning (by {drift:.1f}, from {time} on); "
            f"{advise_on_drift(self._spec.settings.guidance)} can help."
        )

    def notify(self, sentence: str) -> None:
        """Show a warning at the node."""
        self._status = f"Warning: {sentence}"
        host.warn(self._node_id, sentence)
