"""Laws of forking, rewinding and extending: common chunks are shared on disk, later ones equal a
fresh run of the same settings, and the source never changes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.conditioning.prompts import TimedPrompt
from longtake.samplers.guidance import NOISE, cfg, vanilla
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import pyramid, rolling
from longtake.samplers.settings import RolloutSettings, TimedSeed
from longtake.samplers.solvers.multistep import UniPC2
from longtake.samplers.solvers.single_step import ReNoise
from longtake.stream.journal.chain import ModelHistory
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.fork import Fork, extend
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.stream.rollouts import (
    LONG_HISTORIES,
    MODEL,
    assert_same_bits,
    edit_fork,
)
from longtake.tests.support.tiny_model import (
    TINY,
    embedding,
    randn,
    settings,
    timeline,
)

LADDER = flow_ladder(3, 3.0)
KINDS: dict[str, dict[str, Any]] = {
    **LONG_HISTORIES,
    "causal": {"cache": WindowSink(5, 1), "context_noise": ContextNoise(0.1)},
    "causal, stochastic": {"solver": ReNoise(), "guidance": vanilla(2.0, NOISE)},
    "pyramid, multistep": {"schedule": pyramid(LADDER), "solver": UniPC2(), "length": 7},
    "rolling, fresh noise": {
        "schedule": rolling(LADDER, 2),
        "solver": ReNoise(),
        "context_noise": ContextNoise(0.1, fresh=True),
        "length": 10,
    },
}


def rollout(folder: Path, made: RolloutSettings, **changes: Any) -> Rollout:
    return Rollout(RolloutSpec(made, MODEL, "model", Journal(folder), **changes))


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_at_every_chunk_is_a_fresh_run_of_its_settings(tmp_path: Path, kind: str) -> None:
    source = settings(**{"length": 12, **KINDS[kind]})
    plain = list(rollout(tmp_path / "all", source).chunks)
    for chunk in plain:
        forked = edit_fork(chunk.first_frame).apply(source)
        shared = rollout(tmp_path / "all", forked)
        assert shared.spec.stored_chunks() == chunk.index
        ours = list(shared.chunks)
        assert shared.resumed_from == (chunk.index or None)
        assert_same_bits(ours, list(rollout(tmp_path / f"{chunk.index}", forked).chunks))
        same = [torch.equal(a.latents, b.latents) for a, b in zip(ours, plain, strict=True)]
        assert same == [i < chunk.index for i in range(len(plain))]


@pytest.mark.parametrize(
    "fork",
    [
        Fork(6, seed=11),
        Fork(6, prompt=TimedPrompt(0, embedding(77), "77")),
        Fork(6, guidance=cfg(3.0)),
    ],
    ids=["seed", "prompt", "guidance"],
)
def test_each_change_alone_changes_only_later_chunks(tmp_path: Path, fork: Fork) -> None:
    source = settings(length=12, guidance=cfg(2.0))
    plain = list(rollout(tmp_path, source).chunks)
    ours = list(rollout(tmp_path, fork.apply(source)).chunks)
    same = [torch.equal(a.latents, b.latents) for a, b in zip(ours, plain, strict=True)]
    assert same == [True, True, False, False]


def test_a_fork_leaves_chunks_that_saw_a_later_picture_as_they_are(tmp_path: Path) -> None:
    """They saw the picture under the prompt at its place, which the fork replaces."""
    picture = KnownFrame(11, randn(TINY.out_channels, 4, 6), lookahead=12)
    source = settings(length=12, prompts=timeline(0, 9), known_frames=KnownFrames((picture,)))
    plain = list(rollout(tmp_path, source).chunks)
    fork = Fork(3, prompt=TimedPrompt(0, embedding(77), "77")).apply(source)
    shared = rollout(tmp_path, fork)
    assert shared.spec.stored_chunks() == 1
    ours = list(shared.chunks)
    assert_same_bits(ours, list(rollout(tmp_path / "new", fork).chunks))
    assert_same_bits(ours[:1], plain[:1])


def test_a_fork_without_changes_is_its_source(tmp_path: Path) -> None:
    source = settings(length=12)
    list(rollout(tmp_path, source).chunks)
    for fork in (Fork(6), Fork(6, seed=source.seed)):
        again = rollout(tmp_path, fork.apply(source))
        assert again.spec.stored_chunks() == again.chunk_count == 4


def test_the_changes_of_a_fork_hold_to_the_end() -> None:
    source = settings(
        length=12, prompts=timeline(0, 3, 9), seed_changes=(TimedSeed(3, 8), TimedSeed(9, 9))
    )
    forked = edit_fork(6).apply(source)
    assert [entry.start_frame for entry in forked.prompts.entries] == [0, 3, 6]
    assert forked.seed_changes == (TimedSeed(3, 8), TimedSeed(6, 11))
    assert forked.at(11).guidance == cfg(3.0)
    assert Fork(6, seed=11).apply(source).prompts is source.prompts
    assert edit_fork(0).apply(source).seed == 11 and edit_fork(0).apply(source).seed_changes == ()


def test_rewinding_makes_no_chunks_and_extending_gives_the_longer_run(tmp_path: Path) -> None:
    """Also with overlapping chunks: a rewind hides chunks but keeps the settings."""
    source = settings(schedule=pyramid(LADDER), solver=UniPC2(), length=8)
    whole = list(rollout(tmp_path, source).chunks)
    rewound = rollout(tmp_path, source, cut=3)
    assert (rewound.chunk_count, rewound.latent_frames, rewound.frames) == (3, 3, 9)
    assert_same_bits(list(rewound.chunks), whole[:3])
    assert rewound.resumed_from is None and rewound.spec.resume_at_s is None
    longer = extend(source, end=3, more=6)
    assert longer.length == 9
    ours = list(rollout(tmp_path, longer).chunks)
    assert_same_bits(ours, list(rollout(tmp_path / "new", longer).chunks))


def test_a_cut_ends_an_endless_rollout(tmp_path: Path) -> None:
    rewound = rollout(tmp_path, settings(length=None), cut=2)
    assert (rewound.chunk_count, rewound.frames) == (2, 21)
    assert len(list(rewound.chunks)) == 2
    assert rollout(tmp_path, settings(length=7), cut=9).chunk_count == 3


def test_an_extension_is_whole_chunks_and_keeps_existing_ones(tmp_path: Path) -> None:
    source = settings(length=6)
    list(rollout(tmp_path, source).chunks)
    longer = extend(source, end=6, more=4)
    assert longer.length == 12
    made = rollout(tmp_path, longer)
    assert made.spec.stored_chunks() == 2
    assert_same_bits(list(made.chunks), list(rollout(tmp_path / "new", longer).chunks))


def test_continuing_with_another_model_shares_the_first_models_chunks(tmp_path: Path) -> None:
    source = settings(length=12)
    list(rollout(tmp_path, replace(source, length=6)).chunks)
    other = Rollout(
        RolloutSpec(source, MODEL, ModelHistory("model").then(6, "other"), Journal(tmp_path))
    )
    assert other.spec.stored_chunks() == 2
    plain = rollout(tmp_path, source)
    assert other.spec.key(1) == plain.spec.key(1) and other.spec.key(2) != plain.spec.key(2)
    assert other.id != plain.id


@pytest.mark.parametrize(("frame", "chunk"), [(0, 0), (1, 0), (2, 1), (7, 2), (8, 3), (99, 4)])
def test_a_frame_belongs_to_the_nearest_chunk(tmp_path: Path, frame: int, chunk: int) -> None:
    assert rollout(tmp_path, settings(length=12)).spec.chain.chunk_at(frame) == chunk
