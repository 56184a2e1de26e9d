"""Which words of the demo describe which things, to tell a user of a word that does nothing.

The training world gives a word its meaning by its place: hills are green, a ball never is. A test
compares the table with the captions of `training/world/attributes.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

DESCRIPTIONS: Mapping[str, tuple[str, ...]] = {
    "ball": (
        "red", "blue", "yellow", "white", "purple", "crimson", "scarlet", "azure", "cobalt",
        "golden", "lemon", "ivory", "pale", "violet", "magenta", "bouncing",
    ),
    "hills": ("green", "grassy"),
    "dunes": ("desert", "sand"),
    "mountains": ("snowy", "icy"),
    "sky": ("clear", "cloudless", "cloudy", "overcast"),
    "weather": ("fair", "cloudy"),
    "camera": ("static",),
    "view": ("fixed",),
    "desert": (),
    "meadows": (),
    "snowfield": (),
}  # fmt: skip
"""The words that describe each thing, most common first."""

_DESCRIPTIVE = frozenset(word for words in DESCRIPTIONS.values() for word in words)


def misplaced_words(clauses: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    """Pairs of a word and the thing that it stands at but never describes, such as green and ball.

    `clauses` hold known words alone. A word describes the thing that it precedes, or that precedes
    it with "is" between.
    """
    pairs = (pair for clause in clauses for pair in _described(clause))
    wrong = (pair for pair in pairs if pair[0] not in DESCRIPTIONS[pair[1]])
    return tuple(dict.fromkeys(wrong))


def _described(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """All pairs of a descriptive word and the thing that it stands at."""
    before = list[str]()  # descriptive words that wait for their thing
    for i, word in enumerate(words):
        following = words[i + 1 :]
        if word in DESCRIPTIONS and (word, *following[:1]) != ("desert", "dunes"):
            yield from ((description, word) for description in before)
            if following[:1] == ["is"]:
                yield from ((description, word) for description in _descriptive_run(following[1:]))
            before = []
        else:
            before = [*before, word] if word in _DESCRIPTIVE else []


def _descriptive_run(words: Sequence[str]) -> list[str]:
    """The descriptive words at the front; only the first where a thing follows that takes some."""
    run = [*takewhile(_DESCRIPTIVE.__contains__, words)]
    thing_follows = any(word in DESCRIPTIONS for word in words[len(run) :][:1])
    return run[:1] if thing_follows else run
