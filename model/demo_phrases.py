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
        after = [*words[i + 1 : i + 2]]
        if word in DESCRIPTIONS and [word, *after] != ["desert", "dunes"]:
            yield from ((description, word) for description in before)
            if after == ["is"]:
                yield from ((description, word) for description in _descriptive_run(words, i + 2))
            before = []
        elif word in _DESCRIPTIVE:
            before.append(word)
        else:
            before = []


def _descriptive_run(words: Sequence[str], start: int) -> list[str]:
    """The descriptive words from `start` on; the first alone where a thing follows that takes some.

    No slice goes to the end, so that a long prompt takes time in proportion to its length.
    """
    following = (words[i] for i in range(start, len(words)))
    run = [*takewhile(_DESCRIPTIVE.__contains__, following)]
    stop = start + len(run)
    thing_follows = any(word in DESCRIPTIONS for word in words[stop : stop + 1])
    return run[:1] if thing_follows else run
