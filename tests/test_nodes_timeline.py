"""The prompt timeline as users type it, and what becomes of it in latent frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.headless.stand_in import installed
from longtake.model.config import DiTConfig

CONFIG = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=8)


@pytest.fixture(autouse=True)
def _host(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path, lambda event: None):
        yield


def parsed(text: str) -> list[tuple[float, str]]:
    from longtake.nodes.timeline import parse

    return [(entry.start_s, entry.text) for entry in parse(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a ball", [(0, "a ball")]),
        ("", [(0, "")]),
        ("0: a\n5.5: b", [(0, "a"), (5.5, "b")]),
        ("5: b\n0: a", [(0, "a"), (5, "b")]),
        ("0: a\n1:05: b", [(0, "a"), (65, "b")]),
        ("0: a\n5s: b", [(0, "a"), (5, "b")]),
        ("0: a, which\n  goes on\n4:", [(0, "a, which goes on"), (4, "")]),
        ("panning left: hills", [(0, "panning left: hills")]),
        ("0: 3 balls\n5:3 balls", [(0, "3 balls"), (5, "3 balls")]),
    ],
)
def test_lines_are_read(text: str, expected: list[tuple[float, str]]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5: a", "first prompt starts at 5 s"),
        ("0: a\n0.0: b", "Two prompts start at 0 s"),
        ("0: a\n-1: b", "Line 2 starts with '-1'"),
        ("0: a\nnan: b", "Line 2 starts with 'nan'"),
        ("0: a\ninf: b", "Line 2 starts with 'inf'"),
        ("0: a\n1e3: b", "Line 2 starts with '1e3'"),
        ("0: a\n9999999: b", "Line 2 starts with '9999999'"),
    ],
)
def test_what_is_no_time_is_named(text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        parsed(text)


def in_latent_frames(*times_s: float, width: int = 8) -> list[int]:
    """Where prompts at `times_s` start, at 16 frames a second and three latent frames a chunk."""
    from longtake.nodes import plan
    from longtake.nodes.timeline import TimedEmbedding, Timeline

    entries = tuple(TimedEmbedding(time, torch.zeros(5, width), "") for time in times_s)
    length = plan.snapped_length(10.0, plan.SECONDS, 16.0, 3)
    made = plan.prompt_timeline(Timeline(entries, torch.zeros(3, width)), CONFIG, length)
    assert all(entry.embedding.shape == made.negative.shape for entry in made.entries)
    return [entry.start_frame for entry in made.entries]


def test_prompts_start_with_the_nearest_chunk() -> None:
    assert in_latent_frames(0, 1.0, 5.0) == [
        0,
        6,
        21,
    ]  # 16 and 80 frames: latent frames 4.75, 20.75


def test_two_prompts_on_one_chunk_are_refused() -> None:
    with pytest.raises(BadInput, match="at 5.1 s fall on the same chunk; leave at least 0.75 s"):
        in_latent_frames(0, 5.0, 5.1)


def test_prompts_of_another_text_encoder_are_refused() -> None:
    with pytest.raises(BadInput, match="4096 wide and the model takes 8"):
        in_latent_frames(0, width=4096)


@pytest.mark.parametrize(
    ("conditioning", "complaint"),
    [
        ([[torch.zeros(1, 5, 8), {}], [torch.zeros(1, 5, 8), {}]], "has 2 parts"),
        ([[torch.zeros(2, 5, 8), {}]], "a batch of 2"),
        ([[torch.zeros(1, 5, 8), {"mask": torch.zeros(1)}]], "carries mask"),
    ],
)
def test_conditioning_the_sampler_would_misread_is_refused(
    conditioning: list[Any], complaint: str
) -> None:
    from longtake.nodes import plan

    length = plan.snapped_length(1.0, plan.SECONDS, 16.0, 3)
    with pytest.raises(BadInput, match=complaint):
        plan.prompt_timeline(conditioning, CONFIG, length)


@pytest.mark.parametrize(
    ("length", "unit", "latent_frames", "frames"),
    [
        (10.0, "seconds", 42, 165),
        (1.0, "frames", 3, 9),
        (33.0, "frames", 9, 33),
        (34.0, "frames", 12, 45),
    ],
)
def test_length_becomes_whole_chunks_never_shorter(
    length: float, unit: str, latent_frames: int, frames: int
) -> None:
    from longtake.nodes import plan

    snapped = plan.snapped_length(length, unit, 16.0, 3)
    assert (snapped.latent_frames, snapped.frames) == (latent_frames, frames)
    assert ("asked for" in str(snapped)) == (frames != length)


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_impossible_lengths_are_refused(length: float) -> None:
    from longtake.nodes import plan

    with pytest.raises(BadInput, match="length is"):
        plan.snapped_length(length, plan.SECONDS, 16.0, 3)


@pytest.mark.parametrize(
    ("width", "height", "complaint"),
    [(100, 64, "width is 100, not a multiple of 16; use 96 or 112"), (64, 0, "height is 0")],
)
def test_impossible_sizes_are_refused(width: int, height: int, complaint: str) -> None:
    from longtake.nodes import plan

    assert plan.latent_size(96, 64) == (8, 12)
    with pytest.raises(BadInput, match=complaint):
        plan.latent_size(width, height)


def test_a_kv_cache_that_cannot_fit_is_refused() -> None:
    from longtake.nodes import plan

    plan.check_memory(2**30, 2**31)
    with pytest.raises(BadInput, match="takes 8.0 GB and 2.0 GB are free"):
        plan.check_memory(2**33, 2**31)
