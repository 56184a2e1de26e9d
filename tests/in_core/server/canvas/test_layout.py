"""What a user sees of our nodes on ComfyUI's canvas, by its own front end."""

from __future__ import annotations

import json

import pytest

from longtake.tests.in_core.support.canvas_runner import drive
from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.places import ROOT
from longtake.tools import examples
from longtake.tools.blueprints import BLUEPRINTS

FOLDER = ROOT / "example_workflows"
SUBGRAPHS = ROOT / "subgraphs"
SHORT_S = 3.0
pytestmark = pytest.mark.browser


@pytest.mark.parametrize("vue", [False, True])
def test_a_blueprints_prompt_has_room_for_eight_lines(client: Client, vue: bool) -> None:
    for name in BLUEPRINTS:
        canvas = json.loads((SUBGRAPHS / f"{name}.json").read_text("utf-8"))
        [lines] = drive(client.url, [{"do": "promptLines", "canvas": canvas, "vue": vue}])
        assert lines >= 8, name


def test_no_group_is_narrower_than_its_title(client: Client) -> None:
    steps = [{"do": "groupTitles", "canvas": json.loads(path.read_text("utf-8"))}
             for path in FOLDER.glob("*.json")]  # fmt: skip
    for title, needed, width in (group for groups in drive(client.url, steps) for group in groups):
        assert needed <= width, title


@pytest.mark.parametrize("vue", [False, True])
def test_each_node_of_an_example_shows_its_text_and_covers_no_other_one(
    client: Client, vue: bool
) -> None:
    names = sorted({*examples.EXAMPLES} - examples.LIVE)
    canvases = [json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in names]
    steps = [{"do": "disorder", "canvas": canvas, "vue": vue, "seconds": SHORT_S}
             for canvas in canvases]  # fmt: skip
    found = dict(zip(names, drive(client.url, steps), strict=True))
    assert found == dict.fromkeys(names, [])


@pytest.mark.parametrize("vue", [False, True])
def test_a_status_text_is_seen_whole_and_broken_between_words(client: Client, vue: bool) -> None:
    canvas = json.loads((FOLDER / "1_text_to_stream.json").read_text("utf-8"))
    step = {"do": "statusTexts", "canvas": canvas, "vue": vue, "seconds": SHORT_S}
    assert drive(client.url, [step]) == [{"broken": [], "cut": 0}]


@pytest.mark.parametrize("vue", [False, True])
def test_a_new_schedule_has_room_for_its_first_run(client: Client, vue: bool) -> None:
    [[before, after, *pictures]] = drive(client.url, [{"do": "newSchedule", "vue": vue}])
    assert after <= before + 4 and all(pictures)
