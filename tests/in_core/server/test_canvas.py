"""The example workflows, the blueprint and the pictures of nodes, by ComfyUI's own front end.

    LONGTAKE_REMAKE=1 ... pytest tests/in_core/server/test_canvas.py -k remake

makes the files of example_workflows/, subgraphs/ and web/docs/ again.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from longtake.tests.in_core.support.canvas_runner import drive
from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.outputs import frames_of, packets, saved
from longtake.tests.in_core.support.places import ROOT
from longtake.tests.support.model.flashvsr import store_headers
from longtake.tests.support.stream.live_servers import FaultServer
from longtake.tools import community_examples, examples
from longtake.tools.blueprints import BLUEPRINTS, OUTPUTS, PREVIEW
from longtake.tools.example_nodes import models_of
from longtake.tools.example_notes import NOTES, PLACE, TITLE

FOLDER = ROOT / "example_workflows"
SUBGRAPHS = ROOT / "subgraphs"
PICTURES = ROOT / "web" / "docs"
PICTURE_WIDTH = 320
GUIDE_WIDTH = 1000
GUIDE_TYPES = ["LongtakeCameraPath", "LongtakeSampler", "LongtakeVAEDecode", "LongtakePreview"]
FLASHVSR = "FlashVSR-v1.1/diffusion_pytorch_model_streaming_dmd.safetensors"
FILES = {"LongtakeLoadVAE": {"vae_name": "wan_2.1_vae.safetensors"},
         "LongtakeLoadFlashVSR": {"model_name": FLASHVSR},
         "LongtakeLoadVace": {"vace_name": "Wan2_1-VACE_module_1_3B_bf16.safetensors"},
         "LongtakeLoadRollout": {"file": "shot_00001.rollout.safetensors"}}  # fmt: skip
SAVE_VIDEO = "LongtakeSaveVideo"
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
    file = FOLDER / Path(name).parent / "api" / f"{Path(name).name}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def shortened(workflow: dict[str, Any]) -> dict[str, Any]:
    """A workflow whose shots are short, to save time."""
    for one in workflow.values():
        if one["class_type"] == "LongtakeSampler" and one["inputs"]["length_unit"] == "seconds":
            one["inputs"]["length"] = min(SHORT_S, one["inputs"]["length"])
    return workflow


@pytest.mark.parametrize(
    "name", [*examples.EXAMPLES, *(f"community/{name}" for name in community_examples.COMMUNITY)]
)
def test_the_front_end_makes_the_api_form_of_each_canvas(client: Client, name: str) -> None:
    canvas = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert drive(client.url, [{"do": "prompt", "canvas": canvas}]) == [api_of(name)]


@pytest.mark.parametrize("name", sorted({*examples.EXAMPLES} - examples.LIVE))
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


@pytest.mark.parametrize("name", sorted(examples.LIVE))
def test_a_live_example_takes_what_comes_in_and_then_needs_no_source(
    client: Client, name: str
) -> None:
    """A video file over HTTP stands for the camera; browsers' cameras have tests of their own."""
    with clip_server(client) as clip:
        workflow = shortened(from_url(api_of(name), clip.url("/video")))
        first = client.run(workflow)
        assert first.end[0] == "execution_success", first.end
        assert clip.paths == ["/video"]
    [save] = [number for number, one in workflow.items() if one["class_type"] == SAVE_VIDEO]
    workflow[save]["inputs"]["filename_prefix"] = "longtake/again"
    again = client.run(workflow)
    assert again.end[0] == "execution_success", again.end
    assert packets(saved(client, again)) == packets(saved(client, first))
    plain = {**workflow, "5": {**workflow["5"], "inputs": {**workflow["5"]["inputs"]}}}
    del plain["5"]["inputs"]["known_frames"]
    assert packets(saved(client, client.run(plain))) != packets(saved(client, first))


@contextmanager
def clip_server(client: Client) -> Iterator[FaultServer]:
    """Serve the video of the first example."""
    run = client.run(api_of("1_text_to_stream"))
    assert run.end[0] == "execution_success", run.end
    server = FaultServer(saved(client, run).read_bytes())
    try:
        yield server
    finally:
        server.close()


def from_url(workflow: dict[str, Any], url: str) -> dict[str, Any]:
    """A workflow whose live input reads an address in place of a camera."""
    [live] = [one for one in workflow.values() if one["class_type"] == "LongtakeLiveInput"]
    live["inputs"] |= {"source": "url", "url": url}
    return workflow


def test_the_core_offers_the_blueprints(client: Client) -> None:
    listed = json.loads(client.get("/global_subgraphs"))
    ours = {entry["name"]: number for number, entry in listed.items()
            if entry["info"]["node_pack"].endswith("longtake")}  # fmt: skip
    assert set(ours) == set(BLUEPRINTS)
    for name, made in BLUEPRINTS.items():
        entry = json.loads(client.get(f"/global_subgraphs/{ours[name]}"))
        blueprint = json.loads(entry["data"])
        [definition] = blueprint["definitions"]["subgraphs"]
        assert blueprint["nodes"][0]["type"] == definition["id"]
        api = made.example().api
        types = sorted(node["type"] for node in definition["nodes"])
        assert types == sorted(api[number]["class_type"] for number in made.inside)
        labels = {output.get("label", output["name"]) for output in definition["outputs"]}
        assert {name for _, name in made.names} <= labels <= {*OUTPUTS}
        promoted = {one["name"] for one in definition["inputs"]}
        assert promoted >= {"clip", "model", "vae", *(name for name, _ in made.promoted)}


@pytest.mark.parametrize(
    ("query", "place"),
    [("text to video", 1), ("image to video", 1), ("video", 5), ("endless", 1), ("cascade", 1)],
)
def test_the_node_search_finds_us(client: Client, query: str, place: int) -> None:
    [names] = drive(client.url, [{"do": "search", "query": query}])
    assert any(name in BLUEPRINTS for name in names[:place]), names[: place + 3]


def test_the_page_restores_its_own_workflow_before_it_takes_ours(client: Client) -> None:
    assert drive(client.url, [{"do": "openLate", "ms": 2000}]) == [False]


def example_of(blueprint: str) -> str:
    """The name of the example that a blueprint is a part of."""
    community = {f"community/{key}": make for key, make in community_examples.COMMUNITY.items()}
    makers = {**examples.EXAMPLES, **community}
    [name] = [key for key, make in makers.items() if make is BLUEPRINTS[blueprint].example]
    return name


@pytest.mark.usefixtures("upscale_model")
@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_gives_what_its_nodes_give(client: Client, name: str) -> None:
    [made] = drive(client.url, [blueprint_step(name)])
    folded, blueprint = shortened(made["prompt"]), BLUEPRINTS[name]
    assert sum(":" in number for number in folded) == len(blueprint.inside)
    api = {**api_of(example_of(name))}
    if "9" in api:  # the folded graph has no schedule for the clip that the example generates
        for workflow in (api, folded):
            workflow["9"]["inputs"].pop("schedule", None)
    run, plain = client.run(folded), client.run(shortened(api))
    assert run.end[0] == plain.end[0] == "execution_success"
    [save] = [n for n, one in folded.items() if one["class_type"] == "LongtakeSaveVideo"]
    assert frames_of(saved(client, run, save)) and np.array_equal(
        frames_of(saved(client, run, save)), frames_of(saved(client, plain))
    )


@pytest.mark.parametrize(
    ("locale", "title"),
    [
        ("zh", "Diffusion-Forcing 采样器"),
        ("zh-TW", "Diffusion-Forcing 取樣器"),
        ("fr", "Échantillonneur Diffusion-Forcing"),
    ],
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
    assert text.startswith("3 model evaluations a step: ")
    assert "This shot: 8 model evaluations per chunk (3 without guidance)" in text
    assert text.endswith(
        "Settings: text_scale 1, none_as nothing (from model: Longtake demo, fast)."
    )


@remakes
def test_remake_examples_and_blueprints(client: Client) -> None:
    steps = [
        {"do": "example", "api": made.api, "places": made.places, "groups": made.groups,
         "view": made.app, "note": {"title": TITLE, "place": PLACE, "text": NOTES[name].strip()}}
        for name, made in ((name, make()) for name, make in examples.EXAMPLES.items())
    ]  # fmt: skip
    made = drive(client.url, [*steps, *map(blueprint_step, BLUEPRINTS)])
    for name, one in zip(examples.EXAMPLES, made, strict=False):
        write_json(FOLDER / f"{name}.json", one["canvas"])
        write_json(FOLDER / "api" / f"{name}.json", one["api"])
    for name, one in zip(BLUEPRINTS, made[len(examples.EXAMPLES) :], strict=True):
        canvas = one["canvas"]
        [definition] = canvas["definitions"]["subgraphs"]
        definition |= {"category": "Longtake", "description": BLUEPRINTS[name].description}
        write_json(SUBGRAPHS / f"{name}.json", canvas)


@remakes
def test_remake_community_examples(client: Client) -> None:
    """Their files need not be there: the front end keeps the names."""
    for name, make in community_examples.COMMUNITY.items():
        made, note = make(), community_examples.NOTES[name].strip()
        step = {"do": "example", "api": made.api, "places": made.places, "groups": made.groups,
                "note": {"title": TITLE, "place": community_examples.NOTE_PLACE, "text": note},
                "view": made.app, "models": models_of(made.api)}  # fmt: skip
        [files] = drive(client.url, [step])
        write_json(FOLDER / "community" / f"{name}.json", files["canvas"])
        write_json(FOLDER / "community" / "api" / f"{name}.json", files["api"])


@remakes
@pytest.mark.parametrize("name", sorted({*examples.EXAMPLES} - examples.LIVE))
def test_remake_thumbnail(client: Client, name: str) -> None:
    run = client.run(api_of(name))
    assert run.end[0] == "execution_success", run.end
    save_thumbnail(name, frames_of(saved(client, run)))


@remakes
@pytest.mark.parametrize("name", sorted(examples.LIVE))
def test_remake_thumbnail_of_a_live_example(client: Client, name: str) -> None:
    """From the video of the first example, since no camera is here."""
    with clip_server(client) as clip:
        run = client.run(from_url(api_of(name), clip.url("/video")))
    assert run.end[0] == "execution_success", run.end
    save_thumbnail(name, frames_of(saved(client, run)))


def save_thumbnail(name: str, frames: list[np.ndarray]) -> None:
    """Write four moments of a video beside its example."""
    Image.fromarray(sheet(frames)).resize((576, 384), Image.Resampling.LANCZOS).save(
        FOLDER / f"{name}.jpg", quality=85
    )


def sheet(frames: list[np.ndarray]) -> np.ndarray:
    """Four moments of a video, or two of one that shows two shots side by side."""
    height, width, _ = frames[0].shape
    count = 2 if width >= 2 * height else 4
    picked = [frames[(2 * number + 1) * len(frames) // (2 * count)] for number in range(count)]
    rows = [np.concatenate(picked[at : at + count // 2], 1) for at in (0, count // 2)]
    return np.concatenate(rows)


@pytest.fixture
def flashvsr_headers(client: Client) -> Iterator[None]:
    """Files of the published sizes, of which a loader's line tells."""
    transformer = client.base / "models" / "diffusion_models" / FLASHVSR
    store_headers(transformer.parent)
    yield
    shutil.rmtree(transformer.parent)


@remakes
@pytest.mark.usefixtures("flashvsr_headers")
def test_remake_pictures_of_nodes(client: Client) -> None:
    types = sorted(page.stem for page in PICTURES.glob("*.md"))
    steps = [{"do": "picture", "type": name, "width": PICTURE_WIDTH, "values": FILES.get(name, {})}
             for name in types]  # fmt: skip
    for name, made in zip(types, drive(client.url, steps), strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(made["png"])))
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
            PICTURES / f"{name}.png", optimize=True
        )


@remakes
def test_remake_the_guides_picture(client: Client) -> None:
    canvas = json.loads((FOLDER / "community" / "camera_path.json").read_text("utf-8"))
    [png] = drive(client.url, [{"do": "graphPicture", "canvas": canvas, "types": GUIDE_TYPES}])
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    size = GUIDE_WIDTH, round(picture.height * GUIDE_WIDTH / picture.width)
    picture.resize(size, Image.Resampling.LANCZOS).quantize(64).save(
        ROOT / "docs" / "guide" / "camera_path.png", optimize=True
    )


def blueprint_step(name: str) -> dict[str, Any]:
    """Fold the inner nodes of an example into one; a second output is the preview's."""
    blueprint = BLUEPRINTS[name]
    made = blueprint.example()
    leaves = () if blueprint.names else (PREVIEW,)
    api = {number: one for number, one in made.api.items() if number not in leaves}
    return {"do": "blueprint", "api": api, "places": made.places, "inside": blueprint.inside,
            "promoted": blueprint.promoted, "outputs": OUTPUTS, "names": blueprint.names,
            "title": name}  # fmt: skip


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _without_comfy() -> dict[str, str]:
    """An environment in which the command line uses the stand-in."""
    return {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
