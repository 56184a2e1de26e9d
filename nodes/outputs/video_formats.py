"""The choices of Save Video (Stream), and the format that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from ...errors import BadInput
from ...stream.video.codecs import (
    AV1,
    FFV1,
    H264,
    H265,
    PRORES_4444,
    PRORES_HQ,
    SUFFIX,
    VP9,
    Codec,
    Encoding,
)
from ...stream.video.frame_rate import exact_rate
from ...stream.video.spec import AnimatedPicture, PNGFrames, VideoFormat, VideoSpec

USUAL = -1
AS_FRAMES = 0.0
AUTO_BITS = "auto"
PNG, GIF, WEBP = "png frames", "gif", "webp (animated)"
CODECS: Mapping[str, Codec] = {
    "mp4 (h264)": H264,
    "mp4 (h265)": H265,
    "mp4 (av1)": AV1,
    "webm (vp9)": VP9,
    "mov (prores 422 hq)": PRORES_HQ,
    "mov (prores 4444)": PRORES_4444,
    "mkv (lossless)": FFV1,
}
FORMATS = [*CODECS, GIF, WEBP, PNG]
PICTURES: Mapping[str, VideoFormat] = {
    GIF: AnimatedPicture("gif"), WEBP: AnimatedPicture("webp"), PNG: PNGFrames(),
}  # fmt: skip
ENDINGS = {GIF: ".gif", WEBP: ".webp", PNG: "frames"}


def video_format(format: str, crf: int, bits: str) -> VideoFormat:
    """The format with its crf, -1 for the usual one, and its bits of a colour value.

    A crf is ignored by formats that have none, so that another format can be tried at once.
    """
    if format in CODECS:
        codec = CODECS[format]
        depth = min(codec.pixel_formats) if bits == AUTO_BITS else int(bits)
        return Encoding(codec, None if crf == USUAL or codec.quality is None else crf, depth)
    if bits == "10":
        raise BadInput(f"{format} has 8 bits of colour; set `bits` to {AUTO_BITS}.")
    return PICTURES[format]


def unlike_the_stream(format: str, spec: VideoSpec) -> list[str]:
    """What the file will lack or have more than the stream, a sentence each."""
    differences = []
    if spec.sound is not None and format in PICTURES:
        differences.append(f"{format} has no sound; choose mp4, webm, mov or mkv.")
    if spec.file_size != (spec.width, spec.height):
        width, height = spec.file_size
        differences.append(
            f"The frames are {spec.width} x {spec.height} pixels and the file has {width} x "
            f"{height}, since {format} has even sides: the last column or row is there twice. "
            "mkv, gif, webp and png keep odd sides."
        )
    return differences


def name_ending(format: str) -> str:
    """The ending of the file's name."""
    return ENDINGS[format] if format in ENDINGS else SUFFIX[CODECS[format].container]


def frame_rate(wish: float, fps: float | Fraction) -> Fraction:
    """Frames a second of the file; a wish of 0 stands for those of the stream."""
    return exact_rate(wish or fps)
