"""`RunObserver`: what a host learns about a run while it happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...samplers.loop import Chunk


class RunObserver(Protocol):
    """Called on the thread that produces chunks. An exception ends the run."""

    def on_edit(self) -> None:
        """An edit or a stop: the run no longer gives what the workflow alone gives."""

    def on_encode(self, text: str) -> None:
        """The prompt of an edit is about to be encoded; chunks wait for it."""

    def on_encoded(self) -> None:
        """That prompt is encoded, or cannot be."""

    def on_compile(self) -> None:
        """The model is about to be compiled; chunks wait for it."""

    def on_compiled(self) -> None:
        """The model is compiled, or cannot be."""

    def on_receive(self) -> None:
        """A live source is opened; chunks wait for its first pictures."""

    def on_received(self) -> None:
        """The pictures are there, or the wait for them ends without."""

    def on_open(self, first: int, start_s: float) -> None:
        """Production begins at chunk `first`, which starts at `start_s` of the video."""

    def on_chunk(self, chunk: Chunk) -> None:
        """A new chunk is in the journal."""

    def on_close(self, lines: Sequence[str], others: Sequence[str]) -> None:
        """Production has ended, for whatever reason.

        `lines` of a timeline say the edits in force, and `others` in words what no line can.
        """

    def on_delivered(self, chunk: Chunk, drift: float | None) -> str | None:
        """A chunk, new or stored, is handed out for the first time.

        `drift` is how far the picture has drifted, if that is too far. The run notifies users of
        the sentence that this returns.
        """

    def notify(self, sentence: str) -> None:
        """Show a sentence to users."""


class SilentObserver:
    """Ignores everything: for runs without a host."""

    def on_edit(self) -> None: ...

    def on_encode(self, text: str) -> None: ...

    def on_encoded(self) -> None: ...

    def on_compile(self) -> None: ...

    def on_compiled(self) -> None: ...

    def on_receive(self) -> None: ...

    def on_received(self) -> None: ...

    def on_open(self, first: int, start_s: float) -> None: ...

    def on_chunk(self, chunk: Chunk) -> None: ...

    def on_close(self, lines: Sequence[str], others: Sequence[str]) -> None: ...

    def on_delivered(self, chunk: Chunk, drift: float | None) -> str | None:
        return None

    def notify(self, sentence: str) -> None: ...
