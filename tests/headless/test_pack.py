"""Our own nodes under the stand-in: they load, and the example workflows are valid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.headless.hosts.stand_in import StandInHost, host_modules, our_extension
from longtake.headless.workflow.graph import load
from longtake.headless.workflow.node_spec import NodeSpec
from longtake.headless.workflow.validation import check

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "example_workflows" / "api").glob("*.json"))


@pytest.fixture
def specs(tmp_path: Path) -> Iterator[dict[str, NodeSpec]]:
    """Return the node types of this pack, and the stand-in's core nodes."""
    with host_modules(tmp_path, lambda event: None) as state:
        yield StandInHost(state, our_extension()).specs([])


def test_every_node_of_the_pack_has_our_prefix(specs: dict[str, NodeSpec]) -> None:
    loaders = {"LoadAudio", "LoadImage", "LoadVideo"}
    foreign = {"CLIPTextEncode", "ImageFromBatch", "SaveImage", *loaders}
    assert len(specs) > len(foreign)
    assert all(name.startswith("Longtake") for name in specs.keys() - foreign)


def test_defaults_are_within_their_own_range(specs: dict[str, NodeSpec]) -> None:
    for spec in specs.values():
        for one in spec.inputs:
            if one.type in ("INT", "FLOAT"):
                assert isinstance(one.default, int | float), (spec.class_type, one.name)
                assert one.minimum is not None and one.maximum is not None
                assert one.minimum <= one.default <= one.maximum
            if one.type == "COMBO":
                assert one.default in one.options or not one.options  # a folder without files


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_workflows_pass_the_check(specs: dict[str, NodeSpec], path: Path) -> None:
    workflow = load(path)
    assert set(check(workflow, specs, "").nodes) == set(workflow.nodes)
