"""The address of a store, which may hold a password, and texts without that."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

USER = re.compile(r"(?<=//)[^/\s]*@")
QUERY = re.compile(r"\?\S*")
FILE = "file://"
HIDDEN = "***"
SHORTEST = 4  # letters; to hide a shorter name would make other words unreadable


@dataclass(frozen=True, slots=True)
class Address:
    """A folder, or a URL that fsspec understands. `repr` and `title` show no password."""

    url: str = field(repr=False)

    @property
    def title(self) -> str:
        """The address for people: without user, password and query."""
        return QUERY.sub("", USER.sub(f"{HIDDEN}@", self.url))

    @property
    def folder(self) -> Path | None:
        """The folder, if the address names one of this machine or of a mounted disk."""
        if self.url.startswith(FILE):
            return Path(unquote(self.url.removeprefix(FILE)))
        return None if "://" in self.url else Path(self.url).expanduser()

    @property
    def whole(self) -> str:
        """The address for processes in other folders: a relative folder with its whole path."""
        is_relative = "://" not in self.url and not self.url.startswith("~")
        return str(Path(self.url).absolute()) if is_relative else self.url

    def clean(self, text: object) -> str:
        """Return a text, such as an error's, without what `title` hides."""
        words = QUERY.sub("", USER.sub(f"{HIDDEN}@", str(text)))
        for secret in sorted(self._secrets(), key=len, reverse=True):
            words = words.replace(secret, HIDDEN)
        return words

    def _secrets(self) -> set[str]:
        users = [match.rstrip("@") for match in USER.findall(self.url)]
        parts = [part for user in users for part in user.split(":", 1) if len(part) >= SHORTEST]
        values = [part.partition("=")[2] for query in QUERY.findall(self.url)
                  for part in query[1:].split("&")]  # fmt: skip
        texts = {*users, *parts, *values}
        return {text for text in texts | {unquote(text) for text in texts} if text}
