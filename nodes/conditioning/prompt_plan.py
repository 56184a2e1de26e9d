"""Turn the prompts of a user into those of the engine: snapped to chunks, padded, blended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...characters import excerpt
from ...errors import BadInput
from ...model.config import DiTConfig
from ...samplers.conditioning.blend import MAX_STEPS, Blend
from ...samplers.conditioning.embedding import values_of
from ...samplers.conditioning.prompts import (
    PromptMix,
    PromptTimeline,
    TimedPrompt,
    chunk_start,
)
from ...samplers.guidance import Guidance, OwnPrompt
from ...samplers.settings import TimedGuidance, TimedLora
from ...timed_lines import first_of
from ..attachments import check_attachments
from ..length import Length, latent_frame_at
from ..models.demo_objects import PROMPT_TEXT, is_changed, words_of
from .over_time import values_by_chunk
from .reference import PICTURE_CONDITIONS
from .text_rows import TEXT_LEN, WAN_TEXT_DIM, TextRows, count_words
from .timeline import SecondPrompt, TimedEmbedding, Timeline

UMT5 = " (umt5 by Load CLIP of type `wan`; for `longtake run`, that needs --comfy DIR)"


def prompt_timeline(
    prompts: Timeline | list[Any], config: DiTConfig, length: Length, text_len: int = TEXT_LEN
) -> PromptTimeline:
    """Put the prompts of a timeline, or of the host's CONDITIONING, on their nearest chunks.

    A prompt that blends in becomes one prompt per chunk until it is complete or the shot ends.
    `text_len` is the most rows of text that the model was trained with.
    """
    timeline = _timeline(prompts, config)
    if not config.reads_prompt:
        timeline = timeline.without_words()
    rows = _text_rows(timeline, config, text_len)
    seconds = [] if timeline.second is None else [timeline.second]
    embeddings = [prompt.embedding for prompt in (*timeline.entries, *seconds)]
    for embedding in (*embeddings, timeline.negative):
        _check_embedding(embedding, config)
    lines: dict[int, TimedPrompt] = {}  # by first latent frame; the last one written counts
    for entry in timeline.entries:
        start = _start(entry, length)
        fitted = rows.fit(entry.embedding)
        lines[start] = TimedPrompt(start, fitted, entry.text, blend=_blend(entry, start, length))
    in_order = tuple(lines[start] for start in sorted(lines))
    mixes = [PromptMix(rows.fit(second.embedding), _shares(second, length)) for second in seconds]
    placed = PromptTimeline(in_order, values_of(rows.fit(timeline.negative)), *mixes)
    _check_steps(placed.step_count)
    return placed


def _blend(entry: TimedEmbedding, start: int, length: Length) -> Blend | None:
    """How a prompt blends in, not far beyond the end of the shot; None if it begins at once."""
    end = _start(replace(entry, start_s=entry.start_s + entry.over_s), length)
    parts = (end - start) // length.chunk_frames
    return Blend.at(start, parts, length.chunk_frames, length.latent_frames)


def _shares(second: SecondPrompt, length: Length) -> tuple[tuple[int, float], ...]:
    """The second prompt's share of each chunk at which the share changes."""
    return tuple(values_by_chunk(second.shares, length).items())


def own_prompt(prompts: Timeline | list[Any]) -> OwnPrompt:
    """Return the prompt of one guidance term: a CONDITIONING, or a timeline of one line."""
    timeline = prompts if isinstance(prompts, Timeline) else _from_conditioning(prompts)
    [first, *others] = timeline.entries
    if others or (first.guidance, first.lora) != (None, None):
        raise BadInput(
            "own_prompt holds throughout the shot, at its term's weight; connect CLIP Text Encode, "
            "or a Prompt Timeline of one line without (guidance) and (lora)."
        )
    return OwnPrompt(first.embedding, first.text)


def check_guidance_prompts(guidance: Guidance, config: DiTConfig) -> None:
    """Raise BadInput if another text encoder made the prompt of a guidance term.

    Also if guidance needs a prompt and the model reads none.
    """
    if guidance.own_prompts and not config.reads_prompt:
        raise BadInput("This model reads no prompt; disconnect own_prompt.")
    if guidance.normalized_attention and not config.reads_prompt:
        raise BadInput("This model reads no prompt; remove NAG Guidance.")
    for prompt in guidance.own_prompts:
        _check_embedding(prompt.embedding, config)


def truncated_prompts(
    prompts: Timeline | list[Any],
    config: DiTConfig,
    own: Sequence[OwnPrompt] = (),
    text_len: int = TEXT_LEN,
) -> list[str]:
    """Write a sentence for each prompt with more words than the model takes."""
    if not config.reads_prompt:
        return []
    timeline = _timeline(prompts, config)
    rows = _text_rows(timeline, config, text_len)
    named = [
        (f"prompt {prompt.text[:40]!r}" if prompt.text else "prompt", prompt.embedding)
        for prompt in (*timeline.entries, *own)
    ]
    if timeline.second is not None:
        named.append(("mix_prompt", timeline.second.embedding))
    return [
        f"The {name} has {count_words(embedding)} tokens and the model takes {rows.words}; the "
        "rest is left out."
        for name, embedding in named
        if rows.is_cut(embedding)
    ]


def _check_steps(count: int) -> None:
    """Refuse (BadInput) more steps than a day of video has chunks."""
    if count > MAX_STEPS:
        raise BadInput(
            f"The prompts blend in {count:,} steps, one for each chunk, and a shot takes "
            f"{MAX_STEPS:,}; reduce (over), the changes of `mix`, or the length of the shot."
        )


def _check_embedding(embedding: Tensor, config: DiTConfig) -> None:
    """Refuse (BadInput) what another text encoder made, or what is not finite."""
    width = embedding.shape[-1]
    if width != config.text_dim:
        raise BadInput(
            f"The prompts are {width} wide, but the model takes {config.text_dim}; encode them "
            f"with the text encoder of the model{UMT5 if config.text_dim == WAN_TEXT_DIM else ''}."
        )
    check_finite(embedding)


def check_finite(embedding: Tensor) -> None:
    """Refuse (BadInput) an embedding whose numbers overflowed."""
    if not embedding.isfinite().all():
        raise BadInput(
            "The text encoder gave NaN or infinity for a prompt, as float16 can; load it in "
            "bfloat16 or float32."
        )


def _text_rows(timeline: Timeline, config: DiTConfig, text_len: int) -> TextRows:
    seconds = () if timeline.second is None else (timeline.second,)
    prompts = (*timeline.entries, *seconds)
    return TextRows.of(config, text_len, (prompt.embedding for prompt in prompts))


def guidance_changes(
    prompts: Timeline | list[Any], length: Length, at_strength: Callable[[float], Guidance]
) -> tuple[TimedGuidance, ...]:
    """Put the guidance strengths of a timeline on their nearest chunks."""
    if not isinstance(prompts, Timeline):
        return ()
    if prompts.strengths:
        by_chunk = values_by_chunk(prompts.strengths, length)
        return tuple(TimedGuidance(start, at_strength(by_chunk[start])) for start in by_chunk)
    changes = {
        _start(entry, length): at_strength(entry.guidance)
        for entry in prompts.entries
        if entry.guidance is not None
    }
    return tuple(TimedGuidance(start, changes[start]) for start in sorted(changes))


def lora_changes(
    prompts: Timeline | list[Any], length: Length, *, has_lora: bool
) -> tuple[TimedLora, ...]:
    """Put the LoRA factors of a timeline on their nearest chunks."""
    entries = prompts.entries if isinstance(prompts, Timeline) else ()
    factors = {_start(e, length): e.lora for e in entries if e.lora is not None}
    if factors and not has_lora:
        raise BadInput(
            "The Prompt Timeline has (lora), and the model has no LoRA; load one before the "
            "sampler, or remove (lora)."
        )
    return tuple(TimedLora(start, factors[start]) for start in sorted(factors))


def changed_words(prompts: Timeline | list[Any]) -> list[str]:
    """Say that the camera moves by words which tell only a part of a prompt."""
    if isinstance(prompts, Timeline):
        return []
    [[embedding, options], *_] = prompts
    if not embedding.any() or not is_changed(embedding, options):
        return []
    return [
        f"A node changed the prompt {excerpt(options[PROMPT_TEXT])} after CLIP Text Encode, but "
        "the camera moves by these words alone; connect Camera Path to move it otherwise."
    ]


def has_strengths(prompts: Timeline | list[Any]) -> bool:
    """Whether guidance strengths over time come from `guidance` of a Prompt Timeline."""
    return isinstance(prompts, Timeline) and bool(prompts.strengths)


def unused_prompts(prompts: Timeline | list[Any], length: Length) -> list[str]:
    """Say which prompts another one replaces, and which start after the end."""
    if not isinstance(prompts, Timeline):
        return []
    starts = [_start(entry, length) for entry in prompts.entries]
    lowest = {start: number for number, start in enumerate(starts)}
    replaced, late = list[str](), list[str]()
    for number, (entry, start) in enumerate(zip(prompts.entries, starts, strict=True)):
        if number < lowest[start]:
            replaced.append(f"{excerpt(entry.text)} at {entry.start_s:g} s")
        elif length.latent_frames is not None and start >= length.latent_frames:
            late.append(excerpt(entry.text))
    messages = []
    if replaced:
        subject = first_of(replaced, "is", "are")
        messages.append(f"The prompt {subject} replaced by a lower line of the same chunk.")
    if late:
        messages.append(f"The shot ends before the prompt {first_of(late, 'starts', 'start')}.")
    return messages


def _start(prompt: TimedEmbedding, length: Length) -> int:
    """Return the first latent frame of the chunk nearest to the prompt's time."""
    if prompt.start_s == 0:
        return 0
    return chunk_start(
        latent_frame_at(prompt.start_s, length.fps), length.chunk_frames, length.chunk_base
    )


def _timeline(prompts: Timeline | list[Any], config: DiTConfig) -> Timeline:
    if isinstance(prompts, Timeline):
        return prompts
    takes_picture = config.in_channels != config.out_channels
    return _from_conditioning(prompts, PICTURE_CONDITIONS if takes_picture else ())


def _from_conditioning(conditioning: list[Any], handled: Sequence[str] = ()) -> Timeline:
    """Read one prompt for the whole shot; refuse attachments that nothing has `handled`."""
    if not conditioning:
        raise BadInput("The conditioning is empty; connect the output of CLIP Text Encode.")
    if len(conditioning) != 1:
        raise BadInput(
            f"The conditioning has {len(conditioning)} parts (from Conditioning Combine or a node "
            "like it); the sampler takes one prompt at a time: use Prompt Timeline."
        )
    embedding: Tensor
    embedding, options = conditioning[0]
    check_attachments(options, handled)
    if embedding.shape[0] != 1:
        raise BadInput(
            f"The conditioning is a batch of {embedding.shape[0]}; the sampler takes one prompt at "
            "a time."
        )
    words = words_of(embedding, options)
    return Timeline((TimedEmbedding(0.0, embedding[0], words),), torch.zeros_like(embedding[0]))
