"""Rewrites a finished MP4 with its index at the front.

While it grows, an MP4 is a row of fragments, each with an index of its own. Players must search all
of them before they can seek, and some programs do not read such files at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import av

from ...temporary_files import replacing

MOVFLAGS = "faststart+use_metadata_tags"


def move_index_to_front(path: Path, metadata: Mapping[str, str]) -> None:
    """Rewrite the file with the same packets; until it is replaced as a whole, it stays playable.

    Raises av.FFmpegError or OSError and leaves the file as it was.
    """
    with replacing(path) as temporary:
        _copy_packets(path, temporary, metadata)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())


def _copy_packets(path: Path, copy: Path, metadata: Mapping[str, str]) -> None:
    with (
        av.open(path) as source,
        av.open(copy, "w", format="mp4", options={"movflags": MOVFLAGS}) as target,
    ):
        target.metadata.update(metadata)
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:  # the packet that flushes a decoder has none
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
