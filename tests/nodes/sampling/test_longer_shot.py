"""What a greater length keeps of a shot, by schedule, and that the texts say just that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from longtake.samplers.loop import generate
from longtake.samplers.schedule.options import KINDS
from longtake.samplers.schedule.rows import StaggeredSchedule
from longtake.samplers.settings import RolloutSettings
from longtake.stream.journal.chain import Chain, spans
from longtake.tests.support.samplers.guided_rollouts import MODEL
from longtake.tests.support.tiny_model import settings, timeline
from longtake.tools.locales import LANGUAGES, catalogue, english

LADDER, SHORT, LONG = (1.0, 0.75, 0.5, 0.25, 0.0), 12, 18
ALL, LAST, NONE = "all", "all but the last", "none"
PAGES = Path(__file__).resolve().parents[3]


def shot(kind: str, length: int) -> RolloutSettings:
    """A shot of whole chunks."""
    schedule: StaggeredSchedule = KINDS[kind](LADDER, 3, 2)
    return settings(schedule, length, prompts=timeline(0))


def kept(kind: str) -> str:
    """Which chunks of the short shot have the same address in the long one."""
    short, long = shot(kind, SHORT), shot(kind, LONG)
    chains, count = [Chain(made, "model") for made in (short, long)], len([*spans(short)])
    same = [chains[0].key(i) == chains[1].key(i) for i in range(count)]
    return ALL if all(same) else LAST if same[0] else NONE


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_of_one_address_in_both_lengths_are_equal_and_others_have_seen_later_ones(
    kind: str,
) -> None:
    both = [shot(kind, length) for length in (SHORT, LONG)]
    chains = [Chain(made, "model") for made in both]
    for i, chunks in enumerate(zip(*(generate(made, MODEL) for made in both), strict=False)):
        same = torch.equal(*(chunk.latents for chunk in chunks))
        one_address = chains[0].key(i) == chains[1].key(i)
        assert same or not one_address
        if both[0].schedule.visibility == "bidirectional":
            assert same == one_address


@pytest.mark.parametrize("kind", KINDS)
def test_the_samplers_page_says_of_every_schedule_what_a_greater_length_keeps(kind: str) -> None:
    page = (PAGES / "web" / "docs" / "LongtakeSampler.md").read_text()
    [bullet] = [part for part in page.split("\n- ") if "A greater `length`" in part]
    name = kind.split(" (")[0]
    [sentence] = [part for part in bullet.replace("\n", " ").split(". ") if f"`{name}`" in part]
    said = {
        ALL: "A greater `length` keeps all chunks",
        LAST: "the last chunks",
        NONE: "the whole shot",
    }[kept(kind)]
    assert said in sentence


def test_the_tooltip_says_that_chunks_in_progress_at_the_old_end_are_made_again() -> None:
    tooltip = english()["LongtakeSampler"]["inputs"]["length"]["tooltip"]
    assert "except the last chunks" in tooltip and "in progress" in tooltip
    for language in LANGUAGES:
        assert tooltip in catalogue(language), language
