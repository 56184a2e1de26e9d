"""Sound Curve: what is heard in a sound, as numbers over time that drive a shot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...errors import BadInput
from ...units import count_of
from .. import categories, host
from ..drawing import save_png
from ..frames.video_frames import sound_of
from ..schema import build
from .curve import curve, lines_of
from .curve_picture import picture_of
from .features import PER_SECOND, falling, heard

FEATURES = ("loudness", "onsets", "bass", "middle", "treble")
MOST = 30.0


class SoundCurve(io.ComfyNode):
    """AUDIO to lines of numbers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSoundCurve",
            display_name="Sound Curve",
            category=categories.PROMPT,
            description="Turns a sound into numbers over time, which drive the guidance or the mix "
            "of a Prompt Timeline, or the strength of a Control Video. The same sound gives the "
            "same shot.",
            search_aliases=["audio reactive", "beat", "music", "envelope", "audio schedule"],
            inputs=_inputs(),
            outputs=[io.String.Output(display_name="lines")],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,  # its picture comes with a cached run, too
        )

    @classmethod
    def execute(
        cls, audio: Mapping[str, Any], follow: str, low: float, high: float, fall: float,
        every: float,
    ) -> io.NodeOutput:  # fmt: skip
        """Listen, then write and draw the curve."""
        sound = sound_of(audio)
        assert sound is not None
        values = falling(heard(sound, follow), fall)
        if not values.size:
            raise BadInput("The sound is empty; choose another file, or a longer part of it.")
        seconds = len(values) / PER_SECOND
        numbers = curve(values, low, high, every)
        node_id = cls.hidden.unique_id
        host.show_status(node_id, f"{seconds:.1f} s of sound, {count_of(len(numbers), 'number')}.")
        file = host.output_file("longtake_sound", "curve.png", temporary=True)
        save_png(picture_of(numbers, seconds), file.path)
        return io.NodeOutput(lines_of(numbers), ui=host.result_picture(file))


def _inputs() -> list[io.Input]:
    return [
        io.Audio.Input("audio", tooltip="A sound, from Load Audio or Video to Frames (Stream)."),
        io.Combo.Input(
            "follow",
            options=list(FEATURES),
            default=FEATURES[0],
            tooltip="`loudness`: how loud the sound is. `onsets`: where notes and beats begin. "
            "`bass`: 20 to 250 Hz. `middle`: 250 to 4000 Hz, as voices. `treble`: 4 to 20 kHz. "
            "Each counts in relation to its own loudest moments.",
        ),
        io.Float.Input(
            "low",
            default=0.0,
            min=0.0,
            max=MOST,
            step=0.05,
            tooltip="The number where nothing is heard, 0 to 30 (no unit). Above `high`, the curve "
            "is upside down.",
        ),
        io.Float.Input(
            "high",
            default=1.0,
            min=0.0,
            max=MOST,
            step=0.05,
            tooltip="The number at the loudest moments, 0 to 30 (no unit). 1 for a mix or a "
            "control strength, about 4 for guidance.",
        ),
        io.Float.Input(
            "fall",
            default=1.0,
            min=0.0,
            max=60.0,
            step=0.05,
            tooltip="Seconds in which the curve falls to a third after a peak, 0 to 60. It rises "
            "at once. 0 follows the sound as it is.",
        ),
        io.Float.Input(
            "every",
            default=0.25,
            min=0.01,
            max=60.0,
            step=0.05,
            advanced=True,
            tooltip="Seconds from one number to the next, 0.01 to 60. A shot takes the mean of "
            "each chunk (about 0.75 s), so finer numbers change little.",
        ),
    ]
