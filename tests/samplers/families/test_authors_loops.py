"""Families by their presets, against what their authors' own code made of the same inputs."""

from __future__ import annotations

import pytest
import torch

from longtake.model.families.table import BY_KEY
from longtake.tests.support.samplers.authors import RUNS, AuthorsRun

CLOSE = {"rtol": 0, "atol": 5e-5}  # latents deviate by about 1; their levels are float32


@torch.inference_mode()
@pytest.mark.parametrize("key", RUNS)
def test_a_preset_is_the_authors_own_code(key: str) -> None:
    """Levels, re-noising, commits, window, sink and places, from the first block to the last."""
    run = AuthorsRun.read(RUNS[key])
    torch.testing.assert_close(run.rollout(BY_KEY[key].preset), run.latents, **CLOSE)


def test_two_windows_that_differ_in_places_alone_are_told_apart() -> None:
    """LongLive 1.0 and infinity run on the same inputs here."""
    plain, infinity = (AuthorsRun.read(RUNS[key]).latents for key in RUNS if "long" in key)
    assert torch.equal(plain[:12], infinity[:12])
    assert (plain[15:] - infinity[15:]).abs().max() > 100 * CLOSE["atol"]
