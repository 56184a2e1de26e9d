"""Prompt Timeline: prompts with start times, encoded for the sampler."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...samplers.conditioning.embedding import without_padding
from ...stream.rollout.live.edit_queue import MAX_GUIDANCE
from ...stream.rollout.spec import Warn
from ...timed_lines import first_time
from .. import categories, host, sockets
from ..attachments import unread_numbers
from ..models.demo_objects import DemoCLIP, problems
from ..runtime.session import session
from ..schema import build
from ..validation import refuses
from .prompt_plan import check_finite, own_prompt
from .text_rows import TEXT_LEN, WAN_TEXT_DIM
from .timed_numbers import TimedNumber, read_numbers
from .timeline import SecondPrompt, TimedEmbedding, TimedText, Timeline, format_line, parse

EXAMPLE = """0: a red ball bouncing over green hills by day, clear sky, the camera pans left
5: a blue ball bouncing over green hills at night, clear sky, the camera pans left"""


@refuses(parse)
class PromptTimeline(io.ComfyNode):
    """CLIP and text to PROMPT_TIMELINE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakePromptTimeline",
            display_name="Prompt Timeline",
            category=categories.PROMPT,
            description="Changes the prompt during the shot: one line per prompt, each with its "
            "start time in seconds.",
            search_aliases=["prompt schedule", "prompt travel", "multi prompt", "text prompt"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default=EXAMPLE,
                    tooltip="Lines `SECONDS: prompt`, `MINUTES:SECONDS: prompt` or "
                    "`HOURS:MINUTES:SECONDS: prompt`, the first at 0. "
                    "A prompt starts with the nearest chunk; of two for one chunk, the lower line "
                    "counts. A line without a time continues the prompt above. `12.5 (guidance 3): "
                    "prompt` also sets the cfg, 0 to 30, until another line does. `12.5 (over 2): "
                    "prompt` blends in over 2 seconds. `12.5 (lora 0.5): prompt` halves the "
                    "strength of all LoRAs, until another line does.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    tooltip="What the video should not show; used if cfg is not 1. Leave it empty "
                    "for the demo model.",
                ),
                *_over_time(),
            ],
            outputs=[sockets.Timeline.Output(display_name="prompts")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        text: str,
        negative: str,
        guidance: str | None = None,
        mix: str | None = None,
        mix_prompt: list[Any] | None = None,
    ) -> io.NodeOutput:
        """Encode every line of the timeline."""
        warnings = list[str]()
        encode = partial(embed, clip, warn=warnings.append)
        entries = [
            TimedEmbedding(
                line.start_s, encode(line.text), line.text, line.guidance, line.over_s, line.lora
            )
            for line in parse(text)
        ]
        timeline = Timeline(
            tuple(entries), encode(negative), CLIPPrompter(clip), _strengths(guidance, entries),
            _second(mix, mix_prompt),
        )  # fmt: skip
        warnings += [*unread_numbers(mix_prompt), *_unread_bars(entries)]
        if warnings:
            host.warn(cls.hidden.unique_id, *dict.fromkeys(warnings))
        return io.NodeOutput(timeline)


def _unread_bars(entries: Sequence[TimedEmbedding]) -> list[str]:
    """Say that a bar, which separates prompts elsewhere, is a word here; not within {a|b}."""
    [first, *others] = entries
    if others or "|" not in re.sub(r"\{[^{}]*\}", "", first.text):
        return []
    return [
        "The sign | does not separate prompts here: all of the text is one prompt. Write a line "
        "with a start time for each."
    ]


def _over_time() -> list[io.Input]:
    """Numbers that change with every chunk."""
    return [
        io.String.Input(
            "guidance",
            optional=True,
            force_input=True,
            tooltip="Guidance strength over time, 0 to 30 (no unit): lines `SECONDS: number`, for "
            "example from Sound Curve. Use this or (guidance) in `text`, not both.",
        ),
        io.String.Input(
            "mix",
            optional=True,
            force_input=True,
            tooltip="Share of `mix_prompt` over time, 0 to 1 (no unit): lines `SECONDS: number`, "
            "for example from Sound Curve. 1: that prompt alone.",
        ),
        io.Conditioning.Input(
            "mix_prompt",
            optional=True,
            tooltip="A second prompt, from CLIP Text Encode of the same text encoder, which is "
            "mixed into every line of `text`.",
        ),
    ]


def _strengths(lines: str | None, entries: Sequence[TimedEmbedding]) -> tuple[TimedNumber, ...]:
    if lines is None:
        return ()
    if any(entry.guidance is not None for entry in entries):
        raise BadInput(
            "The guidance comes from `guidance` and from (guidance) in `text`; remove one of them."
        )
    return read_numbers(lines, "guidance", MAX_GUIDANCE)


def _second(lines: str | None, prompt: list[Any] | None) -> SecondPrompt | None:
    if lines is None and prompt is None:
        return None
    if lines is None or prompt is None:
        raise BadInput(
            "`mix` and `mix_prompt` go together; connect lines of shares to one, and CLIP Text "
            "Encode to the other."
        )
    return SecondPrompt(own_prompt(prompt).embedding, read_numbers(lines, "mix", 1.0))


@dataclass(frozen=True, slots=True)
class CLIPPrompter:
    """Encode prompts for live edits, and write them as lines of the timeline."""

    clip: Any

    def encode(self, text: str, warn: Warn) -> Tensor:
        """Encode a prompt to (l, c) without unloading other models from the device."""
        time = first_time(text)
        if time is not None:
            raise BadInput(
                f"The prompt begins with the time `{time}`, but a live edit acts from the next "
                "chunk on; delete the time."
            )
        beside = host.encoder_beside_models(self.clip)
        embedding = embed(beside, text, warn)
        if beside is not self.clip:
            session.remember(self.clip, text, embedding)
        return embedding

    def line(
        self, start_s: float, text: str, guidance: float | None, lora: float | None, over_s: float
    ) -> str:
        """Write the timeline line for this prompt."""
        return format_line(TimedText(start_s, text, guidance, over_s, lora))


def truncate_tokens(tokens: Any) -> tuple[Any, int]:
    """Cut the host's tokens to Wan's text length; also return how many were dropped.

    The end-of-text token stays last, as in Wan's own tokenizer. Tokens of another format stay
    unchanged. Source: Wan-Video/Wan2.1 `wan/modules/tokenizers.py` (`truncation=True`, 512).
    """
    if not isinstance(tokens, Mapping):
        return tokens, 0
    dropped, shorter = 0, dict(tokens)
    for name, batches in tokens.items():
        if isinstance(batches, list):
            dropped = max([dropped, *(len(batch) - TEXT_LEN for batch in batches)])
            shorter[name] = [
                [*batch[: TEXT_LEN - 1], batch[-1]] if len(batch) > TEXT_LEN else batch
                for batch in batches
            ]
    return shorter, dropped


def embed(clip: Any, text: str, warn: Warn) -> Tensor:
    """Encode a prompt to (l, c) with any text encoder of the host; warn of unknown words.

    BadInput if the encoder's numbers overflow, or if it carries hooks for the model.
    """
    remembered = session.embedding(clip, text)
    if remembered is not None:
        return remembered
    if not isinstance(clip, DemoCLIP):
        tokens, dropped = truncate_tokens(clip.tokenize(text))
        if dropped:
            warn(
                f"The prompt {text[:40]!r}... is {dropped} tokens longer than the {TEXT_LEN} that "
                "the model takes; its end is left out."
            )
        conditioning = clip.encode_from_tokens_scheduled(tokens)
        _check_hooks(conditioning)
        embedding: Tensor = conditioning[0][0][0]
        check_finite(embedding)
        return without_padding(embedding) if embedding.shape[-1] == WAN_TEXT_DIM else embedding
    encoded = clip.encode_prompt(text)
    for problem in problems(encoded):
        warn(problem)
    return encoded.embedding


def _check_hooks(conditioning: Sequence[Any]) -> None:
    """Refuse (BadInput) what a text encoder with hooks gives: other weights for some steps."""
    if len(conditioning) > 1 or conditioning[0][1].get("hooks") is not None:
        raise BadInput(
            "The CLIP carries hooks, which the sampler cannot use; remove Set CLIP Hooks, and put "
            "its LoRA on model and CLIP with Load LoRA."
        )
