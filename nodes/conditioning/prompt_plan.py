"""From the prompts that a user gives to those that the engine runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.config import DiTConfig
from ...samplers.conditioning.prompts import (
    PromptTimeline,
    TimedPrompt,
    chunk_start,
    fit_length,
)
from ...samplers.guidance import Guidance, OwnPrompt
from ...samplers.settings import TimedGuidance
from ...units import byte_size
from ..length import Length, latent_frame_at
from .reference import PICTURE_CONDITIONS
from .timeline import TimedEmbedding, Timeline

TEXT_LEN, WAN_TEXT_DIM = 512, 4096  # of the Wan family; padding takes part in its attention
STEPS_BEYOND = 16  # chunks after a shot's end that prompts take over in: Continue Rollout's
MAX_STEPS_BYTES = 4 * 2**30  # all embeddings that prompts take over in; a step of Wan's is 8 MB
OTHER_CONDITIONS = (  # what the host's nodes hang on a prompt, and its own sampler would act on
    "area", "mask", "strength", "start_percent", "end_percent", "hooks", "control",
    "concat_latent_image", "clip_vision_output", "reference_latents",
)  # fmt: skip


def prompt_timeline(
    prompts: Timeline | list[Any], config: DiTConfig, length: Length
) -> PromptTimeline:
    """A timeline, or the host's CONDITIONING, with prompts at the chunks nearest to their times;
    those that take over little by little are one more prompt for each chunk until they are whole,
    as far as the shot goes.
    """
    timeline = _timeline(prompts, config)
    text_len = _text_len(timeline, config)
    entries: dict[int, TimedPrompt] = {}  # by first latent frame; the last one written counts
    taking_over: list[tuple[TimedPrompt, range]] = []
    for one in timeline.entries:
        _check_width(one.embedding, config)
        start = _start(one, length)
        entries[start] = TimedPrompt(start, fit_length(one.embedding, text_len), one.text)
        if one.over_s and start:
            whole = _start(replace(one, start_s=one.start_s + one.over_s), length)
            taking_over.append((entries[start], range(start, whole, length.chunk_frames)))
    in_order = tuple(entries[start] for start in sorted(entries))
    made = PromptTimeline(in_order, fit_length(timeline.negative, text_len))
    taking_over = [one for one in taking_over if entries[one[0].start_frame] is one[0]]
    steps = [_steps(starts, entries, length) for _, starts in taking_over]
    _check_steps(sum(steps), text_len * config.text_dim * timeline.negative.element_size())
    for (prompt, starts), count in zip(taking_over, steps, strict=True):
        made = made.blended(prompt, starts, count)
    return made


def own_prompt(prompts: Timeline | list[Any]) -> OwnPrompt:
    """The prompt of a guidance term's own: the host's CONDITIONING, or a timeline of one line."""
    timeline = prompts if isinstance(prompts, Timeline) else _from_conditioning(prompts)
    if len(timeline.entries) > 1 or timeline.entries[0].guidance is not None:
        raise BadInput(
            "own_prompt holds throughout the shot, at its term's weight; give it CLIP Text Encode, "
            "or a Prompt Timeline of one line without (guidance)."
        )
    [one] = timeline.entries
    return OwnPrompt(one.embedding, one.text)


def check_own_prompts(guidance: Guidance, config: DiTConfig) -> None:
    """Refuse prompts of guidance terms that another text encoder made."""
    for one in guidance.own_prompts:
        _check_width(one.embedding, config)


def cut_prompts(
    prompts: Timeline | list[Any], config: DiTConfig, own: Sequence[OwnPrompt] = ()
) -> list[str]:
    """Prompts, guidance terms' too, that are longer than the model's text; a sentence each."""
    timeline = _timeline(prompts, config)
    most = _text_len(timeline, config)
    return [
        f"The prompt {one.text[:40]!r} has {len(one.embedding)} tokens and the model takes {most}; "
        "the rest is left out."
        for one in (*timeline.entries, *own)
        if len(one.embedding) > most
    ]


def _steps(starts: range, entries: Iterable[int], length: Length) -> int:
    """How many steps a prompt takes over in: up to the next prompt, and not far beyond the shot's
    end, where nothing shows them; one at least, so that it is there at its time.
    """
    until = min([starts.stop, *(start for start in entries if start > starts.start)])
    if length.latent_frames is not None:
        end = length.latent_frames + STEPS_BEYOND * length.chunk_frames
        until = min(until, max(end, starts.start + 1))
    return len(range(starts.start, until, starts.step))


def _check_steps(count: int, bytes_each: int) -> None:
    if count * bytes_each > MAX_STEPS_BYTES:
        raise BadInput(
            f"The prompts take over in {count} steps, one for each chunk, which would fill "
            f"{byte_size(count * bytes_each)} of memory; give (over) less time, or the shot a "
            "shorter length."
        )


def _check_width(embedding: Tensor, config: DiTConfig) -> None:
    width = embedding.shape[-1]
    if width != config.text_dim:
        raise BadInput(
            f"The prompts are {width} wide and the model takes {config.text_dim}; encode them with "
            "the text encoder that belongs to the model."
        )


def _text_len(timeline: Timeline, config: DiTConfig) -> int:
    """How many tokens a model attends to, padding included: Wan always 512."""
    if config.text_dim == WAN_TEXT_DIM:
        return TEXT_LEN
    return min(TEXT_LEN, max(len(one.embedding) for one in timeline.entries))


def guidance_changes(
    prompts: Timeline | list[Any], length: Length, guided: Callable[[float], Guidance]
) -> tuple[TimedGuidance, ...]:
    """The guidance strengths of a timeline's lines, from the chunks nearest to their times."""
    if not isinstance(prompts, Timeline):
        return ()
    changes = {
        _start(one, length): guided(one.guidance)
        for one in prompts.entries
        if one.guidance is not None
    }
    return tuple(TimedGuidance(start, changes[start]) for start in sorted(changes))


def never_shown(prompts: Timeline | list[Any], length: Length) -> list[str]:
    """Prompts of a timeline that another one replaces, or that the end comes before; a sentence
    each.
    """
    if not isinstance(prompts, Timeline):
        return []
    starts = [_start(one, length) for one in prompts.entries]
    found = []
    for number, (one, start) in enumerate(zip(prompts.entries, starts, strict=True)):
        if start in starts[number + 1 :]:
            found.append(
                f"The prompt {one.text!r} at {one.start_s:g} s is replaced by a lower line of the "
                "same chunk."
            )
        elif length.latent_frames is not None and start >= length.latent_frames:
            found.append(f"The shot ends before the prompt {one.text!r} starts.")
    return found


def _start(prompt: TimedEmbedding, length: Length) -> int:
    """First latent frame of the chunk nearest to the prompt's time."""
    if prompt.start_s == 0:
        return 0
    return chunk_start(
        latent_frame_at(prompt.start_s, length.fps), length.chunk_frames, length.origin
    )


def _timeline(prompts: Timeline | list[Any], config: DiTConfig) -> Timeline:
    if isinstance(prompts, Timeline):
        return prompts
    takes_picture = config.in_channels != config.out_channels
    return _from_conditioning(prompts, PICTURE_CONDITIONS if takes_picture else ())


def _from_conditioning(conditioning: list[Any], used: Sequence[str] = ()) -> Timeline:
    """A prompt throughout; of what hangs on it, `used` is used elsewhere."""
    if len(conditioning) != 1:
        raise BadInput(
            f"The conditioning has {len(conditioning)} parts (from Conditioning Combine or a node "
            "like it); the sampler takes one prompt at a time: use Prompt Timeline."
        )
    embedding: Tensor
    embedding, options = conditioning[0]
    unused = [n for n in OTHER_CONDITIONS if n not in used and options.get(n) is not None]
    if unused:
        raise BadInput(
            f"The conditioning carries {', '.join(unused)}, which the sampler cannot use; connect "
            "the output of CLIP Text Encode directly."
        )
    if embedding.shape[0] != 1:
        raise BadInput(
            f"The conditioning is a batch of {embedding.shape[0]}; the sampler takes one prompt at "
            "a time."
        )
    return Timeline((TimedEmbedding(0.0, embedding[0], ""),), torch.zeros_like(embedding[0]))
