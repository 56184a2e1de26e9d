"""Whether what a saved rollout holds beside its recipe is what its recipe makes."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ...samplers.settings import RolloutSettings
from ..journal.chain import ModelHistory, Span, spans
from ..metrics import Report
from .recipe_reader import Malformed, read_value

MAX_FPS = 10_000.0
CHECKED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def parse_models(text: str) -> ModelHistory:
    """The models of the shot in order of time."""
    record = read_value(json.loads(text), dict[str, Any], "models")
    identity = read_value(record.get("identity"), str, "models.identity")
    later = read_value(record.get("later"), tuple[tuple[int, str], ...], "models.later")
    starts = [start for start, _ in later]
    if starts != sorted(set(starts)) or min(starts, default=0) < 0:
        raise Malformed("models.later", starts, "in order of time")
    return ModelHistory(identity, later)


def parse_metas(text: str) -> list[dict[str, str]]:
    """The facts of each chunk."""
    metas: list[dict[str, str]] = read_value(json.loads(text), list[dict[str, str]], "chunks")
    return metas


def parse_report(text: str) -> Report:
    """The report of the run that made the shot; fields of a newer Longtake are left out."""
    record = read_value(json.loads(text), dict[str, Any], "report")
    hints = typing.get_type_hints(Report)
    for name in hints.keys() & record.keys():
        read_value(record[name], hints[name], f"report.{name}")
    return Report.from_json(text)


def parse_fps(text: str) -> float:
    """Frames per second, as text."""
    fps = float(text)
    if not (math.isfinite(fps) and 0 < fps <= MAX_FPS):
        raise Malformed("fps", fps, f"above 0 and at most {MAX_FPS:g}")
    return fps


def parse_guided(text: str, choices: Collection[str]) -> str:
    """How a strength becomes guidance."""
    if text not in choices:
        raise Malformed("guided", text, f"one of {', '.join(choices)}")
    return text


def parse_state(text: str) -> dict[str, Any] | None:
    """The facts of the loop's state, if the file has one."""
    hint = dict[str, Any] | None
    record: dict[str, Any] | None = read_value(json.loads(text), hint, "state")
    if record is not None:
        read_value(record.get("made_for"), str, "state.made_for")
        read_value(record.get("facts"), dict[str, Any], "state.facts")
    return record


def check_chunks(
    settings: RolloutSettings, count: int, shape_of: Callable[[str], tuple[int, ...] | None]
) -> None:
    """Refuse chunks that are not those of `settings`, by the shapes in the file's header."""
    planned = list(islice(spans(settings), count))
    if len(planned) < count:
        raise Malformed("chunks", count, f"the {len(planned)} chunks of the recipe")
    if not count:
        return
    first = shape_of("chunk.0.latents") or ()
    channels = first[1] if len(first) > 1 else 0
    for index, span in enumerate(planned):
        for name, shape in _expected(settings, index, span, channels).items():
            if shape_of(name) != shape:
                actual = shape_of(name)
                raise Malformed(name, actual and [*actual], f"of shape {[*shape]}")
        extra = f"chunk.{index}.in_flight.{_parts(settings, span, channels)}"
        if shape_of(extra) is not None:
            raise Malformed(extra, "an extra part", "left out")


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse latents or keys that would spread through everything that follows."""
    if tensor.dtype in CHECKED and not tensor.isfinite().all():
        raise Malformed(name, "not finite", "made of finite numbers")


def _expected(
    settings: RolloutSettings, index: int, span: Span, channels: int
) -> Mapping[str, tuple[int, ...]]:
    """The shapes of one chunk's tensors by name."""
    size = (channels, settings.rows, settings.columns)
    shapes: dict[str, tuple[int, ...]] = {f"chunk.{index}.latents": (span.count, *size)}
    for number, part in enumerate(_in_flight(settings, span, channels)):
        shapes[f"chunk.{index}.in_flight.{number}"] = tuple(part.shape)
    return shapes


def _parts(settings: RolloutSettings, span: Span, channels: int) -> int:
    return len(_in_flight(settings, span, channels))


def _in_flight(settings: RolloutSettings, span: Span, channels: int) -> tuple[Tensor, ...]:
    """The state of the later latent frames that had been started: shapes without content."""
    frames = span.until - span.first - span.count
    if not frames:
        return ()
    latents = torch.empty(frames, channels, settings.rows, settings.columns, device="meta")
    return (latents, *settings.solver.start(latents))
