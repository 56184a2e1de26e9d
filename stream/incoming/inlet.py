"""Where a page's pictures come in: a run says that it wants them, and a page sends its newest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["webcam", "screen"]
KINDS: tuple[Kind, ...] = ("webcam", "screen")
Fault = Literal["denied", "missing", "lost", "insecure"]
FAULTS: dict[Fault, str] = {
    "denied": "The browser was not allowed to send pictures; allow it beside the page's address.",
    "missing": "The browser has no camera, or another program uses it.",
    "lost": "The page's camera was disconnected, or its sharing ended.",
    "insecure": "Browsers give pictures to secure pages only; open the page by https or as "
    "localhost.",
}
"""What a page may say instead of sending pictures, and the sentence that users get."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run wants of a page: what kind of pictures, of which size, how many a second."""

    kind: Kind
    width: int
    height: int
    fps: float


class Inlet:
    """The newest picture of a page; every method is safe on any thread.

    `on_change` is called without a lock whenever the wish changes. `is_over` after the run's end.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._changed = threading.Condition()
        self._wish: Wish | None = None
        self._picture: bytes | None = None
        self._fault: Fault | None = None
        self.is_over = False

    @property
    def wish(self) -> Wish | None:
        """What pages are asked for now; None if nothing is."""
        return self._wish

    def ask(self, wish: Wish) -> None:
        """Ask pages for pictures, in place of those that they were asked for."""
        with self._changed:
            self._set_wish(wish)
        self._on_change()

    def withdraw(self, wish: Wish) -> None:
        """Ask pages for no more of a wish's pictures; another wish in its place stays."""
        with self._changed:
            if self._wish is not wish:
                return
            self._set_wish(None)
        self._on_change()

    def _set_wish(self, wish: Wish | None) -> None:
        self._wish, self._picture, self._fault = wish, None, None
        self._changed.notify_all()

    def put(self, picture: bytes) -> bool:
        """Leave a JPEG in place of an older one; False if nobody wants it."""
        with self._changed:
            if self._wish is None:
                return False
            self._picture, self._fault = picture, None
            self._changed.notify_all()
        return True

    def fail(self, fault: Fault) -> bool:
        """Say why no pictures come; False if nobody wants them."""
        with self._changed:
            if self._wish is None:
                return False
            self._fault = fault
            self._changed.notify_all()
        return True

    def take(self, wait_s: float) -> bytes | Fault | None:
        """The newest picture, once, or the fault that came after it.

        None after `wait_s` seconds or the end of the run.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._picture or self._fault or self.is_over, wait_s)
            picture, self._picture = self._picture, None
            if picture is not None:
                return picture
            fault, self._fault = self._fault, None
            return fault

    def close(self) -> None:
        """Want nothing any more, at the end of the run. Does not call `on_change`."""
        with self._changed:
            self._wish, self.is_over = None, True
            self._changed.notify_all()
