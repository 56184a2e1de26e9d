"""Voice: adds the audio features of a sound to the picture of a model that speaks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from comfy_api.latest import io

from ...errors import BadInput
from .. import categories, host, sockets
from ..attachments import PICTURE, VOICE
from ..frames.video_frames import sound_of
from ..schema import build
from .voice_features import voice


class VoiceNode(io.ComfyNode):
    """A picture's CONDITIONING, AUDIO and AUDIO_ENCODER to the CONDITIONING of both."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeVoice",
            display_name="Voice",
            category=categories.PROMPT,
            description="Lets the person of a start picture speak a sound, with a model such as "
            "LiveTalk. Connect the result to `picture` of the sampler, and the same sound to "
            "Save Video (Stream).",
            search_aliases=[
                "talking head",
                "lip sync",
                "avatar",
                "audio driven",
                "livetalk",
                "avatarforcing",
            ],
            inputs=_inputs(),
            outputs=[io.Conditioning.Output(display_name="picture")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, picture: list[Any], audio_encoder: Any, audio: Mapping[str, Any]
    ) -> io.NodeOutput:
        """Attach the sound, and the encoder that hears it, to every part of the conditioning."""
        if not any(options.get(PICTURE) is not None for _, options in picture):
            raise BadInput(
                "The conditioning has no picture; connect the positive conditioning of "
                "WanImageToVideo, with a start_image."
            )
        sound = sound_of(audio)
        assert sound is not None
        host.check_audio_encoder(audio_encoder)
        spoken = voice(sound, partial(host.audio_features, audio_encoder))
        host.show_status(cls.hidden.unique_id, f"{spoken.seconds:.1f} s of sound.")
        return io.NodeOutput([[text, options | {VOICE: spoken}] for text, options in picture])


def _inputs() -> list[io.Input]:
    return [
        io.Conditioning.Input(
            "picture",
            tooltip="The positive conditioning of WanImageToVideo, with the person as start_image.",
        ),
        sockets.AudioEncoder.Input(
            "audio_encoder", tooltip="From Load Audio Encoder: the file of wav2vec2-base-960h."
        ),
        io.Audio.Input("audio", tooltip="What is spoken, from Load Audio."),
    ]
