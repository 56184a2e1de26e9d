"""A control video in the loop: steps read it, commits do not, and off means today's bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.errors import BadInput
from longtake.samplers.control.strength import (
    ControlStrength,
    StrengthChange,
    strength_of_changes,
)
from longtake.samplers.control.video import ControlVideo
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.samplers.planning.memory import max_bytes, rollout_memory
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import rolling
from longtake.samplers.settings import RolloutSettings
from longtake.stream.journal.chain import Chain
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.fork import Fork
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.samplers.control import (
    ControlTensors,
    Picture,
    controlled_model,
    random_control,
)
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings

LENGTH, CHANGE_AT = 10, 6
MODEL = controlled_model()


def shot(**changes: Any) -> RolloutSettings:
    """Ten latent frames of three a chunk, in a short window."""
    return settings(**{"length": LENGTH, "cache": WindowSink(4, 1), **changes})


def latents(made: RolloutSettings, engine: Denoiser = MODEL) -> Tensor:
    """All latent frames of a shot."""
    return torch.cat([chunk.latents for chunk in generate(made, engine)])


def test_strength_0_gives_the_bits_and_the_addresses_of_no_control() -> None:
    frames = random_control(LENGTH)
    off = shot(control=ControlVideo(frames, strength=ControlStrength((0,), (0.0,))))
    plain = latents(shot(), local_denoiser(random_dit(), TINY))
    assert torch.equal(latents(off), plain) and torch.equal(latents(shot()), plain)
    assert not torch.allclose(latents(shot(control=ControlVideo(frames))), plain, atol=1e-2)
    assert frames.reads == LENGTH
    one, two = Chain(off, "m"), Chain(shot(), "m")
    assert [one.key(i) for i in range(4)] == [two.key(i) for i in range(4)]


def test_other_frames_change_the_video_and_its_addresses_from_their_chunk_on() -> None:
    frames = random_control(LENGTH)
    others = ControlTensors(frames.tensor.clone())
    others.tensor[CHANGE_AT:] = random_control(LENGTH, seed=5).tensor[CHANGE_AT:]
    one, two = (shot(control=ControlVideo(source)) for source in (frames, others))
    first, second = latents(one), latents(two)
    assert torch.equal(first[:CHANGE_AT], second[:CHANGE_AT])
    assert not torch.allclose(first[CHANGE_AT:], second[CHANGE_AT:], atol=1e-2)
    same = [Chain(one, "m").key(i) == Chain(two, "m").key(i) for i in range(4)]
    assert same == [True, True, False, False]
    assert Chain(one, "m").id != Chain(two, "m").id


def test_a_control_video_that_ends_leaves_the_rest_uncontrolled() -> None:
    short = ControlVideo(random_control(CHANGE_AT))
    rest_off = ControlStrength((0, CHANGE_AT), (1.0, 0.0))
    whole = ControlVideo(random_control(LENGTH), strength=rest_off)
    assert torch.equal(latents(shot(control=short)), latents(shot(control=whole)))
    assert Chain(shot(control=short), "m").key(2) == Chain(shot(control=whole), "m").key(2)


@pytest.mark.parametrize("kind", ["chunks", "rolling", "guided"])
def test_resumed_equals_uninterrupted(kind: str, tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "chunks": {}, "rolling": {"schedule": rolling(flow_ladder(3, 3.0), 2)},
        "guided": {"guidance": cfg(2.0)},
    }  # fmt: skip
    control = ControlVideo(random_control(8), (Picture(randn(4, 4, 6, seed=8)),))
    made = shot(control=control, **kinds[kind])
    whole = latents(made)
    journal = Journal(tmp_path)
    for count in (1, 2, None):
        chunks = []
        for chunk in Rollout(RolloutSpec(made, MODEL, "m", journal)).chunks:
            chunks.append(chunk.latents)
            if count is not None and len(chunks) > count:
                break
    assert torch.equal(torch.cat(chunks), whole)


def test_a_fork_keeps_the_control_video() -> None:
    made = shot(control=ControlVideo(random_control(LENGTH)))
    assert Fork(frame=3, seed=9).apply(made).control == made.control


def test_each_branch_of_guidance_reads_its_own_prompt() -> None:
    """In one pass or one after another, the same hints reach each branch."""
    control = ControlVideo(random_control(LENGTH))
    together = cfg(2.5)
    apart = replace(together, in_one_pass=False)
    one, two = (latents(shot(control=control, guidance=g)) for g in (together, apart))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_a_reference_takes_the_first_place_of_every_chunk() -> None:
    frames, picture = random_control(LENGTH), Picture(randn(4, 4, 6, seed=8))
    control = ControlVideo(frames, (picture,))
    first, *others = control.read([3, 4, 5])
    assert first is not None
    assert torch.equal(first[:4], picture.latents) and not first[4:].any()
    for other, number in zip(others, (4, 5), strict=True):
        assert other is not None and torch.equal(other, frames.tensor[number])


def test_frames_ahead_of_a_chunk_do_not_take_the_place_of_a_reference() -> None:
    control = ControlVideo(random_control(LENGTH), (Picture(randn(4, 4, 6, seed=8)),))
    ahead, first, *_ = control.read([9, 3, 4, 5])
    assert ahead is not None and torch.equal(ahead, random_control(LENGTH).tensor[9])
    assert first is not None and not first[4:].any()


def test_a_strength_changes_evenly_between_its_times() -> None:
    changes = [StrengthChange(0, 1.0), StrengthChange(4, 0.0, 4), StrengthChange(6, 2.0)]
    strength = strength_of_changes(changes)
    assert [strength.at(frame) for frame in range(8)] == [1, 1, 1, 1, 0.75, 0.5, 2, 2]
    assert strength_of_changes([StrengthChange(3, 0.5)]) == ControlStrength((0, 3), (0.5, 0.5))
    assert strength_of_changes([]) == ControlStrength()


def test_another_strength_takes_the_place_of_the_one_at_its_frame() -> None:
    strength = ControlStrength((0, 3, 6), (1.0, 0.5, 2.0)).then(3, 0.25)
    assert [strength.at(frame) for frame in (0, 2, 3, 5, 6, 9)] == [1, 1, 0.25, 0.25, 0.25, 0.25]
    assert [strength.then(0, 2.0).at(frame) for frame in (0, 3)] == [2, 2]


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (lambda: ControlVideo(), "needs control frames or a reference"),
        (lambda: ControlVideo(random_control(3), (Picture(randn(4, 8, 6)),)),
         "reference pictures are 48x64 pixels and the shot is"),
        (lambda: ControlVideo(random_control(3, size=(6, 6))), "48x48 pixels and the shot is"),
        (lambda: ControlVideo(references=(Picture(randn(4, 4, 6)),) * 4), "4 reference pictures"),
        (lambda: ControlVideo(random_control(3), strength=ControlStrength((0,), (-1.0,))),
         "strength is from 0 to 10"),
        (lambda: ControlVideo(random_control(3), strength=ControlStrength((1,), (1.0,))),
         "one factor for each"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_sentence(control: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        shot(control=control())


def test_a_model_without_a_module_is_refused() -> None:
    made = shot(control=ControlVideo(random_control(3)))
    with pytest.raises(BadInput, match="no VACE module"):
        latents(made, local_denoiser(random_dit(), TINY))


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_plan_counts_the_module(blocks: int) -> None:
    made = shot(control=ControlVideo(random_control(LENGTH)))
    config = replace(TINY, num_layers=4, control_blocks=blocks)
    without = rollout_memory(replace(made, control=None), config, torch.float32)
    plan = rollout_memory(made, config, torch.float32)
    tokens = made.active_frames * 6
    state = 2 * tokens * TINY.dim * 4  # the branch's tokens and the projected control frames
    assert plan.kv_bytes == without.kv_bytes
    assert plan.working_bytes >= without.working_bytes + state
    assert max_bytes(made, config, torch.float32) >= plan.total_bytes
    text = 2 * len(made.prompts.negative) * TINY.dim * 4
    if blocks == 2:
        one = rollout_memory(made, replace(config, control_blocks=1), torch.float32)
        assert plan.working_bytes - one.working_bytes >= text
