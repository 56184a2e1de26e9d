"""The example workflows on the canvas: a note first, nodes side by side, groups around nodes."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from longtake.model.files.known_files import FOLDERS
from longtake.tools.example_notes import NOTES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
COMMUNITY = sorted((ROOT / "example_workflows" / "community").glob("*.json"))
MODELS = (".safetensors", ".pt", ".pth", ".ckpt")
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
APPS = ("1_text_to_stream", "2_long_shot", "drive_live", "community/self_forcing")
SLOT = 20  # pixels of a line in the list of a blueprint's inputs or outputs
TITLE = 30  # pixels above a node's own place


def box(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def assert_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = box(one), box(other)
    apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert apart, f"{one['type']} and {other['type']}"


@pytest.mark.parametrize("path", [*EXAMPLES, *COMMUNITY], ids=lambda path: path.stem)
def test_no_node_of_an_example_lies_over_another(path: Path) -> None:
    nodes = json.loads(path.read_text("utf-8"))["nodes"]
    for one, other in combinations(nodes, 2):
        assert_apart(one, other)


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_inside_a_blueprint_nodes_stand_between_the_inputs_and_the_outputs(path: Path) -> None:
    [inside] = json.loads(path.read_text("utf-8"))["definitions"]["subgraphs"]
    inputs, outputs = (inside[name]["bounding"] for name in ("inputNode", "outputNode"))
    assert inputs[3] >= SLOT * len(inside["inputs"]) and outputs[3] >= SLOT * len(inside["outputs"])
    for node in inside["nodes"]:
        left, _, right, _ = box(node)
        assert inputs[0] + inputs[2] < left and right < outputs[0], node["type"]
    for one, other in combinations(inside["nodes"], 2):
        assert_apart(one, other)


@pytest.mark.parametrize("path", [*EXAMPLES, *COMMUNITY], ids=lambda path: path.stem)
def test_values_by_name_are_the_values_in_order(path: Path) -> None:
    """A canvas may read either: with other ones, an example would load another model.

    Widgets that hold nothing, such as a sound's player, have no name.
    """
    for node in json.loads(path.read_text("utf-8"))["nodes"]:
        if "widgets_values_named" in node:
            values = [value for value in node["widgets_values"] if value is not None]
            assert [*node["widgets_values_named"].values()] == values, node["type"]


@pytest.mark.parametrize("path", COMMUNITY, ids=lambda path: path.stem)
def test_every_model_of_an_example_has_its_folder_and_address(path: Path) -> None:
    """ComfyUI's panel of missing models reads them, by the name that the loader's widget holds."""
    for node in json.loads(path.read_text("utf-8"))["nodes"]:
        held = [value for value in node.get("widgets_values", []) if str(value).endswith(MODELS)]
        known = node["properties"].get("models", [])
        assert [model["name"] for model in known] == held, node["type"]
        for model in known:
            [folder] = [f for (kind, _), f in FOLDERS.items() if kind == node["type"]]
            assert model["directory"] == folder and model["url"].startswith("https://")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_begins_with_a_note_of_three_lines(path: Path) -> None:
    [note, *others] = json.loads(path.read_text("utf-8"))["nodes"]
    assert note["type"] == "MarkdownNote" and note["widgets_values"] == [NOTES[path.stem].strip()]
    assert len(NOTES[path.stem].strip().splitlines()) == 3
    assert note["pos"][0] <= min(node["pos"][0] for node in others)


@pytest.mark.parametrize("path", [*EXAMPLES, *COMMUNITY], ids=lambda path: path.stem)
def test_a_group_holds_whole_nodes(path: Path) -> None:
    canvas = json.loads(path.read_text("utf-8"))
    for group in canvas["groups"]:
        x, y, width, height = group["bounding"]
        held = [
            node
            for node in map(box, canvas["nodes"])
            if node[0] < x + width and x < node[2] and node[1] < y + height and y < node[3]
        ]
        assert held, group["title"]
        for left, top, right, bottom in held:
            inside = x <= left and y <= top and right <= x + width and bottom <= y + height
            assert inside, group["title"]


@pytest.mark.parametrize("name", APPS)
def test_app_mode_of_an_example_shows_what_one_shot_needs(name: str) -> None:
    canvas = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text("utf-8"))
    types = {node["id"]: node["type"] for node in canvas["nodes"]}
    app = canvas["extra"]["linearData"]
    assert [(types[number], widget) for number, widget in app["inputs"]] == [
        ("LongtakePromptTimeline", "text"),
        ("LongtakeSampler", "length"),
        ("LongtakeSampler", "seed"),
        ("LongtakePreview", "player"),
    ]
    assert [types[number] for number in app["outputs"]] == ["LongtakeSaveVideo"]
