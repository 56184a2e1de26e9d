"""A guidance term's own prompt: what it is equal to, what it is known by, what it survives."""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Branch, Guidance, OwnPrompt, cfg, extend, merge_branches
from longtake.samplers.loop import generate
from longtake.samplers.planning.cost import histories_used
from longtake.samplers.settings import RolloutSettings
from longtake.stream.journal.chain import Chain
from longtake.stream.journal.records import rollout_facts
from longtake.stream.rollout_file.recipe import from_record, to_record
from longtake.tests.support.tiny_model import (
    TINY,
    embedding,
    random_dit,
    settings,
    timeline,
)

MODEL = local_denoiser(random_dit(), TINY)


def shot(own: OwnPrompt) -> RolloutSettings:
    """A rollout with half of that prompt on top."""
    on_top = Guidance((Branch(0.5), Branch(0.5, own)))
    return settings(length=6, prompts=timeline(0), guidance=extend(cfg(2.0), on_top))


def test_equal_prompts_are_one_branch() -> None:
    one, same, other = (OwnPrompt(embedding(seed)) for seed in (7, 7, 8))
    assert merge_branches([Branch(0.5, one), Branch(0.5, same)]) == (Branch(1.0, one),)
    assert len(merge_branches([Branch(0.5, one), Branch(0.5, other)])) == 2
    assert repr(one) == repr(same) != repr(other)


def test_its_content_is_part_of_every_key() -> None:
    keys = [Chain(shot(OwnPrompt(embedding(seed))), "model").key(0) for seed in (7, 7, 8)]
    assert keys[0] == keys[1] != keys[2]
    assert (
        shot(OwnPrompt(embedding(7))).guidance.inputs
        != shot(OwnPrompt(embedding(8))).guidance.inputs
    )


def test_a_saved_rollout_has_it() -> None:
    made = shot(OwnPrompt(embedding(7), "rain"))
    record, tensors = to_record(made)
    again = from_record(json.loads(json.dumps(record)), tensors)
    assert Chain(again, "model").key(1) == Chain(made, "model").key(1)
    assert again.guidance.own_prompts[0].text == "rain"


def test_a_shorter_one_is_padded_as_the_others_are() -> None:
    short = embedding(7)[:3]
    padded, cut = (shot(OwnPrompt(one)) for one in (embedding(7), short))
    one, other = (torch.cat([c.latents for c in generate(s, MODEL)]) for s in (padded, cut))
    assert torch.equal(one, other)


def test_reports_name_its_text_or_say_that_it_is_its_own() -> None:
    for text, said in (("rain", "prompt 'rain'"), ("", "own prompt")):
        made = shot(OwnPrompt(embedding(7), text))
        used = histories_used(replace(made, length=6))
        assert used == f"1.5 x all; -1 x all, negative prompt; 0.5 x all, {said}"
        facts = rollout_facts(made, channels=16, fps=16.0, lock="")
        assert facts["guidance"] == [[0, used]]
