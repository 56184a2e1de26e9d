"""Runs an example for community files, with small random ones in place of those that it names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from longtake.tests.support.node_bench import Bench

FOLDER = Path(__file__).resolve().parents[3] / "example_workflows" / "community"
SIZE = 32
SMALL = {"width": SIZE, "height": SIZE, "length": 1.5}
OUTPUTS = ("LongtakePreview", "LongtakeSaveVideo")

StandIn = Callable[[dict[str, Any]], tuple[Any, ...]]
"""What a node gives for its inputs, where the bench has no such node."""


def example(name: str) -> dict[str, Any]:
    """The API form of an example."""
    api: dict[str, Any] = json.loads((FOLDER / "api" / f"{name}.json").read_text("utf-8"))
    return api


def run_example(
    bench: Bench, api: dict[str, Any], replaced: Mapping[str, StandIn]
) -> dict[str, Any]:
    """Run the nodes in order, outputs excepted; shots are small and short.

    The demo stands for the loaders of model, CLIP and VAE; `replaced` stands for further nodes.
    """
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    loaders: dict[str, StandIn] = {
        "LongtakeLoadModel": lambda _: (model,),
        "CLIPLoader": lambda _: (clip,),
        "VAELoader": lambda _: (vae,),
        "LongtakeLoadVAE": lambda _: (vae,),
    }
    stands, results = {**loaders, **replaced}, dict[str, Any]()
    for number in sorted(api, key=lambda text: int(text)):
        kind = api[number]["class_type"]
        if kind in OUTPUTS and kind not in stands:
            continue
        inputs = {
            name: results[value[0]][value[1]] if isinstance(value, list) else value
            for name, value in api[number]["inputs"].items()
        }
        if kind in stands:
            results[number] = stands[kind](inputs)
        else:
            small = {name: SMALL[name] for name in inputs if name in SMALL}
            results[number] = bench.run(kind, **{**inputs, **small})
    return results
