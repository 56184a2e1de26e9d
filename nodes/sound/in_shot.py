"""The voice of a shot, taken from a conditioning of the node Voice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.preset import Preset
from ...samplers.conditioning.reference import Reference
from ..attachments import VOICE
from ..length import Length
from .voice_features import Voice


def with_voice(
    picture: Reference | None, config: DiTConfig, preset: Preset, *conditionings: Any
) -> Reference | None:
    """The picture with the first voice among the conditionings, at the model's frame rate.

    BadInput where a model that speaks has none, or any other model has one.
    """
    voice = voice_in(*conditionings)
    if not config.voice:
        if voice is not None:
            raise BadInput(
                "The model does not speak; connect WanImageToVideo without Voice, or a model such "
                "as LiveTalk."
            )
        return picture
    if voice is None or picture is None:
        raise BadInput(
            "This model speaks; connect WanImageToVideo to Voice, and that to `picture`."
        )
    features = voice.features(preset.fps)
    return replace(picture, voice=_behind_picture(features) if preset.picture_first else features)


def _behind_picture(features: Tensor) -> Tensor:
    """The features (p, AUDIO_FEATURES) of a sound that begins with the shot's second picture.

    The first one, which is given, is silent (AvatarForcing `utils/dataset.py`).
    """
    return torch.cat([torch.zeros_like(features[:1]), features[:-1]])


def voice_in(*conditionings: Any) -> Voice | None:
    """The first voice among the conditionings."""
    lists = [each for each in conditionings if isinstance(each, list)]
    voices = (options.get(VOICE) for each in lists for _, options in each)
    return next((voice for voice in voices if voice is not None), None)


def sound_to_hear(config: DiTConfig, preset: Preset, *conditionings: Any) -> Voice | None:
    """The voice whose features are yet to be computed; None for a model that does not speak."""
    voice = voice_in(*conditionings) if config.voice else None
    return None if voice is None or voice.is_heard(preset.fps) else voice


def end_of_voice(length: Length, *conditionings: Any) -> list[str]:
    """Say where the voice ends before the shot does."""
    voice = voice_in(*conditionings)
    if voice is None or (length.frames is not None and length.seconds <= voice.seconds + 1):
        return []
    return [f"The voice ends after {voice.seconds:.1f} s; the rest of the shot is silent."]
