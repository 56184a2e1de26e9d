"""Loading, changing and checking workflows: every fault is one sentence with a remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.headless.workflow.graph import Link, load, parse
from longtake.headless.workflow.node_spec import InputSpec, NodeSpec, node_from_object_info
from longtake.headless.workflow.overrides import (
    Override,
    apply,
    find_node,
    find_target,
    grid,
    parse_override,
)
from longtake.headless.workflow.validation import check, convert

SPECS = {
    spec.class_type: spec
    for spec in (
        NodeSpec("Load", outputs=("MODEL", "VAE")),
        NodeSpec(
            "Sample",
            inputs=(
                InputSpec("model", "MODEL"),
                InputSpec("steps", "INT", default=4, minimum=1, maximum=100),
                InputSpec("scale", "FLOAT", required=False, minimum=0.0),
                InputSpec("kind", "COMBO", required=False, options=("euler", "renoise")),
                InputSpec("text", "STRING", required=False),
                InputSpec("loop", "BOOLEAN", required=False),
                InputSpec("rollout", "ROLLOUT", required=False),
            ),
            outputs=("ROLLOUT",),
        ),
        NodeSpec("Save", inputs=(InputSpec("rollout", "ROLLOUT,LATENT"),), is_output=True),
        NodeSpec("Other", foreign=True, is_output=True),
    )
}


def good() -> dict[str, dict[str, object]]:
    return {
        "1": {"class_type": "Load", "inputs": {}},
        "2": {"class_type": "Sample", "inputs": {"model": ["1", 0], "steps": 4}},
        "3": {"class_type": "Save", "inputs": {"rollout": ["2", 0]}, "_meta": {"title": "Keep"}},
    }


def test_a_good_workflow_passes_unchanged_in_dependency_order() -> None:
    checked = check(parse(dict(reversed(good().items())), "w.json"), SPECS, "")
    assert list(checked.nodes) == ["1", "2", "3"]
    assert checked.nodes["2"].inputs == {"model": Link("1", 0), "steps": 4}


def test_nodes_that_feed_no_output_are_neither_checked_nor_run() -> None:
    content = {**good(), "9": {"class_type": "Sample", "inputs": {}}}
    assert "9" not in check(parse(content, "w.json"), SPECS, "").nodes


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"steps": 0}, ", input steps: must be at least 1; got 0."),
        ({"steps": 10**9}, ", input steps: must be at most 100; got 1000000000."),
        ({"steps": 10**400}, f", input steps: {'1' + '0' * 56}... is too large a number."),
        ({"steps": 2.5}, ", input steps: must be a whole number; got 2.5."),
        (
            {"steps": "9.22337E+18"},
            ", input steps: must have all its digits; got '9.22337E+18'. A spreadsheet shortens "
            "long numbers: make the column text there, and write them again.",
        ),
        ({"steps": True}, ", input steps: must be a number; got True."),
        ({"scale": float("nan")}, ", input scale: must be a finite number; got nan."),
        ({"scale": 1e999}, ", input scale: must be a finite number; got inf."),
        ({"scale": -1}, ", input scale: must be at least 0; got -1."),
        ({"scale": "much"}, ", input scale: must be a number; got 'much'."),
        ({"kind": "heun"}, ", input kind: 'heun' is not one of its choices (euler, renoise)."),
        ({"text": None}, ", input text: must be text; got None."),
        ({"loop": "yes"}, ", input loop: must be true or false; got 'yes'."),
        ({"sed": 3}, " has no input sed; remove it."),
        ({"step": 3}, " has no input step (did you mean steps?); remove it."),
        ({"model": 7}, ", input model: must be linked to a MODEL output; got the value 7."),
        (
            {"model": ["1"]},
            """, input model: a list must be a link ["node id", output number]; got ['1'].""",
        ),
        (
            {"model": ["8", 0]},
            ", input model: links to node 8, which is not in the workflow; "
            "connect it to an existing node.",
        ),
        (
            {"model": ["1", 2]},
            ", input model: links to output 2 of node 1 (Load), which has 2; use a lower number.",
        ),
        (
            {"model": ["1", 1]},
            ", input model: needs MODEL, but output 1 of node 1 (Load) is VAE; "
            "connect a MODEL output.",
        ),
    ],
)
def test_a_bad_input_is_one_sentence(inputs: dict[str, object], sentence: str) -> None:
    content = good()
    content["2"]["inputs"] = {"model": ["1", 0], "steps": 4, **inputs}
    with pytest.raises(BadInput) as caught:
        check(parse(content, "w.json"), SPECS, "")
    assert str(caught.value) == "Node 2 (Sample)" + sentence


LOADERS = [
    ("UpscaleModelLoader", "model_name", "realesr-general-x4v3.pth", "upscale_models",
     "download https://github.com/xinntao/Real-ESRGAN/releases/download/"),
    ("LongtakeLoadFlashVSR", "model_name",
     "FlashVSR/diffusion_pytorch_model_streaming_dmd.safetensors", "diffusion_models",
     r"put FlashVSR's four files into models/diffusion_models/FlashVSR \(Hugging Face: Junhao"),
    ("VAELoader", "vae_name", "my.safetensors", "vae", "put it there, or choose another file"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "file", "folder", "remedy"), LOADERS)
def test_a_missing_model_says_its_folder_and_where_to_get_it(
    kind: str, name: str, file: str, folder: str, remedy: str
) -> None:
    record = {"input": {"required": {name: [["a.pth", "b.pth"], {}]}}, "output": [],
              "output_node": True}  # fmt: skip
    specs = {kind: node_from_object_info(kind, record, foreign=True)}
    content = {"9": {"class_type": kind, "inputs": {name: file}}}
    said = rf"input {name}: '{file}' is not in models/{folder} \(there: a.pth, b.pth\); {remedy}"
    with pytest.raises(BadInput, match=said):
        check(parse(content, "w.json"), specs, "")


def test_a_node_that_feeds_itself_is_a_cycle() -> None:
    content = good()
    content["2"]["inputs"] = {"model": ["1", 0], "steps": 4, "rollout": ["2", 0]}
    with pytest.raises(BadInput, match="Nodes 2 -> 2 form a cycle; remove one"):
        check(parse(content, "w.json"), SPECS, "")


def test_a_missing_required_input_says_how_to_supply_it() -> None:
    content = good()
    content["2"]["inputs"] = {"model": ["1", 0]}
    with pytest.raises(
        BadInput, match=r"Node 2 \(Sample\): input steps is missing; set it \(default: 4\)\."
    ):
        check(parse(content, "w.json"), SPECS, "")


def test_an_unknown_node_type_gets_the_hosts_remedy_and_a_near_name() -> None:
    content = {**good(), "4": {"class_type": "Sampl", "inputs": {}}}
    with pytest.raises(BadInput) as caught:
        check(parse(content, "w.json"), SPECS, "install the pack")
    assert (
        str(caught.value)
        == "Node 4: 'Sampl' is not a known node type (did you mean Sample?); install the pack."
    )


def test_a_workflow_without_output_is_rejected() -> None:
    content = {"1": {"class_type": "Load", "inputs": {}}}
    with pytest.raises(BadInput, match="w.json has no output node"):
        check(parse(content, "w.json"), SPECS, "")


def test_a_longer_cycle_names_its_nodes() -> None:
    content = good()
    content["4"] = {
        "class_type": "Sample",
        "inputs": {"model": ["1", 0], "steps": 4, "rollout": ["2", 0]},
    }
    content["2"]["inputs"] = {"model": ["1", 0], "steps": 4, "rollout": ["4", 0]}
    with pytest.raises(BadInput, match="Nodes 2 -> 4 -> 2 form a cycle"):
        check(parse(content, "w.json"), SPECS, "")


def test_values_are_converted_to_the_inputs_type() -> None:
    content = good()
    content["2"]["inputs"] = {
        "model": ["1", 0],
        "steps": "7",
        "loop": "False",
        "scale": 2,
        "text": 5,
    }
    inputs = check(parse(content, "w.json"), SPECS, "").nodes["2"].inputs
    assert (inputs["steps"], inputs["loop"], inputs["scale"], inputs["text"]) == (
        7,
        False,
        2.0,
        "5",
    )


@pytest.mark.parametrize("written", [2**63 + 1, str(2**63 + 1), f" {2**63 + 1} ", f"{2**63 + 1}.0"])
def test_a_seed_of_64_bits_keeps_every_bit(written: object) -> None:
    """In a table, a blank may follow the comma."""
    specs = {
        **SPECS,
        "Sample": NodeSpec("Sample", (InputSpec("seed", "INT", maximum=2**64 - 1),), ("ROLLOUT",)),
    }
    content = good()
    content["2"]["inputs"] = {"seed": written}
    assert check(parse(content, "w.json"), specs, "").nodes["2"].inputs["seed"] == 2**63 + 1


def test_foreign_nodes_may_have_inputs_that_their_table_does_not_list() -> None:
    content = {**good(), "4": {"class_type": "Other", "inputs": {"upload": "image"}}}
    assert check(parse(content, "w.json"), SPECS, "").nodes["4"].inputs == {"upload": "image"}


def test_inputs_whose_rules_only_the_host_knows_pass() -> None:
    """Any picture fits a socket that matches its neighbours; a list that grows has no own name."""
    matching = ["COMFY_MATCHTYPE_V3", {"template": {"allowed_types": "IMAGE,MASK"}}]
    records = {
        "Load": {"input": {}, "output": ["IMAGE"], "output_node": False},
        "Switch": {"input": {"required": {"on_true": matching}}, "output": [matching[0]],
                   "output_node": False},
        "Batch": {"input": {"required": {"images": ["COMFY_AUTOGROW_V3", {}]}},
                  "output": ["IMAGE"], "output_node": False},
        "Save": {"input": {"required": {"a": ["IMAGE"], "b": ["IMAGE"]}}, "output": [],
                 "output_node": True},
    }  # fmt: skip
    specs = {kind: node_from_object_info(kind, record, foreign=True)
             for kind, record in records.items()}  # fmt: skip
    content = {
        "1": {"class_type": "Load", "inputs": {}},
        "2": {"class_type": "Switch", "inputs": {"on_true": ["1", 0]}},
        "3": {"class_type": "Batch", "inputs": {"images.image0": ["1", 0]}},
        "4": {"class_type": "Save", "inputs": {"a": ["2", 0], "b": ["3", 0]}},
    }
    assert check(parse(content, "w.json"), specs, "").nodes["3"].inputs == {
        "images.image0": Link("1", 0)
    }


@pytest.mark.parametrize("form", [["a.png"], "COMBO"])
def test_a_picture_need_not_lie_where_the_list_of_choices_looks(form: object) -> None:
    """ComfyUI's page puts pasted pictures and masks into folders of their own."""
    declared = [form, {"image_upload": True, "options": ["a.png"]}]
    record = {"input": {"required": {"image": declared}}, "output": [], "output_node": True}
    specs = {"LoadImage": node_from_object_info("LoadImage", record, foreign=True)}

    def load_image(name: str) -> object:
        content = {"9": {"class_type": "LoadImage", "inputs": {"image": name}}}
        return check(parse(content, "w.json"), specs, "").nodes["9"].inputs["image"]

    for name in ("a.png", "pasted/image.png", "masked.png [input]", "clip_00001_.png [output]"):
        assert load_image(name) == name
    with pytest.raises(BadInput, match=r"'b.png' is not one of its choices \(a.png\)"):
        load_image("b.png")


def test_half_a_character_in_a_workflow_is_typed_anew(tmp_path: Path) -> None:
    """To export it again would not help."""
    path = tmp_path / "w.json"
    path.write_text('{"1": {"class_type": "A", "inputs": {"text": "a red \\ud83d ball"}}}')
    sentence = r"w.json has half a character .a lone surrogate., 'a red .* ball'; type that text"
    with pytest.raises(BadInput, match=f"{sentence} anew.$"):
        load(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not valid JSON"),
        ("[" * 200_000, "it is nested too deep"),
        ("[]", "has no nodes"),
        ("{}", "has no nodes"),
        (json.dumps({"nodes": [], "links": []}), "is in the canvas format"),
        (json.dumps({"1": {"inputs": {}}}), "Node 1 in"),
        (json.dumps({"1": {"class_type": "Load", "inputs": []}}), "inputs must be an object"),
    ],
)
def test_a_file_of_another_kind_says_how_to_export(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        load(path)
    assert sentence in str(caught.value) and "Workflow > Export (API)" in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"Cannot read workflow .*: No such file or directory; check the path\."
    ):
        load(tmp_path / "none.json")


def test_parsing_and_writing_back_gives_the_same_prompt() -> None:
    prompt = parse(good(), "w.json").to_prompt()
    assert parse(prompt, "w.json").to_prompt() == prompt
    assert prompt["3"] == {
        "class_type": "Save",
        "inputs": {"rollout": ["2", 0]},
        "_meta": {"title": "Keep"},
    }


@pytest.mark.parametrize("node", ["2", "Sample"])
def test_set_finds_the_node_by_id_or_type(node: str) -> None:
    changed = apply(parse(good(), "w.json"), [Override(node, "steps", "9")], SPECS)
    assert changed.nodes["2"].inputs["steps"] == 9


@pytest.mark.parametrize(
    ("text", "value"),
    [("7.resize.width=128", 128), ("7.resize.width=2.5", 2.5), ("7.resize.width=2e3", 2000.0),
     ("Resize.fit=false", False), ("5:7.resize.width=8", 8),
     ("Resize.note=1.5", "1.5"), ("Resize.rate=25", 25)],
)  # fmt: skip
def test_set_reaches_inputs_that_a_foreign_node_makes_itself(text: str, value: object) -> None:
    """Those that come with a choice, such as the width of Resize Image/Mask, are in no table."""
    given = {"resize": "to", "resize.width": 96, "fit": True, "note": "a", "pixels": ["1", 0]}
    rate = InputSpec("rate", "FLOAT,INT")
    specs = {"Resize": NodeSpec("Resize", (rate,), is_output=True, foreign=True)}
    node = "5:7" if text.startswith("5:7") else "7"
    workflow = parse({node: {"class_type": "Resize", "inputs": given}}, "w.json")
    inputs = apply(workflow, [parse_override(text)], specs).nodes[node].inputs
    before = workflow.nodes[node].inputs
    [changed] = [inputs[name] for name in inputs if inputs[name] != before.get(name)]
    assert changed == value and type(changed) is type(value)
    for unset in ("7.pixels=1", "7.resize.depth=1"):
        with pytest.raises(BadInput, match="has no input|no node is called"):
            apply(workflow, [parse_override(unset)], specs)


def test_a_title_counts_in_large_and_small_letters_and_one_written_the_same_comes_first() -> None:
    content = {**good(), "4": {**good()["3"], "_meta": {"title": "keep"}}}
    assert find_node(parse(good(), "w.json"), "KEEP", "").id == "3"
    assert find_node(parse(content, "w.json"), "keep", "").id == "4"
    with pytest.raises(BadInput, match=re.escape("use one of the ids 3 (Keep), 4 (keep).")):
        find_node(parse(content, "w.json"), "Save", "")


def test_a_dot_in_a_title_stays_in_it() -> None:
    content = {**good(), "3": {**good()["3"], "_meta": {"title": "2.kind"}}}
    override = parse_override("2.kind.rollout=a")
    node, name = find_target(parse(content, "w.json"), override.node, override.input, "here")
    assert (node.id, name) == ("3", "rollout")


def test_set_keeps_dots_and_equal_signs_in_the_value() -> None:
    assert parse_override("2.text=a.b=c") == Override("2", "text", "a.b=c")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps=3", "is not NODE.INPUT=VALUE"),
        ("2.steps", "is not NODE.INPUT=VALUE"),
        ("2.text=\udcff", "is not Unicode text"),
        ("7.steps=3", "no node is called '7'; use one of the ids 1 (Load), 2 (Sample), 3 (Keep)."),
        ("2.stesp=3", "node 2 (Sample) has no input 'stesp', only model, steps,"),
        ("2.steps=many", "--set 2.steps=many: must be a number; got 'many'."),
        ("2.steps=1,5", "must be a number, such as 1.5; got '1,5'."),
        ("2.steps=1:30", "must be a number, such as 90; got '1:30'."),
        ("2.steps=10s", "must be a number, such as 10; got '10s'."),
        ("2.steps=0", "must be at least 1; got 0."),
    ],
)
def test_a_bad_set_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        apply(parse(good(), "w.json"), [parse_override(text)], SPECS)
    assert sentence in str(caught.value)


def test_values_for_one_input_are_alternatives_of_a_grid() -> None:
    values = [parse_override(text) for text in ("2.steps=1", "2.steps=2", "2.text=a")]
    texts = [[str(one) for one in combination] for combination in grid(values)]
    assert texts == [["2.steps=1", "2.text=a"], ["2.steps=2", "2.text=a"]]


def test_a_seed_beyond_the_last_is_told_from_it() -> None:
    seed = InputSpec("seed", "INT", minimum=0, maximum=2**64 - 1)
    assert convert("seed", seed, 2**64 - 1) == 2**64 - 1
    with pytest.raises(BadInput, match="at most 18446744073709551615; got 18446744073709551616"):
        convert("seed", seed, 2**64)


def test_a_limit_has_all_its_digits() -> None:
    length = InputSpec("length", "FLOAT", maximum=1_382_400.0)
    with pytest.raises(BadInput, match="must be at most 1382400; got 2000000"):
        convert("length", length, 2e6)


def test_a_file_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    """As Windows' own editor writes it."""
    path = tmp_path / "w.json"
    path.write_text(json.dumps(good()), encoding="utf-8-sig")
    assert load(path).nodes.keys() == good().keys()
