"""What is refused as a workflow is queued, not minutes later."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from longtake.tests.support.node_bench import Bench

SAVE = {"filename_prefix": "a/b", "format": "mp4 (h264)", "crf": -1, "bits": "auto"}
PATH = {"moves": "0: up", "pose_file": ""}
WINDOW = {"policy": "window + sink", "window_frames": 9, "sink_frames": 1, "recall_frames": -1,
          "archive_frames": 0, "storage": "as computed", "placement": "device",
          "prompt_switch": "keep"}  # fmt: skip
HEADS = {**WINDOW, "policy": "most attended, per head"}
VIEW = {**WINDOW, "policy": "window + recall by view"}
STEPS = {"schedule": "pyramid", "stagger": 2.0, "step_list": "", "solver": "euler",
         "predicts": "flow"}  # fmt: skip
PIPELINE = {**STEPS, "schedule": "pipeline (MAGI-1)"}
AGES = {"view": "range", "newest": 1, "oldest": 4}
LEVELS = {"from_level": -1.0, "to_level": 0.7, "per_step": ""}
ADDRESS = "rtsp://camera/1"
CAMERA = {"source": "url", "url": ADDRESS}
FORK = {"action": "fork", "new_prompt": "a ball"}
SCORE = {"score": "palette", "colours": "#ffcc00", "region": "0 0 1"}
REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("LongtakeSaveVideo", SAVE, {"filename_prefix": "../x"}, "not a file name inside"),
    ("LongtakeSaveVideo", SAVE, {"filename_prefix": "a/.."}, "not a file name inside"),
    ("LongtakeSaveVideo", SAVE, {"crf": 63}, "crf of H.264 must be from 0 to 51; got 63"),
    ("LongtakeSaveVideo", SAVE, {"crf": 64}, "crf is 64; set a number from -1 to 63"),
    ("LongtakeSaveVideo", SAVE, {"format": "mp5"}, "format is 'mp5'; choose one of mp4 (h264),"),
    ("LongtakeSaveVideo", SAVE | {"format": "gif"}, {"bits": "10"}, "gif has 8 bits of colour"),
    ("LongtakeSaveVideo", SAVE, {"format": "webm (vp9)", "bits": "10"}, "VP9 has 8 bits"),
    ("LongtakeSaveVideo", SAVE, {"format": "mov (prores 4444)", "bits": "8"}, "4444 has 10 bits"),
    ("LongtakeSaveRollout", {"filename_prefix": "a"}, {"filename_prefix": "../x"}, "not a file"),
    ("LongtakePromptTimeline", {"text": "0: a ball"}, {"text": "-3: a"}, "is not a time from 0"),
    ("LongtakeVAEDecode", {"decode_on": "cpu"}, {"decode_on": "gpu:3"}, "choose one of default"),
    ("LongtakeCameraPath", PATH, {"moves": "0: fly"}, "Line 1"),
    ("LongtakeCameraPath", PATH, {"pose_file": "nowhere.txt"}, "does not exist"),
    ("LongtakeKVCacheSettings", WINDOW, {"sink_frames": 9}, "sink_frames is 9 and window_frames 9"),
    ("LongtakeKVCacheSettings", WINDOW, {"window_frames": 0}, "window_frames is 0; set at least 1"),
    ("LongtakeKVCacheSettings", VIEW, {"recall_frames": 8}, "room for 7 beside its sink"),
    ("LongtakeKVCacheSettings", VIEW | {"window_frames": -1, "recall_frames": 8},
     {"archive_frames": 7}, "archive_frames is 7 and recall_frames 8"),
    ("LongtakeKVCacheSettings", HEADS, {"storage": "int8"}, "computed; change storage in KV Cache"),
    ("LongtakeKVCacheSettings", HEADS, {"placement": "disk"}, "stays on the device and cannot be"),
    ("LongtakeKVCacheSettings", HEADS, {"prompt_switch": "re-cache"}, "cannot be re-cached"),
    ("LongtakeSchedule", PIPELINE, {"stagger": 2.5}, "stagger is 2.5; here it counts chunks in"),
    ("LongtakeSchedule", PIPELINE, {"stagger": 0.0}, "chunks can be in flight"),
    ("LongtakeSchedule", STEPS, {"step_list": "4, 2"}, "must begin with 1000 and fall"),
    ("LongtakeSchedule", STEPS, {"step_list": "1000, 9 | 1000"}, "makes its first chunk together"),
    ("LongtakeSchedule", STEPS, {"predicts": "v"}, "'euler' is for models that predict a flow"),
    ("LongtakeSampler", {"width": 96, "height": 64}, {"height": 72}, "72, not a multiple of 16"),
    ("LongtakeSparseAttention", {"dense_layers": "0, 5-7"}, {"dense_layers": "5-"}, "has '5-'"),
    ("LongtakeSuperResolution", {"tile": 0}, {"tile": 128}, "tile is 128, less than two blocks"),
    ("LongtakeControlVideo", {"strength": "1"}, {"strength": "0: 11"}, "a number from 0 to 10"),
    ("LongtakeLiveInput", CAMERA, {"url": ""}, "The live source has no address"),
    ("LongtakeLiveInput", CAMERA | {"source": "webcam", "url": "ftp://a"}, {"source": "url"},
     "cannot be a ftp address"),
    ("LongtakeEditRollout", FORK, {"new_prompt": "5: a ball"}, "new_prompt has the time `5:`"),
    ("LongtakeEditRollout", FORK | {"action": "rewind", "new_prompt": "5: a"}, {"action": "fork"},
     "one prompt, which begins at `at`"),
    ("LongtakeGuidanceTerm", AGES, {"newest": 9}, "newest is 9 and oldest 4"),
    ("LongtakeGuidanceTerm", AGES | {"view": "sink", "newest": 9}, {"view": "range"}, "is 9 and"),
    ("LongtakeHistoryGuidance", LEVELS, {"from_level": 0.9}, "from_level is 0.9 and to_level 0.7"),
    ("LongtakeHistoryGuidance", LEVELS, {"per_step": "1, x"}, "per_step is '1, x'; write numbers"),
    ("LongtakeScoreGuidance", SCORE, {"colours": "#12"}, "'#12' is not a colour"),
    ("LongtakeScoreGuidance", SCORE, {"colours": ""}, "needs at least one colour"),
    ("LongtakeScoreGuidance", SCORE, {"score": "region"}, "region is '0 0 1'; write left, top"),
    ("LongtakeScoreGuidance", SCORE, {"score": "region", "region": "0 0 2 1"}, "from 0 to 1; got"),
]  # fmt: skip
"""A node, values that it takes, a change of them, and what is said then."""

EXAMPLES = Path(__file__).parents[2] / "example_workflows" / "api"

table = pytest.mark.parametrize(("node_id", "values", "change", "sentence"), REFUSALS)


def names_of(node: Any) -> list[str]:
    """The widgets whose values the host hands on, as the host finds them."""
    return inspect.getfullargspec(node.validate_inputs).args[1:]


def validate(node_id: str, **values: Any) -> bool | str:
    """Ask a node as the host does."""
    from longtake.nodes.extension import NODES

    [node] = [node for node in NODES if node.define_schema().node_id == node_id]
    handed = {name: value for name, value in values.items() if name in names_of(node)}
    answer: bool | str = node.validate_inputs(**handed)
    return answer


def checked_nodes() -> list[Any]:
    """The nodes that refuse anything."""
    from longtake.nodes.extension import NODES

    return [node for node in NODES if "validate_inputs" in vars(node)]


@pytest.mark.usefixtures("bench")
@table
def test_a_mistake_in_the_widgets_is_refused_before_the_run(
    node_id: str, values: dict[str, Any], change: dict[str, Any], sentence: str
) -> None:
    assert validate(node_id, **values) is True
    assert sentence in str(validate(node_id, **values | change))


@pytest.mark.usefixtures("bench")
@table
def test_what_a_link_gives_is_judged_when_the_node_runs(
    node_id: str, values: dict[str, Any], change: dict[str, Any], sentence: str
) -> None:
    """The host hands on None for it."""
    for name in change:
        assert validate(node_id, **values | change | {name: None}) is True, sentence
    assert validate(node_id, **dict.fromkeys(values)) is True


@pytest.mark.usefixtures("bench")
def test_a_widget_that_a_workflow_leaves_out_has_its_default() -> None:
    without_bits = {**SAVE, "format": "gif"}
    del without_bits["bits"]
    assert validate("LongtakeSaveVideo", **without_bits) is True
    assert "Line 1" in str(validate("LongtakeCameraPath", moves="0: fly"))
    assert validate("LongtakeSaveVideo", crf=63) is True  # the host says that `format` is missing


@pytest.mark.usefixtures("bench")
def test_default_values_are_taken_and_every_other_choice_with_them() -> None:
    for node in checked_nodes():
        places = {place.id: place for place in node.define_schema().inputs}
        defaults = {name: places[name].default for name in names_of(node)}
        defaults |= {name: ADDRESS for name in defaults if name == "url"}  # has no default
        assert node.validate_inputs(**defaults) is True, node
        for name in names_of(node):
            for choice in getattr(places[name], "options", None) or ():
                assert node.validate_inputs(**defaults | {name: choice}) is True, (node, choice)


@pytest.mark.usefixtures("bench")
def test_every_example_is_taken() -> None:
    checked = {node.define_schema().node_id for node in checked_nodes()}
    nodes = [
        node
        for file in sorted(EXAMPLES.glob("*.json"))
        for node in json.loads(file.read_text(encoding="utf-8")).values()
        if node["class_type"] in checked
    ]
    assert len(nodes) > 50
    for node in nodes:
        known = {n: None if isinstance(v, list) else v for n, v in node["inputs"].items()}
        assert validate(node["class_type"], **known) is True, node


@pytest.mark.usefixtures("bench")
def test_only_limits_that_the_node_checks_are_taken_from_the_host() -> None:
    """A list of files has no default; the host alone compares a name with it."""
    for node in checked_nodes():
        places = {place.id: place for place in node.define_schema().inputs}
        assert all(places[name].default is not None for name in names_of(node)), node


@pytest.mark.usefixtures("bench")
def test_a_refusal_is_told_at_few_widgets() -> None:
    """The host repeats it for every widget that the method names."""
    counts = [len(names_of(node)) for node in checked_nodes()]
    assert len(counts) >= 5 and all(1 <= count <= 8 for count in counts)


def test_the_node_itself_refuses_what_came_by_a_link(bench: Bench) -> None:
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    refusal = bench.refusal("LongtakePromptTimeline", clip=clip, text="-3: a ball")
    assert "which is not a time from 0" in refusal
