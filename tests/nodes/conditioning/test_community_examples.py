"""The examples for community files, run with small random ones in place of those they name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.headless.hosts.stand_in.modules import VideoFromFile
from longtake.tests.support.clips import write_clip
from longtake.tests.support.model.flashvsr import store_parts
from longtake.tests.support.node_bench import CONFIG, Bench, node_bench, tiny_demo
from longtake.tests.support.nodes.community import FOLDER, SIZE, example, run_example
from longtake.tests.support.nodes.upscaling import Doubler
from longtake.tests.support.nodes.vace_files import module_state, write_module
from longtake.tools.community_examples import COMMUNITY, NOTES
from longtake.tools.example_nodes import node


@pytest.fixture
def open_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    """Opens the stand-in with a small random demo of some sizes."""
    monkeypatch.chdir(tmp_path)
    opened = []

    def begin(**sizes: Any) -> Bench:
        demo = tmp_path / "demo"
        demo.mkdir()
        files = tiny_demo(demo, replace(CONFIG, **sizes))
        opened.append(node_bench(tmp_path / "out", files, monkeypatch))
        return opened[-1].__enter__()

    yield begin
    for context in opened:
        context.__exit__(None, None, None)


def latents(rollout: Any) -> torch.Tensor:
    return torch.cat([chunk.latents for chunk in rollout.chunks])


def test_self_forcing_makes_a_shot_whose_prompt_changes(open_bench: Callable[..., Bench]) -> None:
    api, bench = example("self_forcing"), open_bench()
    assert api["3"]["inputs"]["text"].count("\n5: ") == 1
    results = run_example(bench, api, {})
    frames = bench.collect(results["6"][0])
    assert frames.shape == (results["6"][0].frame_total, SIZE, SIZE, 3) and frames.std() > 0
    assert api["7"]["inputs"]["frames"] == api["8"]["inputs"]["frames"] == ["6", 0]


def test_control_video_follows_a_video(open_bench: Callable[..., Bench], tmp_path: Path) -> None:
    api = example("control_video")
    write_module(tmp_path, module_state(), str(api["2"]["inputs"]["vace_name"]))
    write_clip(tmp_path / "x.mkv", 33, size=(SIZE, SIZE), codec="ffv1")
    stands: Any = {
        "LoadVideo": lambda _: (VideoFromFile(str(tmp_path / "x.mkv")),),
        "Canny": lambda inputs: (inputs["image"],),
    }
    bench = open_bench()
    followed = latents(run_example(bench, api, stands)["11"][0])
    del api["11"]["inputs"]["control"]
    plain = latents(run_example(bench, api, stands)["11"][0])
    assert followed.shape == plain.shape and not torch.allclose(followed, plain, atol=1e-2)


def test_camera_path_moves_the_camera(open_bench: Callable[..., Bench]) -> None:
    api, bench = example("camera_path"), open_bench(camera="prope")
    api["0"] = node("LongtakeKVCacheSettings", "", policy="window + sink")
    api["6"]["inputs"]["kv_cache"] = ["0", 0]  # the demo's own memory reads no second time
    moved = latents(run_example(bench, api, {})["6"][0])
    del api["6"]["inputs"]["camera"]
    still = latents(run_example(bench, api, {})["6"][0])
    assert moved.shape == still.shape and not torch.allclose(moved, still, atol=1e-3)


def test_sound_curve_mixes_by_the_music(open_bench: Callable[..., Bench]) -> None:
    api, bench = example("sound_curve"), open_bench()

    def shot(loud: float) -> torch.Tensor:
        times = torch.arange(16_000) / 8000
        wave = loud * torch.sin(2 * torch.pi * 100 * times) * (times > 1)
        stands: Any = {
            "LoadAudio": lambda _: ({"waveform": wave[None, None], "sample_rate": 8000},),
            "CLIPTextEncode": lambda inputs: (
                inputs["clip"].encode_from_tokens_scheduled(inputs["clip"].tokenize("blue")),
            ),
        }
        return latents(run_example(bench, api, stands)["6"][0])

    silent, loud = shot(0.0), shot(0.5)
    changed = (silent - loud).abs().amax((1, 2, 3)) > 0
    assert not changed[:3].any() and changed[-1]


def test_super_resolution_enlarges_the_shot(
    open_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    api = example("super_resolution")
    folder = Path(api["5"]["inputs"]["model_name"]).parent
    store_parts(tmp_path / "models" / "diffusion_models" / folder)
    bench = open_bench()
    results = run_example(bench, api, {})
    small, sharp = results["7"][0], results["8"][0]
    frames = bench.collect(sharp)
    assert frames.shape == (small.frame_total, 2 * SIZE, 2 * SIZE, 3)
    assert frames.std() > 0 and api["9"]["inputs"]["refined"] == api["10"]["inputs"]["frames"]


def test_cascade_enlarges_the_shot(open_bench: Callable[..., Bench]) -> None:
    api = example("cascade")
    results = run_example(open_bench(), api, {"UpscaleModelLoader": lambda _: (Doubler(),)})
    small, large = results["6"][0], results["10"][0]
    assert (large.width, large.frame_total) == (4 * small.width, small.frame_total)
    assert api["7"]["inputs"] == {"frames": ["6", 0], "refined": ["10", 0]}
    assert api["8"]["inputs"]["frames"] == ["10", 0]


@pytest.mark.parametrize("name", COMMUNITY)
def test_the_files_of_an_example_are_what_its_description_makes(name: str) -> None:
    made, api = COMMUNITY[name]().api, example(name)
    assert {n: node["class_type"] for n, node in api.items()} == {
        n: remade["class_type"] for n, remade in made.items()
    }
    for number, remade in made.items():
        for field, value in remade["inputs"].items():
            assert api[number]["inputs"][field] == value, (number, field)
    canvas = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    [note, *_] = canvas["nodes"]
    assert note["type"] == "MarkdownNote"
    assert note["widgets_values"] == [NOTES[name].strip()]
    assert len(NOTES[name].strip().splitlines()) == 3
