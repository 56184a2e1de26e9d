"""Live edits as settings: what an edit changes from one chunk on."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...errors import LongtakeError
from ...samplers.conditioning.prompts import TimedPrompt, fit_length
from ...samplers.settings import RolloutSettings, TimedGuidance, TimedLora
from .edit_queue import Edit
from .observer import RunObserver
from .spec import Prompter, RolloutSpec


def edited_settings(
    edit: Edit,
    first: int,
    settings: RolloutSettings,
    spec: RolloutSpec,
    observer: RunObserver,
) -> RolloutSettings:
    """`settings` with `edit` in force from latent frame `first` on.

    The observer learns when a prompt is encoded. A LongtakeError says why an edit is impossible.
    """
    if edit.text is not None:
        embedding = _encode(edit.text, spec.prompter, observer)
        fitted = fit_length(embedding, len(settings.prompts.negative))
        prompt = TimedPrompt(first, fitted, edit.text, active_from=first)
        settings = replace(settings, prompts=settings.prompts.with_prompt(prompt))
    if edit.guidance is not None:
        settings = settings.with_guidance(TimedGuidance(first, spec.guided(edit.guidance)))
    if edit.lora is not None:
        if spec.model.host.scale_loras is None:
            raise LongtakeError(
                "The LoRA strength cannot be changed because the model has no LoRA; load one "
                "before the sampler."
            )
        settings = settings.with_lora(TimedLora(first, edit.lora))
    return settings


def timeline_line(
    edit: Edit, start_s: float, settings: RolloutSettings, first: int, prompter: Prompter | None
) -> str | None:
    """The timeline line that has the same effect as `edit`; None if no line can say it."""
    if prompter is None or (edit.text, edit.guidance) == (None, None):
        return None
    return prompter.line(start_s, settings.prompts.at(first).text, edit.guidance)


def _encode(text: str, prompter: Prompter | None, observer: RunObserver) -> Tensor:
    if prompter is None:
        raise LongtakeError(
            "The prompt cannot be changed during the shot because its prompts came without a text "
            "encoder; give the sampler a prompt timeline instead of one encoded prompt."
        )
    observer.on_encode(text)
    try:
        return prompter.encode(text)
    finally:
        observer.on_encoded()
