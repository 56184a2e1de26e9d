"""FlashVSR as its authors' own code made it, on small addressed weights.

The file lies in `tests/data/authors`; its README says how it was made.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.model.flashvsr.color import CORRECTIONS
from longtake.model.flashvsr.passes import Networks, PassRule, PassState, run_pass
from longtake.tests.support.model.flashvsr import addressed, guide_video, noise_of, small_networks

EXACT = 1e-4
AUTHORS = Path(__file__).resolve().parents[2] / "data" / "authors" / "flashvsr.safetensors"
RUNS = {
    "v1": (False, 2, PassRule(0.2, 3)),
    "v1_1": (True, 1, PassRule(0.2, 3)),
    "wide": (True, 1, PassRule(2.0, 11)),
}


@cache
def theirs() -> dict[str, Tensor]:
    return load_file(AUTHORS)


@torch.inference_mode()
def ours(networks: Networks, rule: PassRule) -> Tensor:
    """Frames (n, 3, H, W) in [-1, 1] of three passes over the authors' input."""
    video, state, parts, read = guide_video()[0].transpose(0, 1), PassState(), [], 0
    for _ in range(3):
        count, noise = state.frames_needed, noise_of(state.latents)
        guide = video[max(0, read - 4) : read + count - 4]
        sharp, state = run_pass(networks, rule, state, video[read : read + count], noise)
        parts.append(CORRECTIONS["adain"](sharp, guide).clamp(-1, 1))
        read += count
    assert read == len(video)
    return torch.cat(parts)


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("name", RUNS)
def test_three_passes_make_the_authors_frames(name: str) -> None:
    causal, blocks, rule = RUNS[name]
    frames = ours(small_networks(causal=causal, blocks=blocks), rule)
    expected = theirs()
    assert len(frames) == len(expected[f"{name}.means"]) == 37
    sample = frames[:, :, 5::32, 11::32]
    torch.testing.assert_close(sample, expected[f"{name}.frames"], rtol=0, atol=EXACT)
    means = frames.mean((2, 3))
    torch.testing.assert_close(means, expected[f"{name}.means"], rtol=0, atol=EXACT)


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_colors_are_corrected_as_by_the_authors(method: str) -> None:
    sharp, guide = (addressed({"x": (2, 3, 24, 40)}, part)["x"] * 3 for part in ("sharp", "guide"))
    corrected = CORRECTIONS[method](sharp, guide).clamp(-1, 1)
    torch.testing.assert_close(corrected, theirs()[f"color.{method}"], rtol=0, atol=EXACT)
