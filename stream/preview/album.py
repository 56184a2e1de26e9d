"""Connects the saved files of a stream with the takes that show the same frames."""

from __future__ import annotations

import weakref

from .messages import TakeFile
from .take import Take


class Album:
    """The files and takes of one FRAMES value within one prompt.

    Another prompt starts a new album, since live edits may have changed the frames.
    """

    def __init__(self) -> None:
        self._prompt_id = ""
        self._files: list[TakeFile] = []
        self._takes: weakref.WeakSet[Take] = weakref.WeakSet()

    def add_take(self, take: Take) -> None:
        """Add a take, which learns of all files, present and future."""
        self._start_prompt(take.origin.prompt_id)
        self._takes.add(take)
        for file in self._files:
            take.add_file(file)

    def add_file(self, file: TakeFile, prompt_id: str) -> None:
        """Add a complete file and announce it in every take."""
        self._start_prompt(prompt_id)
        self._files.append(file)
        for take in list(self._takes):
            take.add_file(file)

    def _start_prompt(self, prompt_id: str) -> None:
        if prompt_id != self._prompt_id:
            self._prompt_id = prompt_id
            self._files.clear()
            self._takes.clear()
