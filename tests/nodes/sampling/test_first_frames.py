"""A model whose shots begin with a chunk of one latent frame, as the nodes run it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from longtake.headless.commands.inspect import _preset
from longtake.model.preset import DEMO
from longtake.nodes.sampling.schedule_spec import ScheduleSpec
from longtake.samplers.schedule.options import ScheduleOptions
from longtake.tests.support.node_bench import Bench

PRESET = replace(DEMO, first_frames=1, steps=1, first_steps=0)
SHOT = {"width": 32, "height": 32, "length": 40.0, "length_unit": "frames"}


def shot(bench: Bench, text: str, **inputs: Any) -> Any:
    model, clip, _ = bench.run("LongtakeLoadDemoModel", quality="full")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text=text, negative="", **inputs)
    schedule = ScheduleSpec().resolve(PRESET)
    return bench.run("LongtakeSampler", model=model, prompts=prompts, schedule=schedule, **SHOT)[0]


def test_length_prompts_and_guidance_fall_on_its_chunks(bench: Bench) -> None:
    """40 frames are 11 latent frames, so 13; 0.7 s is latent frame 3.55."""
    text = "0: a red ball\n0.1: blue\n0.7 (over 1.5): ball"
    made = shot(bench, text, guidance="0: 1\n0.3: 2\n2: 3")
    prompts = made.settings.prompts
    assert [entry.start_frame for entry in prompts.entries] == [0, 1, 4, 7, 10]
    assert {change.start_frame for change in made.settings.guidance_changes} <= {0, 1, 4, 7, 10}
    chunks = [*made.chunks]
    assert [chunk.first_frame for chunk in chunks] == [0, 1, 4, 7, 10]
    assert sum(len(chunk.latents) for chunk in chunks) == made.settings.length == 13


def test_a_fork_is_as_long_as_whole_chunks_make_it(bench: Bench) -> None:
    source = shot(bench, "0: a red ball")
    change = {"action": "fork", "at": 0.9, "length": 2.0, "new_prompt": "blue"}
    [forked] = bench.run("LongtakeEditRollout", rollout=source, **change)
    assert forked.settings.length == 10
    assert [entry.start_frame for entry in forked.settings.prompts.entries] == [0, 4]


def test_the_info_of_a_rollout_names_it(bench: Bench) -> None:
    from longtake.nodes.rollouts.info import describe_rollout

    made = describe_rollout(shot(bench, "0: a red ball"))
    assert "Schedule 3 latent frames a chunk after a first one of 1, solver" in "\n".join(made)


def test_what_comes_from_the_model_names_it() -> None:
    values = ScheduleSpec().values_from_preset(PRESET)
    assert (values["chunk_frames"], values["first_frames"]) == (3, 1)
    assert "first_frames" not in ScheduleSpec().values_from_preset(DEMO)
    other = ScheduleSpec(ScheduleOptions("frame by frame"))
    assert "first_frames" not in other.values_from_preset(PRESET)


@pytest.mark.parametrize(("first", "words"), [(1, "chunks of 3 after a first one of 1, steps"),
                                              (0, "chunks of 3, steps")])  # fmt: skip
def test_inspect_describes_it(first: int, words: str) -> None:
    assert words in _preset(asdict(replace(DEMO, first_frames=first)))
