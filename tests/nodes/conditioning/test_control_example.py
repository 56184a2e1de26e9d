"""The example for community files, run with small random ones in place of those it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.headless.hosts.stand_in.modules import VideoFromFile
from longtake.tests.support.clips import write_clip
from longtake.tests.support.node_bench import Bench, node_bench, tiny_demo
from longtake.tests.support.nodes.vace_files import module_state, write_module
from longtake.tools.community_examples import COMMUNITY, NOTES

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "example_workflows" / "community"
SIZE = 32
SMALL = {"width": SIZE, "height": SIZE, "length": 1.5}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with files of the names in the example, all small and random."""
    api = example()
    demo = tmp_path / "demo"
    demo.mkdir()
    write_module(tmp_path, module_state(), str(api["2"]["inputs"]["vace_name"]))
    monkeypatch.chdir(tmp_path)
    with node_bench(tmp_path / "out", tiny_demo(demo), monkeypatch) as made:
        yield made


def example() -> dict[str, Any]:
    return json.loads((FOLDER / "api" / "control_video.json").read_text(encoding="utf-8"))


def run(bench: Bench, api: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the nodes in order; loaders of the host and Canny are replaced by what there is."""
    write_clip(folder / "x.mkv", 33, size=(SIZE, SIZE), codec="ffv1")
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    replaced: dict[str, Any] = {
        "CLIPLoader": (clip,), "VAELoader": (vae,),
        "LoadVideo": (VideoFromFile(str(folder / "x.mkv")),), "LongtakeLoadModel": (model,),
    }  # fmt: skip
    results: dict[str, Any] = {}
    for number in sorted(api, key=int_of):
        kind, given = api[number]["class_type"], dict(api[number]["inputs"])
        inputs = {
            name: results[value[0]][value[1]] if isinstance(value, list) else value
            for name, value in given.items()
        }
        if kind == "Canny":
            results[number] = (inputs["image"],)
        elif kind in replaced:
            results[number] = replaced[kind]
        elif kind not in ("LongtakePreview", "LongtakeSaveVideo"):
            small = {name: SMALL[name] for name in inputs if name in SMALL}
            results[number] = bench.run(kind, **{**inputs, **small})
    return results


def int_of(number: str) -> int:
    """Where a node stands in the order of the example's numbers."""
    return int(number)


def test_the_example_follows_a_video_with_small_random_files(bench: Bench, tmp_path: Path) -> None:
    api = example()
    rollout = run(bench, api, tmp_path)["11"][0]
    followed = torch.cat([chunk.latents for chunk in rollout.chunks])
    del api["11"]["inputs"]["control"]
    plain = run(bench, api, tmp_path)["11"][0]
    other = torch.cat([chunk.latents for chunk in plain.chunks])
    assert followed.shape == other.shape and not torch.allclose(followed, other, atol=1e-2)


def test_the_files_of_the_example_are_what_its_description_makes() -> None:
    made, api = COMMUNITY["control_video"]().api, example()
    assert {n: node["class_type"] for n, node in api.items()} == {
        n: node["class_type"] for n, node in made.items()
    }
    for number, node in made.items():
        for name, value in node["inputs"].items():
            assert api[number]["inputs"][name] == value, (number, name)
    canvas = json.loads((FOLDER / "control_video.json").read_text(encoding="utf-8"))
    [note, *_] = canvas["nodes"]
    assert note["type"] == "MarkdownNote"
    assert note["widgets_values"] == [NOTES["control_video"].strip()]
    assert len(NOTES["control_video"].strip().splitlines()) == 3
