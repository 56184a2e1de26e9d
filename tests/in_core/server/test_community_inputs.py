"""The community examples against what the core says of its nodes; no file need be there."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.places import ROOT
from longtake.tools.community_examples import COMMUNITY

FILES = {"file", "image", "audio", "clip_name", "vae_name", "unet_name", "model_name", "vace_name",
         "lora_name", "projector", "decoder", "prompt"}  # fmt: skip
"""Inputs whose values are files of the user's."""
OWN = "Longtake"
NUMBERS = {"INT": int, "FLOAT": (int, float)}


def api_of(name: str) -> dict[str, Any]:
    file = ROOT / "example_workflows" / "community" / "api" / f"{name}.json"
    api: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return api


@pytest.fixture(scope="module")
def infos(client: Client) -> dict[str, Any]:
    infos: dict[str, Any] = json.loads(client.get("/object_info"))
    return infos


@pytest.mark.parametrize("name", COMMUNITY)
def test_every_input_is_one_that_the_core_knows(name: str, infos: dict[str, Any]) -> None:
    api = api_of(name)
    for number, node in api.items():
        info, where = infos[node["class_type"]], f"{name}: {number} {node['class_type']}"
        required, optional = (info["input"].get(kind, {}) for kind in ("required", "optional"))
        assert set(required) <= set(node["inputs"]), where
        for field, value in node["inputs"].items():
            if "." in field:  # belongs to a choice, and the core checks it by that
                continue
            check(value, {**required, **optional}[field], f"{where} {field}", api, infos)


def check(value: Any, spec: Any, where: str, api: dict[str, Any], infos: dict[str, Any]) -> None:
    """A link has the type that is asked for; a number is in range; a choice is offered."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(value, list):
        source = infos[api[value[0]]["class_type"]]["output"][value[1]]
        assert source in str(kind).split(",") or "*" in (source, kind), (where, source, kind)
    elif str(kind) in NUMBERS:
        assert isinstance(value, NUMBERS[kind]), where
        assert options.get("min", value) <= value <= options.get("max", value), where
    elif where.split()[-1] not in FILES and (offered := choices(json.dumps(spec))):
        assert value in offered, (where, value, offered)


@cache
def choices(spec: str) -> tuple[Any, ...]:
    """The values of a choice in each form in which the core gives them."""
    kind, *more = json.loads(spec)
    listed = kind if isinstance(kind, list) else (more[0].get("options") or [] if more else [])
    return tuple(each["key"] if isinstance(each, dict) else each for each in listed)


def test_a_wrong_input_would_be_seen(infos: dict[str, Any]) -> None:
    api = api_of("seedvr2")
    required = infos["KSampler"]["input"]["required"]
    for field, value in (
        ("steps", 0),
        ("sampler_name", "eulr"),
        ("steps", "1"),
        ("model", ["5", 0]),
    ):
        with pytest.raises(AssertionError):
            check(value, required[field], f"KSampler {field}", api, infos)
    mode = infos["SeedVR2TemporalChunk"]["input"]["required"]["chunking_mode"]
    check("auto", mode, "chunking_mode", api, infos)
    with pytest.raises(AssertionError):
        check("by itself", mode, "chunking_mode", api, infos)
