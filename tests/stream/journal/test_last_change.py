"""What the list of shots says of changes within a shot."""

from __future__ import annotations

import pytest

from longtake.stream.journal.fork_tree import last_change
from longtake.stream.journal.records import Record


def shot(*prompts: tuple[int, str]) -> Record:
    """A record of twelve latent frames."""
    facts = {"prompts": prompts, "seeds": [(0, 1)], "guidance": [], "fps": 16.0}
    return Record("id", facts, ("a", "b"), (6, 6), frozenset({"a", "b"}), 0.0)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (shot((0, "red")), ""),
        (shot((0, "red"), (6, "blue")), "from 0:01.3: prompt blue"),
        (shot((0, "red"), (6, "blue"), (12, "green")), "from 0:01.3: prompt blue"),
        (shot((0, "red"), (20, "green")), ""),
    ],
)
def test_a_change_after_the_end_is_not_told(record: Record, words: str) -> None:
    assert last_change(record) == words
