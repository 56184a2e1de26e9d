"""The live addresses: one secret token for each place of a node, the same for all of its takes."""

from __future__ import annotations

import secrets

MAX_PLACES = 1024

Place = tuple[str | None, ...]


class Places:
    """Tokens by place, and places by token. The place that was used longest ago goes first."""

    def __init__(self) -> None:
        self._tokens: dict[Place, str] = {}

    def token(self, place: Place) -> str:
        """The token of a place, 128 random bits."""
        token = self._tokens.pop(place, None) or secrets.token_urlsafe(16)
        self._tokens[place] = token
        while len(self._tokens) > MAX_PLACES:
            del self._tokens[next(iter(self._tokens))]
        return token

    def place(self, token: str) -> Place | None:
        """The place with this token; None if there is none."""
        return next((place for place, known in self._tokens.items() if known == token), None)
