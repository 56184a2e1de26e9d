"""Which files hold a stream's frames, for the takes that show the same frames."""

from __future__ import annotations

import weakref

from .messages import TakeFile
from .take import Take


class Album:
    """Files and takes of one FRAMES value. Those of another prompt are not mixed in: a live edit
    may have made its frames differ.
    """

    def __init__(self) -> None:
        self._prompt_id = ""
        self._files: list[TakeFile] = []
        self._takes: weakref.WeakSet[Take] = weakref.WeakSet()

    def show_in(self, take: Take) -> None:
        """Tell a take of the files that there are and will be."""
        self._turn_to(take.origin.prompt_id)
        self._takes.add(take)
        for file in self._files:
            take.add_file(file)

    def saved(self, file: TakeFile, prompt_id: str) -> None:
        """Tell every take of a file that is whole now."""
        self._turn_to(prompt_id)
        self._files.append(file)
        for take in list(self._takes):
            take.add_file(file)

    def _turn_to(self, prompt_id: str) -> None:
        if prompt_id != self._prompt_id:
            self._prompt_id = prompt_id
            self._files.clear()
            self._takes.clear()
