"""Makes the shots of the avoidance bench, and counts what they show."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ...model.preset import DEMO_FAST, FAST_FOLDER
from ...samplers.denoiser import local_denoiser
from ...samplers.guidance import Guidance, NormalizedAttention, cfg
from ...samplers.loop import generate
from ...training.evaluation.kit import GUIDED_SCALE, Kit, Recipe, decode, settings_of
from ...training.evaluation.measures import spread
from ...training.evaluation.oracle import read_attributes
from ...training.world.attributes import ATTRIBUTES, SYNONYMS, random_values
from .._guidance.estimates import Estimates
from .._shared.report import publish

SHOTS = 60  # 20 for each attribute that is left out
OFFSET = 980_000  # of the prompts' seeds, so that no two benches share prompts
LATENTS = 15
EVERY = 8  # frames between readings
LEFT_OUT = ("time", "terrain", "ball")
PHRASES = {"ball": "a {} ball bouncing", "terrain": "over {}", "time": "{}", "weather": "{}",
           "pan": "{}"}  # fmt: skip
WITHOUT = {"ball": "a ball bouncing"}  # what is said where the attribute is left out
PLAIN = "cfg 1"
AVOIDED, RIGHT, EVALUATIONS = "shows what to avoid", "right readings", "evaluations"

Row = dict[str, float]
"""The figures of one shot."""


def ways() -> dict[str, Guidance]:
    """Every way of using a negative prompt, that of not using it first."""
    nags = {f"NAG {scale:g}": NormalizedAttention(scale) for scale in (3.0, 6.0, 11.0)}
    nags["NAG 11, alpha 1"] = NormalizedAttention(11.0, alpha=1.0)
    pushed = {name: Guidance(normalized_attention=nag) for name, nag in nags.items()}
    return {PLAIN: Guidance(), **pushed, f"cfg {GUIDED_SCALE:g}": cfg(GUIDED_SCALE)}


def main(json_path: Path | None) -> None:
    """Run the whole suite, show the results, and save them to `json_path` if given."""
    publish(measure(SHOTS, os.cpu_count() or 1), json_path)


def measure(shots: int, workers: int) -> Estimates:
    """Make every shot in every way."""
    per_shot = spread(measure_shot, range(shots), FAST_FOLDER, workers)
    return Estimates.of("avoidance", per_shot)


def measure_shot(kit: Kit, seed: int) -> dict[str, Row]:
    """Make one shot in every way; the negative prompt is what the plain one shows most often."""
    rng = random.Random(OFFSET + seed)
    values, free = random_values(rng), LEFT_OUT[seed % len(LEFT_OUT)]
    prompt, guidances = prompt_without(free, values, rng), ways()
    readings, evaluations = read_shot(kit, prompt, "", seed, guidances.pop(PLAIN))
    avoided = most_often(readings[free])
    rows = {PLAIN: row_of(readings, evaluations, {**values, free: avoided}, free)}
    negative = rng.choice(SYNONYMS[free, avoided])
    for name, guidance in guidances.items():
        readings, evaluations = read_shot(kit, prompt, negative, seed, guidance)
        rows[name] = row_of(readings, evaluations, {**values, free: avoided}, free)
    return rows


def prompt_without(free: str, values: Mapping[str, str], rng: random.Random) -> str:
    """A prompt that says all `values` but that of the attribute `free`."""
    said = {name: phrase.format(rng.choice(SYNONYMS[name, values[name]]))
            for name, phrase in PHRASES.items()}  # fmt: skip
    said[free] = WITHOUT.get(free, "")
    first = " ".join(filter(None, (said.pop("ball"), said.pop("terrain"))))
    return ", ".join(filter(None, (first, *said.values())))


def read_shot(
    kit: Kit, prompt: str, negative: str, seed: int, guidance: Guidance
) -> tuple[dict[str, list[str]], int]:
    """What the pictures of a shot show, by attribute, and the evaluations that it took."""
    recipe = Recipe(
        length=LATENTS, steps=DEMO_FAST.steps, first_steps=DEMO_FAST.first_steps,
        shift=DEMO_FAST.shift, guidance=guidance,
    )  # fmt: skip
    settings = settings_of(kit, recipe, [(0, prompt)], seed)
    unwanted = kit.text.encode(negative).embedding
    settings = replace(settings, prompts=replace(settings.prompts, negative=unwanted))
    chunks = [*generate(settings, local_denoiser(kit.dit, kit.config, kit.layers))]
    video = decode(kit, chunks)
    at = torch.arange(0, len(video) - EVERY, EVERY)
    values = read_attributes(kit.oracle, video, at)
    shown = {name: [ATTRIBUTES[name][i] for i in values[name].tolist()] for name in ATTRIBUTES}
    return shown, sum(chunk.model_evals for chunk in chunks)


def most_often(readings: list[str]) -> str:
    """The value that is read most often."""
    return Counter(readings).most_common(1)[0][0]


def row_of(
    readings: Mapping[str, list[str]], evaluations: int, values: Mapping[str, str], free: str
) -> Row:
    """The figures of a shot; `values` has what to avoid as that of the attribute `free`."""
    shares = {name: shown.count(values[name]) / len(shown) for name, shown in readings.items()}
    avoided = shares.pop(free)
    right = sum(shares.values()) / len(shares)
    return {AVOIDED: avoided, RIGHT: right, EVALUATIONS: float(evaluations)}
