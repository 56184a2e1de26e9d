"""Rewrites a finished video with its index at the front.

While it grows, an MP4 is a row of fragments, each with an index of its own. Players must search all
of them before they can seek, and some programs do not read such files at all. A growing WebM has
neither an index nor a length.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import av

from ...machine.temporary_files import replacing
from .codecs import Container

MP4_OPTIONS = {"movflags": "faststart+use_metadata_tags"}
OPTIONS: Mapping[Container, dict[str, str]] = {
    "mp4": MP4_OPTIONS, "mov": MP4_OPTIONS, "webm": {"cues_to_front": "1"},
}  # fmt: skip


def move_index_to_front(path: Path, container: Container, metadata: Mapping[str, str]) -> None:
    """Rewrite the file with the same packets; until it is replaced as a whole, it stays playable.

    Raises av.FFmpegError or OSError and leaves the file as it was.
    """
    with replacing(path) as temporary:
        _copy_packets(path, temporary, container, metadata)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())


def _copy_packets(
    path: Path, copy: Path, container: Container, metadata: Mapping[str, str]
) -> None:
    with (
        av.open(path) as source,
        av.open(copy, "w", format=container, options=OPTIONS[container]) as target,
    ):
        target.metadata.update(metadata)
        streams = [target.add_stream_from_template(own, opaque=True) for own in source.streams]
        for stream, own in zip(streams, source.streams, strict=True):
            stream.codec_context.codec_tag = own.codec_context.codec_tag  # else FFmpeg's usual one
        for packet in source.demux():
            if packet.dts is not None:  # the packet that flushes a decoder has none
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
