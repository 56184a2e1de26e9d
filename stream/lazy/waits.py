"""Where each task waits, in whatever stream, so that no two tasks wait for each other."""

from __future__ import annotations

import asyncio
import weakref
from typing import Protocol

Task = asyncio.Task[object]


class Place(Protocol):
    """Where a task can wait for a chunk."""

    def holders(self) -> set[Task]:
        """The tasks without which that chunk is not made."""


_places: weakref.WeakKeyDictionary[Task, Place] = weakref.WeakKeyDictionary()


def note_wait(place: Place | None) -> None:
    """Note where the task in which this is called waits from now on; None: nowhere."""
    task = asyncio.current_task()
    if task is not None and place is not None:
        _places[task] = place
    elif task is not None:
        _places.pop(task, None)


def depends_on(task: Task | None, other: Task | None) -> bool:
    """Whether `task` is `other`, or waits for it, or for a task that does."""
    tasks, seen = [task], {task}
    while tasks and other not in seen:
        place = _places.get(last) if (last := tasks.pop()) is not None else None
        new = (place.holders() if place else set[Task]()) - seen
        seen |= new
        tasks += new
    return other in seen
