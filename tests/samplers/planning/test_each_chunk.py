"""Every chunk of a shot is counted by the steps that it takes itself, as the real loop counts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.attention.coarse.window import CoarseWindow
from longtake.samplers import guidance as g
from longtake.samplers.conditioning.known_frames import KnownFrames, from_latents, merge
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance.skipped_layers import SkippedLayers
from longtake.samplers.loop import generate
from longtake.samplers.planning.cost import peak_evaluations
from longtake.samplers.planning.evaluations import ChunkEvaluations, prompt_changes
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    StaggeredSchedule,
    causal_chunks,
    pipeline,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.samplers.settings import RolloutSettings, TimedGuidance
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings, timeline

ANYFLOW = replace(TINY, flow_map=True, coarse_past=True)
MODEL = local_denoiser(random_dit(ANYFLOW), ANYFLOW)  # for a coarse past, too
FOUR = flow_ladder(4, 1.0)
OPENING = causal_chunks(flow_ladder(2, 1.0), 2, flow_ladder(5, 1.0))
SHORT = replace(causal_chunks(FOUR, 3), first_frames=1)
SHORT_OPENING = replace(OPENING, first_frames=1)
CFG, VANILLA = g.cfg(2.0), g.vanilla(2.0)
AT_NOISE = g.GuidanceTiming((0.6, 1.0))


def known(frames: int, start: int, level: float = 0.0, lookahead: int = 0) -> KnownFrames:
    return from_latents(randn(frames, 4, 4, 6), start, level=level, lookahead=lookahead)


def timed(guidance: g.Guidance, *interval: float, **more: Any) -> g.Guidance:
    return replace(guidance, timing=g.GuidanceTiming(interval, **more))


def without_layer(low: float, high: float, weight: float) -> g.Branch:
    return g.Branch(weight, skipped=SkippedLayers((1,), (low, high)))


CASES: dict[str, dict[str, Any]] = {
    "the first chunk of a rolling window": {"schedule": rolling(FOUR, 2)},
    "the first chunk of a pyramid": {"schedule": pyramid(FOUR, 2.0), "guidance": CFG},
    "the ends of a pipeline": {
        "schedule": pipeline(FOUR, 2, 2), "guidance": replace(CFG, timing=AT_NOISE)},
    "a first chunk of more steps": {"schedule": OPENING, "guidance": VANILLA},
    "a first chunk of fewer frames": {
        "schedule": SHORT, "guidance": VANILLA, "cache": WindowSink(5, 1),
        "prompts": timeline(0, 1, 7), "on_prompt_change": "re-cache"},
    "a first chunk of fewer frames and more steps": {
        "schedule": SHORT_OPENING, "guidance": CFG, "prompts": timeline(0, 5)},
    "a first chunk of fewer frames in a rolling window": {
        "schedule": replace(rolling(FOUR, 3), first_frames=2), "guidance": VANILLA,
        "prompts": timeline(0, 2, 8), "cache": FullHistory()},
    "fewer frames, and exact parts of the past": {
        "schedule": SHORT, "guidance": g.temporal(1.0, g.View(g.AgeRange(1, 3), exact=True))},
    "fewer frames first, and known ones later": {
        "schedule": SHORT, "known_frames": known(4, 6, 0.6, lookahead=3), "guidance": VANILLA},
    "given frames in place of a short first chunk": {
        "schedule": SHORT, "known_frames": known(2, 0), "guidance": VANILLA},
    "guidance that the first chunk lacks": {
        "guidance": timed(CFG, 0.0, 1.0, first_chunk=0.0), "schedule": rolling(FOUR, 2)},
    "the middle of a mirrored shot": {"schedule": trapezoid(FOUR, 2.0), "guidance": CFG},
    "a row and a half between chunks": {
        "schedule": StaggeredSchedule(FOUR, 2, 1.5), "guidance": CFG},
    "a chunk of more rows now and then": {
        "schedule": StaggeredSchedule(flow_ladder(2, 1.0), 1, 1.25), "length": 24},
    "two chunks in a row": {
        "schedule": pyramid(FOUR, 0.5), "prompts": timeline(0, 5), "on_prompt_change": "re-cache",
        "cache": WindowSink(1)},
    "redrawn frames inside the interval of guidance": {
        "known_frames": known(5, 6, level=0.5), "guidance": timed(CFG, 0.0, 0.5)},
    "redrawn frames outside it": {
        "known_frames": known(6, 6, level=0.5), "guidance": timed(CFG, 0.6, 1.0)},
    "a chunk that is given": {"known_frames": known(7, 4), "guidance": CFG},
    "redrawn frames below which few steps are left": {"known_frames": known(9, 3, level=0.3)},
    "frames ahead, which not all views see": {
        "known_frames": known(1, 11, lookahead=12), "guidance": g.vanilla(2.0, g.DROP)},
    "frames ahead of the first chunk": {
        "known_frames": merge([known(1, 0), known(1, 8, lookahead=20)]), "guidance": VANILLA,
        "schedule": rolling(FOUR, 2)},
    "noise anew where a prompt comes into work": {
        "schedule": rolling(FOUR, 2), "guidance": VANILLA, "prompts": timeline(0, 9),
        "cache": FullHistory()},
    "noise anew where a prompt comes into sight": {
        "schedule": causal_chunks(FOUR, 2), "guidance": VANILLA, "prompts": timeline(0, 8),
        "cache": FullHistory(), "known_frames": known(7, 8, 0.6, lookahead=3)},
    "noise that few chunks read": {
        "guidance": timed(VANILLA, 0.0, 0.2), "known_frames": known(2, 9, level=0.2),
        "cache": FullHistory()},
    "guidance that begins inside a rolling window": {
        "schedule": rolling(FOUR, 2), "guidance": CFG.scale_by(0.0),
        "guidance_changes": (TimedGuidance(7, CFG),)},
    "a past that is partly coarse": {"cache": CoarseWindow(7, 1, 3), "guidance": CFG},
    "layers left out in two intervals": {
        "guidance": g.Guidance((g.Branch(1.2), without_layer(0.0, 0.6, 0.5),
                                without_layer(0.4, 1.0, -0.7)))},
}  # fmt: skip


def shot(**more: Any) -> RolloutSettings:
    chosen = {"length": 15, "cache": WindowSink(7), "prompts": timeline(0),
              "schedule": causal_chunks(FOUR, 3), **more}  # fmt: skip
    return settings(**chosen)


@pytest.mark.parametrize("name", CASES)
def test_each_chunk_takes_what_the_plan_counts(name: str) -> None:
    s = shot(**CASES[name])
    counts = ChunkEvaluations(s, TINY, torch.float32, prompt_changes(s))
    made = {chunk.first_frame: chunk.model_evals for chunk in generate(s, MODEL)}
    assert {first: sum(counts.at(first)) for first in made} == made
    assert {*counts.dear} <= {*made}
    assert peak_evaluations(s, TINY, torch.float32) == max(made.values())


@pytest.mark.parametrize("lag", [1.0, 1.5, math.inf])
def test_few_chunks_of_a_long_shot_are_counted(lag: float) -> None:
    """Wherever its prompts, guidance and known frames change."""
    s = shot(
        schedule=StaggeredSchedule(FOUR, 2, lag),
        length=20_000,
        prompts=timeline(0, 9_000),
        guidance_changes=(TimedGuidance(4_001, g.Guidance()),),
        known_frames=known(300, 12_000, level=0.5),
    )
    counts = ChunkEvaluations(s, TINY, torch.float32, prompt_changes(s))
    endless = replace(counts, settings=replace(s, length=None))
    assert len(endless.dear) <= len(counts.dear) < 150
    assert all(any(abs(first - at) < 30 for first in counts.dear)
               for at in (0, 4_001, 9_000, 12_000, 12_300, 20_000))  # fmt: skip
