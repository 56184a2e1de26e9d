"""What is refused as a workflow is queued, not minutes later."""

from __future__ import annotations

import inspect

import pytest

from longtake.tests.support.node_bench import Bench


@pytest.mark.usefixtures("bench")
def test_a_wrong_text_is_refused_before_the_run() -> None:
    from longtake.nodes.conditioning.prompts import PromptTimeline
    from longtake.nodes.outputs.save_video import SaveVideo
    from longtake.nodes.rollouts.files import SaveRollout

    for node in (SaveVideo, SaveRollout):
        assert "not a file name inside" in str(node.validate_inputs(filename_prefix="../x"))
        assert node.validate_inputs(filename_prefix="a/b") is True
        assert node.validate_inputs() is True
    assert "which is not a time from 0" in str(PromptTimeline.validate_inputs(text="-3: a ball"))
    assert PromptTimeline.validate_inputs(text="0: a ball") is True
    assert PromptTimeline.validate_inputs(text=None) is True


@pytest.mark.usefixtures("bench")
def test_a_refusal_is_told_once() -> None:
    """The host repeats it for every input that the method names."""
    from longtake.nodes.extension import NODES

    checks = [vars(c)["validate_inputs"] for node in NODES for c in node.mro()[:2]
              if "validate_inputs" in vars(c)]  # fmt: skip
    named = [inspect.signature(check.__func__).parameters for check in checks]
    assert len(named) >= 5 and all(len(names) == 2 for names in named)  # `cls` and the input


def test_the_node_itself_refuses_what_came_by_a_link(bench: Bench) -> None:
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    refusal = bench.refusal("LongtakePromptTimeline", clip=clip, text="-3: a ball")
    assert "which is not a time from 0" in refusal
