"""Asynchronous readers in step: the next chunk is made when each of them has taken the last one."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from .production import Cursor, Production
from .waits import note_wait

T = TypeVar("T")


class Subscription(AsyncIterator[T]):
    """A reader in step with the other subscriptions of a production.

    It belongs to the task that reads it. When that task ends in any way, or the subscription is
    closed, dropped or cancelled, the other readers continue without it.
    """

    def __init__(self, production: Production[T], first: int = 0) -> None:
        self._production: Production[T] | None = production
        self._cursor: Cursor[T] | None = Cursor(production, first)
        self._woken = asyncio.Event()
        self._is_waiting = self._holds = False
        self._error: BaseException | None = None
        self.owner: asyncio.Task[object] | None = None
        self._on_owner_done = _weak_close(self)
        self._set_owner(asyncio.current_task())
        production.subscribers.add(self)

    def __aiter__(self) -> Subscription[T]:
        return self

    def __enter__(self) -> Subscription[T]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close. An interrupt, which is no `Exception`, ends the other readers too.

        A host raises an interrupt only once, in the reader that checks first.
        """
        own = (Exception, asyncio.CancelledError, GeneratorExit)
        if self._production is not None and error is not None and not isinstance(error, own):
            self._production.fail(error)
        self.close()
        self._error = None  # its traceback would keep the producer's memory

    async def __anext__(self) -> T:
        self._set_owner(asyncio.current_task())
        self._is_waiting = True
        note_wait(self)
        try:
            await self._yield_to_others()
            return await self._take()
        except BaseException:  # ended, failed, interrupted or cancelled: release the others
            self.close()
            self._error = None  # its traceback would keep the producer's memory
            raise
        finally:
            self._is_waiting = False
            note_wait(None)

    def close(self) -> None:
        """Stop reading and release the other readers; closing twice is harmless."""
        production, self._production, self._cursor = self._production, None, None
        self._set_owner(None)
        if production is not None:
            production.subscribers.discard(self)
            production.wake()
        self.wake()

    def fail(self, error: BaseException) -> None:
        """Raise `error` at the next read."""
        self._error = error
        self.close()

    def __del__(self) -> None:
        self.close()

    def wake(self) -> None:
        """Check again whether a chunk can be taken."""
        self._woken.set()

    def is_behind(self, index: int) -> bool:
        """Whether this subscription is not done with chunk `index`, and will still be."""
        if self._cursor is None or (self.owner and self.owner.done()):
            return False
        return self._cursor.index - self._holds <= index

    def holders(self) -> set[asyncio.Task[object]]:
        """The other tasks without which the next chunk here is not made."""
        if self._production is None or self._cursor is None:
            return set()
        return self._production.holders(self._cursor.index) - {self.owner}

    def hold(self, holds: bool) -> None:
        """Let others wait with the next chunk until this one is done with the last, or no more."""
        self._holds = holds
        if self._production is not None:
            self._production.wake()

    def is_ahead(self) -> bool:
        """Whether a reader waits for the chunk that this one took last; an interrupt is raised."""
        if self._error is not None:
            raise self._error
        if self._production is None or self._cursor is None:
            return False
        return self._production.is_awaited(self._cursor.index - 1)

    def awaits(self, index: int) -> bool:
        """Whether a task waits for chunk `index` here."""
        return self._is_waiting and self._cursor is not None and self._cursor.index == index

    def reads_beside(self, task: asyncio.Task[object] | None) -> bool:
        """Whether this subscription still takes chunks, for another task."""
        return self._cursor is not None and self.owner is not task

    @property
    def others_read(self) -> bool:
        """Whether another task reads this production."""
        return self._production is not None and self._production.is_read_beside(self.owner)

    async def wait_for_others(self) -> None:
        """Take no more chunks, and return once no other task reads this production."""
        self._cursor = None
        if self._production is not None:
            self._production.wake()
        while self.others_read:
            self._woken.clear()
            await self._woken.wait()

    async def _yield_to_others(self) -> None:
        """Give the event loop a turn; before the first chunk, wait until nobody new subscribes.

        The host starts one output per turn, after the turn of those already started: hence two.
        """
        await asyncio.sleep(0)
        production, seen = self._production, 0
        while production is not None and production.position == 0:
            if seen == len(production.subscribers):
                return
            seen = len(production.subscribers)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def _take(self) -> T:
        while self._production is not None and self._cursor is not None:
            self._woken.clear()
            if self._production.has_for(self._cursor.index, self.owner):
                return _advance(self._production, self._cursor)
            await self._woken.wait()
        raise self._error or StopAsyncIteration

    def _set_owner(self, task: asyncio.Task[object] | None) -> None:
        """Make `task` the owner, whose end closes this subscription."""
        if task is self.owner:
            return
        if self.owner is not None:
            self.owner.remove_done_callback(self._on_owner_done)
        if task is not None:
            task.add_done_callback(self._on_owner_done)
        self.owner = task


def _advance(production: Production[T], cursor: Cursor[T]) -> T:
    """Take the next chunk. Any failure fails all readers: a host raises an interrupt only once."""
    try:
        return next(cursor)
    except StopIteration:
        raise StopAsyncIteration from None
    except BaseException as error:
        production.fail(error)
        raise
    finally:
        production.wake()


def _weak_close(subscription: Subscription[Any]) -> Callable[[object], None]:
    """A task's done callback that closes the subscription without keeping it alive."""
    reference = weakref.ref(subscription)

    def close(_: object) -> None:
        alive = reference()
        if alive is not None:
            alive.close()

    return close
