"""What a viewer's muxer remembers of what it has sent."""

from __future__ import annotations

import io
from fractions import Fraction

import av
from PIL import Image

from longtake.stream.live.encoder import LiveEncoder
from longtake.stream.live.muxer import LiveMuxer


def test_an_mp4_for_days_keeps_no_list_of_its_fragments() -> None:
    """FFmpeg keeps one in memory exactly where it writes one, as `mfra`, at the end."""
    picture, sent = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, format="JPEG")
    encoder = LiveEncoder(64, 64, Fraction(16))
    muxer = LiveMuxer("mp4", encoder, sent)
    for _ in range(40):
        for packet in encoder.encode(picture.getvalue()):
            muxer.mux(packet)
    muxer.close()
    encoder.close()
    assert b"moof" in sent.getvalue() and b"mfra" not in sent.getvalue()
    with av.open(io.BytesIO(sent.getvalue())) as whole:
        assert sum(1 for _ in whole.decode(video=0)) == 40, "the last fragment is there"
