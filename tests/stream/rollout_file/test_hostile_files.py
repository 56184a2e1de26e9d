"""A rollout file that is damaged or made up: one sentence at once, or a shot that plays."""

from __future__ import annotations

import json
import math
import os
import random
import time
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from longtake.attention.snapshot import Snapshot, check_form
from longtake.benchmarks._attack.rollout_files import judge, mutate, sample_file
from longtake.errors import BadInput
from longtake.model.files.safetensors_writer import CHECKSUM, info_of, write
from longtake.samplers.loop import Loop
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import rolling
from longtake.samplers.solvers.multistep import DPMSolverPP2M
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.hot_states import HotStates
from longtake.stream.rollout.spec import RolloutSpec
from longtake.stream.rollout_file.file import SUFFIX, RolloutFile
from longtake.tests.support.stream.rollouts import KINDS, MODEL, rollout
from longtake.tests.support.tiny_model import settings

SHOTS: dict[str, dict[str, Any]] = {
    "causal": {"length": 9},
    "rolling": {
        "schedule": rolling(flow_ladder(3, 3.0), 2), "solver": DPMSolverPP2M(), "length": 8,
    },
}  # fmt: skip


def save_shot(folder: Path, **changes: Any) -> Path:
    """A finished shot with its state."""
    journal, hot = Journal(folder / "here"), HotStates(lambda: 10**9)
    spec = RolloutSpec(settings(**changes), MODEL, "model", journal, hot=hot)
    return sample_file(folder, MODEL, spec)


def rewrite(path: Path, tensors: dict[str, Any] | None = None, **metadata: str) -> Path:
    """The file with other metadata or tensors, sealed again as an attacker would."""
    with safe_open(str(path), "pt") as file:
        names = [name for name in file.keys() if name != CHECKSUM]  # noqa: SIM118
        content = {name: file.get_tensor(name) for name in names}
        known = dict(file.metadata())
    content |= tensors or {}
    largest_first = sorted(content.items(), key=lambda item: -item[1].element_size())
    infos = [info_of(name, tensor) for name, tensor in largest_first]
    made_up = path.with_name(f"made-up{SUFFIX}")
    write(made_up, infos, largest_first, known | metadata, checksum=True)
    return made_up


def read_recipe(path: Path) -> dict[str, Any]:
    with safe_open(str(path), "pt") as file:
        recipe: dict[str, Any] = json.loads(file.metadata()["recipe"])
    return recipe


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each file is loaded in a forked process")
@pytest.mark.parametrize(
    "numbers", [range(12), pytest.param(range(12, 60), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", SHOTS)
def test_a_mutated_file_is_refused_in_a_sentence_or_plays(
    tmp_path: Path, kind: str, numbers: range
) -> None:
    sound = save_shot(tmp_path, **SHOTS[kind])
    assert judge(sound, tmp_path / "there", MODEL).end == "done"
    for number in numbers:
        target = tmp_path / f"{number}{SUFFIX}"
        mutation = mutate(sound, target, random.Random(f"{kind} {number}"))
        outcome = judge(target, tmp_path / f"journal {number}", MODEL)
        assert not outcome.is_bad, (mutation, outcome)
        assert mutation.sealed or outcome.end == "refused", mutation


HOSTILE = {
    "length": 10**9, "rows": 10**9, "columns": 10**9, "seed": -1, "rows ": 4.0,
    "recache_frames": [10**12], "hold_rotated": 1, "on_prompt_change": "melt",
}  # fmt: skip


@pytest.mark.parametrize("field", HOSTILE)
def test_a_recipe_out_of_range_is_refused_at_once(tmp_path: Path, field: str) -> None:
    path = save_shot(tmp_path, **SHOTS["causal"])
    recipe = {**read_recipe(path), field.strip(): HOSTILE[field]}
    start = time.thread_time()
    with pytest.raises(BadInput, match=r"\w+.*; copy it again, or save the shot again\.$"):
        RolloutFile(rewrite(path, recipe=json.dumps(recipe))).settings()
    assert time.thread_time() - start < 1


def test_a_schedule_with_endless_rows_is_refused_at_once(tmp_path: Path) -> None:
    path = save_shot(tmp_path, **SHOTS["causal"])
    recipe = read_recipe(path)
    recipe["schedule"] |= {"lag": 0.01, "ladder": [*(1 - i / 5000 for i in range(5000)), 0.0]}
    recipe["length"] = 1_000_000
    start = time.thread_time()
    with pytest.raises(BadInput, match="in flight times steps"):
        RolloutFile(rewrite(path, recipe=json.dumps(recipe))).settings()
    assert time.thread_time() - start < 1


BLEND = {"is": "Blend", "chunk_frames": 3, "parts": 4, "steps": 4}
CHANGES: dict[str, tuple[dict[str, Any], list[Any], str]] = {
    "endless": (BLEND | {"parts": 10**6, "steps": 10**6}, [], "the number of blended prompts"),
    "backward": (BLEND | {"chunk_frames": -1}, [], "the parts of a blend"),
    "beyond": (BLEND, [[0, 1.5]], "a share of the second prompt is not from 0 to 1"),
    "disordered": (BLEND, [[3, 1.0], [0, 0.5]], "not in order of time"),
    "late": (BLEND, [[10**9, 1.0]], "a prompt's latent frame"),
    "narrow": (BLEND, [[0, 1.0]], "prompts that are mixed have several sizes"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_blends_and_mixes_that_cannot_be_are_refused_at_once(tmp_path: Path, case: str) -> None:
    blend, shares, words = CHANGES[case]
    path = save_shot(tmp_path, **SHOTS["causal"])
    recipe = read_recipe(path)
    prompts = recipe["prompts"]
    prompts["lines"][1]["blend"] = blend
    tensors = {"recipe.mix": torch.ones(1, MODEL.config.text_dim)} if shares else {}
    if shares:
        mixed = {"tensor": "recipe.mix"}
        prompts["mix"] = {"is": "PromptMix", "embedding": mixed, "shares": shares}
    start = time.thread_time()
    with pytest.raises(BadInput, match=words):
        RolloutFile(rewrite(path, tensors, recipe=json.dumps(recipe))).settings()
    assert time.thread_time() - start < 1


ROWS = {"tensor": "recipe.rows"}
EVEN = {"is": "Mixture", "first": ROWS, "second": ROWS, "share": 0.5}
EMBEDDINGS: dict[str, tuple[dict[str, Any], str]] = {
    "cut": ({"is": "Padded", "rows": ROWS, "length": 1}, "the rows of a prompt"),
    "endless": ({"is": "Padded", "rows": ROWS, "length": 10**12}, "the rows of a prompt"),
    "beyond": (EVEN | {"share": 1.5}, "mixed in a way"),
    "deep": (reduce(lambda inner, _: EVEN | {"first": inner}, range(99), EVEN), "mixed in a way"),
    "wide": (
        reduce(lambda e, _: EVEN | {"first": e, "second": e}, range(9), EVEN),
        "mixed in a way",
    ),
}


@pytest.mark.parametrize("case", EMBEDDINGS)
def test_prompts_that_cannot_be_are_refused_at_once(tmp_path: Path, case: str) -> None:
    embedding, words = EMBEDDINGS[case]
    path = save_shot(tmp_path, **SHOTS["causal"])
    recipe = read_recipe(path)
    recipe["prompts"]["lines"][1]["embedding"] = embedding
    rows = {"recipe.rows": torch.ones(2, MODEL.config.text_dim)}
    start = time.thread_time()
    with pytest.raises(BadInput, match=words):
        RolloutFile(rewrite(path, rows, recipe=json.dumps(recipe))).settings()
    assert time.thread_time() - start < 1


@pytest.mark.parametrize("name", ["scale", "tau"])
def test_a_push_beyond_all_numbers_is_refused(tmp_path: Path, name: str) -> None:
    path = save_shot(tmp_path, **SHOTS["causal"])
    recipe = read_recipe(path)
    nag = {"is": "NormalizedAttention", "scale": 3.0, "tau": 2.0, "alpha": 1.0, name: 1e7}
    recipe["guidance"]["normalized_attention"] = nag
    with pytest.raises(BadInput, match="a strength or weight is beyond"):
        RolloutFile(rewrite(path, recipe=json.dumps(recipe))).settings()


@pytest.mark.parametrize("fps", ["0", "-1", "nan", "inf", "1e9", "x", ""])
def test_a_frame_rate_that_no_video_has_is_refused(tmp_path: Path, fps: str) -> None:
    path = save_shot(tmp_path, **SHOTS["causal"])
    with pytest.raises(BadInput, match="is damaged, or no Longtake wrote it"):
        RolloutFile(rewrite(path, fps=fps))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_latents_that_are_not_finite_do_not_enter_the_journal(tmp_path: Path, value: float) -> None:
    path = save_shot(tmp_path, **SHOTS["causal"])
    latents = torch.zeros(3, MODEL.config.out_channels, 4, 6)
    latents[1, 2, 3, 4] = value
    file = RolloutFile(rewrite(path, {"chunk.1.latents": latents}))
    spec = RolloutSpec(file.settings(), MODEL, file.models, Journal(tmp_path / "there"))
    with pytest.raises(BadInput, match=r"chunk\.1\.latents is 'not finite'"):
        file.keep_in(spec.journal, spec.chain)
    assert spec.stored_chunks() == 1


def test_a_decoder_of_any_size_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = save_shot(tmp_path, **SHOTS["causal"])
    recipe = read_recipe(path)
    config = {"is": "TinyVAEConfig", "encoder_widths": [9, 9, 9], "decoder_widths": [4096] * 3}
    palette = {"is": "Palette", "colours": [[0, 0, 0]],
               "pictures": {"is": "Pictures", "config": config, "vae": {}}}  # fmt: skip
    recipe["guidance"]["weighted_scores"] = [{"is": "WeightedScore", "score": palette}]
    with pytest.raises(BadInput, match="one that its weights fit"):
        RolloutFile(rewrite(path, recipe=json.dumps(recipe))).settings()


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_a_loop_has_the_form_of_an_empty_one(tmp_path: Path, kind: str) -> None:
    shot = rollout(tmp_path, **KINDS[kind])
    loop, empty = Loop(shot.settings, MODEL), Loop(shot.settings, MODEL)
    chunks = loop.chunks()
    for _ in range(3):
        next(chunks)
    empty.branches.claim()
    state, like = loop.snapshot(), empty.snapshot()
    check_form(state, like, state.facts["first"])
    name = "branches.finished.latents"
    flat = {**state.tensors, name: state.tensors[name].flatten()}
    for broken in (
        Snapshot(flat, state.facts),
        Snapshot({}, state.facts),
        Snapshot(state.tensors, {**state.facts, "begun": {}}),
        Snapshot(state.tensors, {**state.facts, "prompted": 10**9}),
        Snapshot(state.tensors, {**state.facts, "branches": []}),
    ):
        with pytest.raises(ValueError, match="its|begun|prompted|branches"):
            check_form(broken, like, state.facts["first"])
