"""Live edits as settings: what an edit changes from one chunk on."""

from __future__ import annotations

import logging
from dataclasses import replace

from torch import Tensor

from ....errors import LongtakeError
from ....model.config import FRAMES_PER_LATENT
from ....model.vae.latent_format import frame_count
from ....samplers.conditioning.blend import MAX_STEPS, Blend
from ....samplers.conditioning.embedding import Embedding, digest_of, fit
from ....samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from ....samplers.settings import (
    RolloutSettings,
    TimedGuidance,
    TimedLevel,
    TimedLora,
    TimedSeed,
)
from ..fork import seen_until
from ..observer import RunObserver
from ..run_state import RunState
from ..spec import Prompter, RolloutSpec, Warn
from .edit_queue import Edit, EditQueue

logger = logging.getLogger("longtake")


def apply_edit(
    index: int, state: RunState, edits: EditQueue, observer: RunObserver, warn: Warn
) -> bool:
    """Put the queued edit, if any, in force from chunk `index` on; whether that changed anything.

    If it fails, users learn why, and the shot continues. `warn` gets what of a prompt has no
    effect.
    """
    edit = edits.take(index)
    if edit is None:
        return False
    spec, first = state.spec, state.chain.span(index).first
    new = state.chain.span(index - 1).until if index else 0
    try:
        settings = edited_settings(edit, (first, new), state, observer, warn)
        settings = _with_strength(edit.strength, new, settings)
        settings = _with_level(edit.level, new, settings, spec)
    except LongtakeError as error:
        return _fail(edit, str(error), edits, observer)
    except Exception as error:  # a third party's text encoder must not end the shot
        logger.exception("An edit could not be encoded.")
        reason = f"The text encoder failed with {type(error).__name__}: {error}"
        return _fail(edit, reason, edits, observer)
    state.branch(index, settings)
    frame = frame_count(first)
    line = timeline_line(edit, first, settings, spec)
    edits.apply(edit, frame, frame / spec.fps, line)
    observer.on_edit()
    return True


def _fail(edit: Edit, reason: str, edits: EditQueue, observer: RunObserver) -> bool:
    """Record why an edit has no effect, and say each reason once: edits of OSC have no panel."""
    is_new = all(earlier.error != reason for earlier in edits.all)
    edits.fail(edit, reason)
    if is_new:
        observer.notify(reason)
    return False


def edited_settings(
    edit: Edit, at: tuple[int, int], state: RunState, observer: RunObserver, warn: Warn
) -> RolloutSettings:
    """The settings in force, with `edit`'s prompt, guidance, seed and LoRA strength.

    `at` is the latent frame from which on it holds, and the first that no chunk has begun. The
    observer learns when a prompt is encoded. A LongtakeError says why an edit is impossible.
    """
    (first, new), settings, spec = at, state.settings, state.spec
    if edit.text is not None:
        if not settings.prompts.negative.shape[-1]:
            raise LongtakeError("The model reads no prompt; drive it with keys instead.")
        embedding = _encode(edit.text, spec.prompter, observer, warn)
        fitted = _held(fit(embedding, len(settings.prompts.negative)), settings.prompts)
        blend = _blend(edit.over_s, first, settings, spec.fps)
        prompt = TimedPrompt(first, fitted, edit.text, active_from=first, blend=blend)
        prompts = settings.prompts.with_prompt(prompt, seen_until(settings, new))
        _check_steps(prompts)
        settings = replace(settings, prompts=prompts)
    if edit.guidance is not None:
        settings = settings.with_guidance(TimedGuidance(first, spec.guided(edit.guidance)))
    if edit.seed is not None:
        settings = settings.with_seed(TimedSeed(first, edit.seed))
    if edit.lora is not None:
        if spec.model.host.scale_loras is None:
            raise LongtakeError(
                "The LoRA strength cannot be changed because the model has no LoRA; load one "
                "before the sampler."
            )
        settings = settings.with_lora(TimedLora(first, edit.lora))
    return settings


def _held(embedding: Embedding, prompts: PromptTimeline) -> Embedding:
    """An embedding, as the shot holds it if it does: keys 1 to 9 bring prompts back for hours."""
    digest = digest_of(embedding)
    return next((line.embedding for line in prompts.lines if line.digest == digest), embedding)


def _blend(over_s: float | None, first: int, settings: RolloutSettings, fps: float) -> Blend | None:
    """How a prompt from latent frame `first` on blends in: by whole chunks, as a line's does."""
    chunk_frames = settings.schedule.chunk_frames
    parts = round((over_s or 0.0) * fps / FRAMES_PER_LATENT / chunk_frames)
    return Blend.at(first, parts, chunk_frames, settings.length)


def _check_steps(prompts: PromptTimeline) -> None:
    """Refuse a blend with which those of the shot would have more steps than a day has chunks."""
    if prompts.step_count > MAX_STEPS:
        raise LongtakeError(
            f"With this blend, all blends of the shot would have {prompts.step_count:,} steps, and "
            f"a shot takes {MAX_STEPS:,}; let the prompt begin at once."
        )


def _with_strength(strength: float | None, new: int, settings: RolloutSettings) -> RolloutSettings:
    """The control video followed with another strength from `new`, a frame not begun, on."""
    if strength is None:
        return settings
    if settings.control is None:
        raise LongtakeError(
            "The strength cannot be changed because the shot follows no control video; connect one "
            "to the sampler."
        )
    return replace(settings, control=settings.control.with_strength(new, strength))


def _with_level(
    level: float | None, new: int, settings: RolloutSettings, spec: RolloutSpec
) -> RolloutSettings:
    """Live frames and known videos redrawn at another level from `new`, a frame not begun, on."""
    if level is None:
        return settings
    known = settings.known_frames
    if spec.live is None and not any(k.frame >= new and k.is_redrawn for k in known.whole.frames):
        raise LongtakeError(
            "The level cannot be changed because nothing is redrawn from here on; connect a live "
            "input, or a known video with a level above 0."
        )
    earlier = (change for change in settings.level_changes if change.start_frame < new)
    return replace(
        settings, known_frames=known.with_level(new, level),
        level_changes=(*earlier, TimedLevel(new, level)),
    )  # fmt: skip


def timeline_line(
    edit: Edit, first: int, settings: RolloutSettings, spec: RolloutSpec
) -> str | None:
    """The timeline line that has the same effect as `edit`; None if no line can say it.

    A line always gives a prompt, which would end a blend in progress. Its own blend has the length
    that the edit's has, in whole chunks.
    """
    changes, prompter = (edit.text, edit.guidance, edit.lora), spec.prompter
    if prompter is None or edit.seed is not None or changes == (None, None, None):
        return None
    text, over_s = edit.text, 0.0
    if text is None:
        line = settings.prompts.complete_line(first)
        if line is None:
            return None
        text = line.text
    elif blend := _blend(edit.over_s, first, settings, spec.fps):
        over_s = blend.end(0) * FRAMES_PER_LATENT / spec.fps
    start_s = frame_count(first) / spec.fps
    return prompter.line(start_s, text, edit.guidance, edit.lora, over_s)


def _encode(text: str, prompter: Prompter | None, observer: RunObserver, warn: Warn) -> Tensor:
    if prompter is None:
        raise LongtakeError(
            "The prompt cannot be changed during the shot because its prompts came without a text "
            "encoder; give the sampler a prompt timeline instead of one encoded prompt."
        )
    warnings = list[str]()
    observer.on_encode(text)
    try:
        embedding = prompter.encode(text, warnings.append)
    finally:
        observer.on_encoded()
    if warnings:
        warn(" ".join(warnings))
    return embedding
