"""Times in front of lines: what is read as a time, and what is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.nodes.conditioning.timed_numbers import read_numbers
from longtake.nodes.steering.camera_lines import read_moves
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.nodes.timelines import parsed


@pytest.fixture(autouse=True)
def _host(tmp_path: Path) -> Iterator[None]:
    with lasting_host(tmp_path, lambda event: None):
        yield


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a ball", [(0, "a ball")]),
        ("", [(0, "")]),
        ("0: a\n5.5: b", [(0, "a"), (5.5, "b")]),
        ("5: b\n0: a", [(5, "b"), (0, "a")]),
        ("0: a\n0.0: b", [(0, "a"), (0, "b")]),
        ("0: a\n1:05: b", [(0, "a"), (65, "b")]),
        ("0: a\n5s: b", [(0, "a"), (5, "b")]),
        ("0: a, which\n  goes on\n4:", [(0, "a, which goes on"), (4, "")]),
        ("panning left: hills", [(0, "panning left: hills")]),
        ("0: 3 balls\n5:3 balls", [(0, "3 balls"), (5, "3 balls")]),
        ("0: a\n1:30 s: b\n2: 30 balls", [(0, "a"), (90, "b"), (2, "30 balls")]),
        ("0: a\n1,000 balls: b", [(0, "a 1,000 balls: b")]),
        ("Nancy: she waves\nInfrared: a ball", [(0, "Nancy: she waves Infrared: a ball")]),
        ("0: a\n.5: b\n1:01:02.5: c", [(0, "a"), (0.5, "b"), (3662.5, "c")]),
        ("0: a\n5 sec: b\n6 seconds (over 1): c", [(0, "a"), (5, "b"), (6, "c")]),
        ("0：a：b\n1：05：c，d（e）\n７（over 2）：f", [(0, "a：b"), (65, "c，d（e）"), (7, "f")]),
        ("0（guidance 2、over 1）：a、b", [(0, "a、b")]),
        ("\ufeff0: a", [(0, "a")]),
        ("\u200b0: a\n\u200f 5\u200e: b\n\u20687\u2069: c", [(0, "a"), (5, "b"), (7, "c")]),
        (
            "0: [3 balls] at 5-10 m: a\n3-D: b\n'3' balls",
            [(0, "[3 balls] at 5-10 m: a 3-D: b '3' balls")],
        ),
        ("0: a\n3 more balls: b\n3D: c", [(0, "a 3 more balls: b 3D: c")]),
    ],
)
def test_lines_are_read(text: str, expected: list[tuple[float, str]]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5: a", "first prompt starts at 5 s"),
        ("0: a\n-1: b", "Line 2 starts with '-1'"),
        ("0: a\nnan: b", "Line 2 starts with 'nan'"),
        ("0: a\ninf: b", "Line 2 starts with 'inf'"),
        ("0: a\n1e3: b", "Line 2 starts with '1e3'"),
        ("0: a\n9999999: b", "Line 2 starts with '9999999'"),
        ("0: a\n5,5: b", "Line 2 starts with '5,5', which is not a time"),
        ("0: a\n1:30 b", "Line 2 starts with '1:30' and no colon after it; write `1:30: ...`"),
        ("00:05.5 b", "Line 1 starts with '00:05.5' and no colon"),
        ("0: a\n\u200b1:30 b", "Line 2 starts with '1:30' and no colon after it"),
        ("0: a\n1:00:05 b", "Line 2 starts with '1:00:05' and no colon"),
        ("0: a\n5 (over 2) b", r"Line 2 has no colon after \(over 2\); write `5 \(over 2\): ...`"),
        ("0: a\n5 min: b", "Line 2 starts with '5 min', which is not a time"),
        ("0-5: a\n5-10: b", "Line 1 starts with '0-5:', which is no start time here; write lines"),
        ("0: a\n2.5s \u2013 1:30: b", "Line 2 starts with '2.5s \u2013 1:30:'"),
        ("0: a\n5 to 10 s: b", "Line 2 starts with '5 to 10 s:'"),
        ("[0s: a] [3s: b]", r"Line 1 starts with '\[0s:'"),
        ("a\n[3s-5s: b]", r"Line 2 starts with '\[3s-5s:'"),
        ('"0": "a",\n"48": "b"', r"Line 1 starts with '\"0\":'"),
        ("0: a\n1:2:3:4: b", "Line 2 starts with '1:2:3:4', which is not a time"),
    ],
)
def test_what_is_no_time_is_named(text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        parsed(text)


@pytest.mark.parametrize("text", ["1: {0}\n4: {0}\n0:04: {1}", "4.0: {1}\n\n4: {0}"])
def test_two_lines_of_one_time_are_refused(text: str) -> None:
    """The lower one counted, and nothing said that the other one did not."""
    said = r"Lines \d and 3{} both start at 4 s; leave one of them out"
    with pytest.raises(BadInput, match=said.format("")):
        read_moves(text.format("forward", "pan left 20"))
    with pytest.raises(BadInput, match=said.format(" of the strength")):
        read_numbers(text.format("0.5", "1"), "strength", 2.0)


def test_a_line_may_change_the_strength_of_loras() -> None:
    from longtake.nodes.conditioning.timeline import parse

    text = "0 (lora 0): a\n5 (LoRA -.5e0): b\n5 (lora -0.5, guidance 3, over 2): b\n9: c"
    with pytest.raises(BadInput, match="Line 2 has"):
        parse(text)
    lines = [text.splitlines()[number] for number in (0, 2, 3)]
    read = [(entry.lora, entry.guidance, entry.over_s) for entry in parse("\n".join(lines))]
    assert read == [(0, None, 0), (-0.5, 3, 2), (None, None, 0)]


@pytest.mark.parametrize("option", ["lora", "lora 21", "lora -21", "lora a 1"])
def test_impossible_factors_are_named(option: str) -> None:
    with pytest.raises(BadInput, match="Line 2 has"):
        parsed(f"0: a\n5 ({option}): b")
