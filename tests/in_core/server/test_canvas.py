"""The example workflows, the blueprint and the pictures of nodes, by ComfyUI's own front end.

    LONGTAKE_REMAKE=1 ... pytest tests/in_core/server/test_canvas.py -k remake

makes the files of example_workflows/, subgraphs/ and web/docs/ again.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from longtake.tests.in_core.support.canvas_runner import drive
from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.outputs import frames_of, saved
from longtake.tests.in_core.support.places import ROOT
from longtake.tools import examples
from longtake.tools.example_notes import NOTES, PLACE, TITLE

FOLDER = ROOT / "example_workflows"
BLUEPRINT = ROOT / "subgraphs" / f"{examples.BLUEPRINT}.json"
PICTURES = ROOT / "web" / "docs"
PICTURE_WIDTH = 320
SHORT_S = 3.0
HEADLESS = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import conftest
from longtake.headless.cli import main
main()
"""
pytestmark = pytest.mark.browser
remakes = pytest.mark.skipif("LONGTAKE_REMAKE" not in os.environ, reason="writes files")


def api_of(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def shortened(workflow: dict[str, Any]) -> dict[str, Any]:
    """A workflow whose shots are short, to save time."""
    for one in workflow.values():
        if one["class_type"] == "LongtakeSampler" and one["inputs"]["length_unit"] == "seconds":
            one["inputs"]["length"] = min(SHORT_S, one["inputs"]["length"])
    return workflow


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_the_front_end_makes_the_api_form_of_each_canvas(client: Client, name: str) -> None:
    canvas = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert drive(client.url, [{"do": "prompt", "canvas": canvas}]) == [api_of(name)]


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_an_example_gives_the_same_frames_in_the_core_and_headless(
    client: Client, name: str, tmp_path: Path
) -> None:
    workflow = shortened(api_of(name))
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    file = tmp_path / "short.json"
    file.write_text(json.dumps(workflow))
    command = [sys.executable, "-c", HEADLESS, str(ROOT / "tests"), "run", str(file)]
    subprocess.run([*command, "--out", str(tmp_path)], check=True, env=_without_comfy())
    theirs = frames_of(saved(client, run))
    [video] = (tmp_path / "longtake").glob("*.mp4")
    ours = frames_of(video)
    assert len(ours) == len(theirs) > SHORT_S * 16 - 1
    apart = [np.abs(a.astype(int) - b).mean() for a, b in zip(ours, theirs, strict=True)]
    assert max(apart) < 1  # of 255: rounding in the model and in h264


def test_the_core_offers_the_blueprint(client: Client) -> None:
    listed = json.loads(client.get("/global_subgraphs"))
    [number] = [i for i, one in listed.items() if one["info"]["node_pack"].endswith("longtake")]
    entry = json.loads(client.get(f"/global_subgraphs/{number}"))
    assert entry["name"] == examples.BLUEPRINT
    blueprint = json.loads(entry["data"])
    [definition] = blueprint["definitions"]["subgraphs"]
    assert blueprint["nodes"][0]["type"] == definition["id"]
    types = {one["type"] for one in definition["nodes"]}
    assert types == {"LongtakePromptTimeline", "LongtakeSchedule", "LongtakeSampler",
                     "LongtakeVAEDecode"}  # fmt: skip
    promoted = {one["name"] for one in definition["inputs"]}
    assert promoted >= {"clip", "model", "vae", *(name for _, name in examples.PROMOTED)}


def test_a_subgraph_gives_what_its_nodes_give(client: Client) -> None:
    [made] = drive(client.url, [blueprint_step()])
    folded = shortened(made["prompt"])
    inner = [number for number in folded if ":" in number]
    assert len(inner) == len(examples.INSIDE)
    run, plain = client.run(folded), client.run(shortened(api_of("1_text_to_stream")))
    assert run.end[0] == plain.end[0] == "execution_success"
    [save] = [n for n, one in folded.items() if one["class_type"] == "LongtakeSaveVideo"]
    assert frames_of(saved(client, run, save)) and np.array_equal(
        frames_of(saved(client, run, save)), frames_of(saved(client, plain))
    )


@pytest.mark.parametrize(
    ("locale", "title"),
    [("zh", "Diffusion-Forcing 采样器"), ("fr", "Échantillonneur Diffusion-Forcing")],
)
def test_nodes_speak_the_users_language(client: Client, locale: str, title: str) -> None:
    told = json.loads(client.get("/i18n"))
    definitions = json.loads((ROOT / "locales" / locale / "nodeDefs.json").read_text("utf-8"))
    assert told[locale]["nodeDefs"] == definitions
    step = {"do": "saysIn", "locale": locale, "type": "LongtakeSampler"}
    [said, _] = drive(client.url, [step, {**step, "locale": "en"}])
    assert said["title"] == title
    names = [one["name"] for one in definitions["LongtakeSampler"]["inputs"].values()]
    assert set(said["inputs"]) == set(names)


def test_every_node_has_a_picture() -> None:
    pages = {page.stem for page in PICTURES.glob("*.md")}
    assert {picture.stem for picture in PICTURES.glob("*.png")} == pages


def test_the_doctors_findings_stand_in_its_node(client: Client) -> None:
    doctor = {"1": examples.node("LongtakeDoctor", "Doctor")}
    step = {"do": "textOf", "api": doctor, "node": "1", "has": "SDPA"}
    [text] = drive(client.url, [step])
    assert "SDPA math on cpu: works" in text


def test_what_guidance_costs_stands_in_its_node_once_the_sampler_knows(client: Client) -> None:
    workflow = shortened(api_of("1_text_to_stream"))
    workflow["9"] = examples.node(
        "LongtakeHistoryGuidance", "History Guidance", preset="fractional"
    )
    workflow["5"]["inputs"]["guidance"] = ["9", 0]
    step = {"do": "textOf", "api": workflow, "node": "9", "has": "This shot: "}
    [text] = drive(client.url, [step])
    assert text.startswith("4 model evaluations a step: ")
    # pure noise is committed once
    assert "This shot: 19 model evaluations per chunk (5 without guidance)" in text
    assert text.endswith(
        "Settings: text_scale 2.5, none_as pure noise (from model: Longtake demo)."
    )


@remakes
def test_remake_examples_and_blueprint(client: Client) -> None:
    steps = [
        {"do": "example", "api": made.api, "places": made.places, "groups": made.groups,
         "note": {"title": TITLE, "place": PLACE, "text": NOTES[name].strip()}}
        for name, made in ((name, make()) for name, make in examples.EXAMPLES.items())
    ]  # fmt: skip
    *made, blueprint = drive(client.url, [*steps, blueprint_step()])
    for name, one in zip(examples.EXAMPLES, made, strict=True):
        write_json(FOLDER / f"{name}.json", one["canvas"])
        write_json(FOLDER / "api" / f"{name}.json", one["api"])
    canvas = blueprint["canvas"]
    [definition] = canvas["definitions"]["subgraphs"]
    definition |= {"category": "Longtake", "description": examples.DESCRIPTION}
    write_json(BLUEPRINT, canvas)


@remakes
@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_remake_thumbnail(client: Client, name: str) -> None:
    run = client.run(api_of(name))
    assert run.end[0] == "execution_success", run.end
    Image.fromarray(sheet(frames_of(saved(client, run)))).resize(
        (576, 384), Image.Resampling.LANCZOS
    ).save(FOLDER / f"{name}.jpg", quality=85)


def sheet(frames: list[np.ndarray]) -> np.ndarray:
    """Four moments of a video, or two of one that shows two shots side by side."""
    height, width, _ = frames[0].shape
    count = 2 if width >= 2 * height else 4
    picked = [frames[(2 * number + 1) * len(frames) // (2 * count)] for number in range(count)]
    rows = [np.concatenate(picked[at : at + count // 2], 1) for at in (0, count // 2)]
    return np.concatenate(rows)


@remakes
def test_remake_pictures_of_nodes(client: Client) -> None:
    types = sorted(page.stem for page in PICTURES.glob("*.md"))
    steps = [{"do": "picture", "type": name, "width": PICTURE_WIDTH} for name in types]
    for name, made in zip(types, drive(client.url, steps), strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(made["png"])))
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
            PICTURES / f"{name}.png", optimize=True
        )


def blueprint_step() -> dict[str, Any]:
    """Fold the inner nodes of the first example into one."""
    made = examples.text_to_stream()
    api = {number: one for number, one in made.api.items() if number != "7"}
    return {"do": "blueprint", "api": api, "places": made.places, "inside": examples.INSIDE,
            "promoted": examples.PROMOTED, "title": examples.BLUEPRINT}  # fmt: skip


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _without_comfy() -> dict[str, str]:
    """An environment in which the command line uses the stand-in."""
    return {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
