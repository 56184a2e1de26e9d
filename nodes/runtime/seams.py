"""The last pictures of chunks, for a stage that looks one picture back when a run goes on."""

from __future__ import annotations

from torch import Tensor

MOST = 4  # two of each stream, since an output may lack the last chunk; one of 4K is 100 MB


class Seams:
    """Holds the last pictures of the newest chunks that stages have read, by the chunks' address.

    Without one, the stage before makes the chunk again: a super-resolution in up to 95 passes.
    """

    def __init__(self) -> None:
        self._pictures: dict[str, Tensor] = {}

    def keep(self, key: str | None, picture: Tensor, *, instead_of: str | None) -> None:
        """Keep a copy of `picture` (1, 3, H, W), and forget the one at `instead_of`."""
        self.drop(instead_of)
        if key is not None:
            self._pictures[key] = picture.clone()
        while len(self._pictures) > MOST:
            del self._pictures[next(iter(self._pictures))]

    def find(self, key: str | None) -> Tensor | None:
        """The picture at `key`, if it is still here."""
        return None if key is None else self._pictures.get(key)

    def drop(self, key: str | None) -> None:
        """Forget the picture at `key`, if there is one."""
        self._pictures.pop(key or "", None)

    def clear(self) -> None:
        """Forget the pictures of all streams."""
        self._pictures.clear()
