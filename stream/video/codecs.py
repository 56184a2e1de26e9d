"""The codecs that a video can have, as rows of data.

A growing file is encoded piece by piece. So no row uses B frames, hidden frames or look-ahead: with
them, a piece has negative times, or the same pictures do not always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ...errors import BadInput
from .sound.track import AAC, FLAC, OPUS

Container = Literal["mp4", "mov", "webm", "matroska"]
SUFFIX: Mapping[Container, str] = {
    "mp4": ".mp4", "mov": ".mov", "webm": ".webm", "matroska": ".mkv",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quality:
    """A codec's constant rate factor, `crf`: from 0, the best, to `worst`."""

    usual: int
    worst: int


@dataclass(frozen=True, slots=True)
class Codec:
    """An encoder of FFmpeg, its container and its options.

    `pixel_formats` by bits of a colour value; `sound` is the encoder of the sound, `tag` the
    codec's name in the container where FFmpeg's own is not played everywhere. `min_side` is the
    least width and height in pixels.
    """

    name: str
    encoder: str
    container: Container
    pixel_formats: Mapping[int, str]
    sound: str
    quality: Quality | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None
    min_side: int = 1


H264 = Codec(
    "H.264", "libx264", "mp4", {8: "yuv420p", 10: "yuv420p10le"}, AAC, Quality(18, 51),
    {"preset": "veryfast", "bf": "0", "sc_threshold": "0",
     "x264-params": "mbtree=0:rc-lookahead=0"},
)  # fmt: skip
H265 = Codec(
    "H.265", "libx265", "mp4", {8: "yuv420p", 10: "yuv420p10le"}, AAC, Quality(20, 51),
    {"preset": "fast",
     "x265-params": "log-level=error:bframes=0:scenecut=0:rc-lookahead=0:frame-threads=1"},
    tag="hvc1",  # Apple's players know no other
    min_side=16,
)  # fmt: skip
AV1 = Codec(
    "AV1", "libsvtav1", "mp4", {8: "yuv420p", 10: "yuv420p10le"}, AAC, Quality(28, 63),
    {"preset": "8", "svtav1-params": "pred-struct=1"},
    min_side=32,  # SVT-AV1 waits for itself for ever at 200 x 16
)  # fmt: skip
VP9 = Codec(
    "VP9", "libvpx-vp9", "webm", {8: "yuv420p"}, OPUS, Quality(24, 63),
    {"b": "0", "deadline": "good", "cpu-used": "4", "lag-in-frames": "0", "auto-alt-ref": "0"},
)  # fmt: skip
PRORES_HQ = Codec(
    "ProRes 422 HQ", "prores_ks", "mov", {10: "yuv422p10le"}, AAC, None, {"profile": "hq"}
)
PRORES_4444 = Codec(
    "ProRes 4444", "prores_ks", "mov", {10: "yuv444p10le"}, AAC, None, {"profile": "4444"}
)
FFV1 = Codec(
    "FFV1", "ffv1", "matroska", {8: "bgr0"}, FLAC, None, {"level": "3", "slicecrc": "1"}
)  # lossless; its slices have checksums


@dataclass(frozen=True, slots=True)
class Encoding:
    """A codec with its quality (None: the usual one) and bits of a colour value.

    Raises BadInput if the codec has no such quality or bits.
    """

    codec: Codec = H264
    crf: int | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        quality, possible = self.codec.quality, self.codec.pixel_formats
        if self.bits not in possible:
            raise BadInput(
                f"{self.codec.name} has {' or '.join(map(str, possible))} bits of colour; "
                f"got {self.bits}."
            )
        if self.crf is None:
            return
        if quality is None:
            raise BadInput(f"{self.codec.name} takes no crf; got {self.crf}, leave it at -1.")
        if not 0 <= self.crf <= quality.worst:
            raise BadInput(
                f"The crf of {self.codec.name} must be from 0 to {quality.worst}; got {self.crf}."
            )

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of how a pixel is stored."""
        return self.codec.pixel_formats[self.bits]

    @property
    def has_even_sides(self) -> bool:
        """Whether odd sides are rounded up: a value of colour may be of 2 x 2 pixels."""
        return self.pixel_format.startswith("yuv")

    @property
    def options(self) -> dict[str, str]:
        """The encoder's options, as FFmpeg names them."""
        quality = self.codec.quality
        if quality is None:
            return dict(self.codec.options)
        crf = quality.usual if self.crf is None else self.crf
        return {"crf": str(crf), **self.codec.options}


def is_rewritten(codec: Codec) -> bool:
    """Whether a complete file is written once more, with its index at the front.

    Matroska is not: its files are large, and its players do without an index.
    """
    return codec.container != "matroska"
