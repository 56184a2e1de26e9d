"""What every node promises its users: a permanent id, few inputs, help on each of them, a page."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from longtake.headless.hosts.stand_in import core_nodes
from longtake.nodes import categories
from longtake.tests.support.lasting_host import lasting_host

ROOT = Path(__file__).resolve().parents[2]
PERMANENT_IDS = {
    "LongtakeLoadDemoModel",
    "LongtakeLoadModel",
    "LongtakeModelSettings",
    "LongtakePromptTimeline",
    "LongtakeKVCacheSettings",
    "LongtakeMemoryRules",
    "LongtakeCompileModel",
    "LongtakeSchedule",
    "LongtakeHistoryGuidance",
    "LongtakeGuidanceTerm",
    "LongtakeScoreGuidance",
    "LongtakeContextNoise",
    "LongtakeVideoToFrames",
    "LongtakeImagesToFrames",
    "LongtakeKnownFrames",
    "LongtakeKnownVideo",
    "LongtakeLiveInput",
    "LongtakeSampler",
    "LongtakeEditRollout",
    "LongtakeSaveRollout",
    "LongtakeLoadRollout",
    "LongtakeRolloutInfo",
    "LongtakeCompareRollouts",
    "LongtakeSpliceRollouts",
    "LongtakeVAEDecode",
    "LongtakeVAEEncode",
    "LongtakePreview",
    "LongtakeSaveVideo",
    "LongtakeCollect",
    "LongtakeUpscale",
    "LongtakeInterpolate",
    "LongtakeSuperResolution",
    "LongtakeLoadFlashVSR",
    "LongtakeDoctor",
}
MENU_FOLDERS = (
    "Longtake/Load",
    "Longtake/Prompt",
    "Longtake/Sample",
    "Longtake/Guide",
    "Longtake/Rollout",
    "Longtake/Frames",
    "Longtake/Save",
    "Longtake",
)
NOTE = "MarkdownNote"  # on the canvas only: the front end leaves it out of the API form
MAX_PLAIN = {"LongtakeSampler": 11, "LongtakeSchedule": 4, "LongtakeSparseAttention": 5}
PAGES = ROOT / "web" / "docs"
UNITS = r"(?i)pixel|frame|second|step|chunk|evaluation|level|number|quality|\b[GM]B\b|no unit"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Any]]:
    with lasting_host(tmp_path, lambda event: None):
        from longtake.nodes.extension import NODES

        yield list(NODES)


def test_ids_are_permanent(nodes: list[Any]) -> None:
    assert {node.define_schema().node_id for node in nodes} >= PERMANENT_IDS


def test_every_node_and_input_is_explained(nodes: list[Any]) -> None:
    for schema in (node.define_schema() for node in nodes):
        assert schema.description, schema.node_id
        for one in schema.inputs:
            assert one.tooltip, f"{schema.node_id}.{one.id}"


def test_a_new_user_sees_few_inputs(nodes: list[Any]) -> None:
    """The others are `advanced`: the front end folds them away."""
    for schema in (node.define_schema() for node in nodes):
        plain = [one.id for one in schema.inputs if not one.advanced]
        assert len(plain) <= MAX_PLAIN.get(schema.node_id, 8), f"{schema.node_id}: {plain}"


def widgets(nodes: list[Any], *kinds: str) -> Iterator[tuple[str, Any]]:
    """Every widget of one of these kinds, with its name."""
    for schema in (node.define_schema() for node in nodes):
        for one in schema.inputs:
            if one.get_io_type() in kinds:
                yield f"{schema.node_id}.{one.id}", one


def written(number: float) -> set[str]:
    """The ways to write a bound in a tooltip."""
    return {f"{number:g}", f"{int(number)}", f"2^{int(number).bit_length()} - 1"}


def test_numbers_say_their_range_and_their_unit(nodes: list[Any]) -> None:
    for name, one in widgets(nodes, "INT", "FLOAT"):
        plain = one.tooltip.replace(",", "")
        for bound in (one.min, one.max):
            said = any(re.search(rf"(?<![\d.]){re.escape(w)}(?!\d)", plain) for w in written(bound))
            assert said, f"{name}: the tooltip should name the bound {bound}"
        assert re.search(UNITS, plain), f"{name}: the tooltip should name the unit (or `no unit`)"


def test_choices_are_each_explained(nodes: list[Any]) -> None:
    for name, one in widgets(nodes, "COMBO"):
        for option in one.options:
            assert option.split(" ")[0].lower() in one.tooltip.lower(), f"{name}: {option}"


def test_nodes_are_found_by_name_category_and_other_words(nodes: list[Any]) -> None:
    schemas = [node.define_schema() for node in nodes]
    assert len({schema.display_name for schema in schemas}) == len(schemas)
    for schema in schemas:
        assert schema.display_name and schema.category in categories.ALL, schema.node_id
        assert schema.search_aliases, schema.node_id
        assert schema.display_name.lower() not in schema.search_aliases, schema.node_id


def test_the_menus_folders_stand_in_the_order_of_a_workflow(nodes: list[Any]) -> None:
    folders = dict.fromkeys(node.define_schema().category for node in nodes)
    assert tuple(folders) == categories.ALL


def test_the_menus_folders_keep_their_names(nodes: list[Any]) -> None:
    """Users look for nodes in them, and the guides name them."""
    folders = [node.define_schema().category for node in nodes]
    assert tuple(dict.fromkeys(folders)) == MENU_FOLDERS


@pytest.mark.parametrize(
    ("words", "node_id"),
    [
        ("text to video", "LongtakeSampler"),
        ("video", "LongtakeSampler"),
        ("endless", "LongtakeSampler"),
        ("infinite length", "LongtakeSampler"),
        ("image to video", "LongtakeKnownFrames"),
        ("continue video", "LongtakeKnownVideo"),
        ("self forcing", "LongtakeLoadModel"),
    ],
)
def test_a_task_leads_to_one_node(nodes: list[Any], words: str, node_id: str) -> None:
    schemas = [node.define_schema() for node in nodes]
    found = [schema.node_id for schema in schemas if words in schema.search_aliases]
    assert found == [node_id]


def test_every_definition_can_be_read_by_older_cores() -> None:
    """`build` leaves out what a core does not know; a schema made without it may not load there."""
    for path in (ROOT / "nodes").glob("*.py"):
        made = [ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call)]  # fmt: skip
        assert "io.Schema" not in made, f"{path.name}: use build(io.Schema, ...) of nodes/schema.py"


@dataclass
class OldSchema:
    """What a core without aliases and experimental nodes knows of a node."""

    node_id: str
    inputs: list[str]


def test_what_is_only_for_show_is_left_out_where_a_core_lacks_it(nodes: list[Any]) -> None:
    from longtake.nodes.schema import build

    made = build(OldSchema, "A", inputs=["x"], search_aliases=["b"], is_experimental=True)
    assert made == OldSchema("A", ["x"])
    with pytest.raises(TypeError, match="is_output_node"):
        build(OldSchema, "A", inputs=[], is_output_node=True)


def test_every_node_has_a_page(nodes: list[Any]) -> None:
    pages = {page.stem for page in PAGES.glob("*.md")}
    assert pages == {node.define_schema().node_id for node in nodes}


def test_every_page_shows_its_node() -> None:
    """The pictures themselves are made, and missed, in tests/in_core/server/test_canvas.py."""
    for page in PAGES.glob("*.md"):
        assert f"]({page.stem}.png)" in page.read_text(encoding="utf-8"), page.name


def test_what_decides_whether_a_node_runs_again_takes_all_its_inputs(nodes: list[Any]) -> None:
    """The core gives every connected one, as None before there is a value; what it cannot give
    is a warning in each run.
    """
    asked = [node for node in nodes if "fingerprint_inputs" in vars(node)]
    assert len(asked) > 4
    for node in asked:
        given = {one.id: None for one in node.define_schema().inputs}
        inspect.signature(node.fingerprint_inputs).bind(**given)
    [info] = [one for one in nodes if one.define_schema().node_id == "LongtakeRolloutInfo"]
    assert info.fingerprint_inputs(rollout=None) < info.fingerprint_inputs(rollout=None)


def test_seeds_stay_fixed(nodes: list[Any]) -> None:
    seeds = [i for node in nodes for i in node.define_schema().inputs if i.id == "seed"]
    assert seeds and all(seed.control_after_generate == "fixed" for seed in seeds)


def test_outputs_are_terminal_and_wait_side_by_side(nodes: list[Any]) -> None:
    """A pass-through output would be skipped as cached; a synchronous one would block the
    others.
    """
    takes_stream = [
        n for n in nodes if {"frames", "rollout"} & {i.id for i in n.define_schema().inputs}
    ]
    for node in takes_stream:
        schema = node.define_schema()
        if not {"FRAMES", "ROLLOUT", "KNOWN_FRAMES"} & {
            one.get_io_type() for one in schema.outputs
        }:
            assert inspect.iscoroutinefunction(node.execute), schema.node_id
        if schema.is_output_node:
            assert schema.outputs == []
        elif schema.node_id.startswith("LongtakeCollect"):
            assert "whole stream before the next node runs" in schema.description


def to_api(canvas: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The API form of a canvas workflow, as the front end makes it."""
    sources = {link[0]: [str(link[1]), link[2]] for link in canvas["links"]}
    prompt = {}
    for node in canvas["nodes"]:
        if node["type"] == NOTE:
            continue
        values = iter(node.get("widgets_values", []))
        sockets = {i["name"]: i["link"] for i in node["inputs"] if i["link"] is not None}
        inputs = {}
        for one in schemas[node["type"]].inputs:
            if one.id in sockets:
                inputs[one.id] = sources[sockets[one.id]]
            elif hasattr(one, "default") and not getattr(one, "force_input", None):
                # a widget; an optional socket may be left open
                inputs[one.id] = next(values)
                if getattr(one, "control_after_generate", None):
                    assert next(values) == "fixed"  # the widget that the host puts after a seed
        assert next(values, None) is None, node["type"]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def test_the_canvas_and_the_api_form_of_an_example_say_the_same(nodes: list[Any]) -> None:
    known = [
        *nodes,
        core_nodes.CLIPTextEncode,
        core_nodes.ImageFromBatch,
        core_nodes.LoadImage,
        core_nodes.LoadVideo,
    ]
    schemas = {schema.node_id: schema for schema in (node.define_schema() for node in known)}
    examples = ROOT / "example_workflows"
    for path in examples.glob("*.json"):
        api = json.loads((examples / "api" / path.name).read_text(encoding="utf-8"))
        plain = {
            number: {k: node[k] for k in ("class_type", "inputs")} for number, node in api.items()
        }
        assert to_api(json.loads(path.read_text(encoding="utf-8")), schemas) == plain
