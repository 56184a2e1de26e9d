"""HDR pictures are shown as SDR: in BT.709's colours, with their highlights compressed."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, VideoReformatter

from longtake.stream.incoming.receiver import Receiver
from longtake.stream.video.display.tone import HLG, PQ, to_sdr
from longtake.stream.video.display.upright import PLAIN, StreamHeader
from longtake.stream.video.reading.reader import VideoReader
from longtake.stream.video.reading.source import FrameRequest, VideoClip
from longtake.tests.support.stream.live_servers import wait_until

BT2020, SDR = 9, 1
WHITE, PEAK = 203.0, 1000.0
SIZE = 48


def darker_colours() -> np.ndarray:
    """SDR colours (H, W, 3) below the knee of the curve, a column each: nothing compresses them."""
    columns = np.array([
        (120, 120, 120), (40, 40, 40), (150, 60, 50), (50, 150, 60), (60, 70, 150), (150, 140, 40)
    ], np.uint8)  # fmt: skip
    return np.tile(columns.repeat(SIZE // len(columns), 0), (SIZE, 1, 1))


def as_hdr(picture: np.ndarray, transfer: int) -> np.ndarray:
    """An SDR picture as a camera would code it for an HDR display; the inverse, in float64."""
    to_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083],
                       [-0.0182, -0.1006, 1.1187]])  # fmt: skip
    cd_m2 = (picture / 255.0) ** 2.4 @ np.linalg.inv(to_709).T * WHITE
    if transfer == PQ:
        root = (cd_m2.clip(0) / 10000) ** (2610 / 16384)
        code = ((3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32)
    else:
        luma = cd_m2 @ (0.2627, 0.6780, 0.0593) / PEAK
        scene = cd_m2 / PEAK * luma[..., None] ** (1 / 1.2 - 1)
        bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        code = np.where(scene <= 1 / 12, np.sqrt(3 * scene.clip(0)), bright)
    return (code * 65535).round().astype(np.uint16)


def write(path: Path, picture: np.ndarray, transfer: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "0", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv444p10le"
        context = stream.codec_context
        context.color_trc, context.colorspace, context.color_primaries = transfer, BT2020, BT2020
        context.color_range = ColorRange.MPEG
        for _ in range(16):
            frame = VideoReformatter().reformat(
                av.VideoFrame.from_ndarray(picture, format="rgb48le"), format="yuv444p10le",
                dst_colorspace=BT2020, dst_color_range=ColorRange.MPEG,
            )  # fmt: skip
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path) -> np.ndarray:
    piece = VideoReader(VideoClip.probe(str(path), FrameRequest(Fraction(16)))).read(1)
    assert piece is not None
    return (piece[0] * 255).round().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_what_is_no_highlight_looks_as_in_sdr(tmp_path: Path, transfer: int) -> None:
    picture = darker_colours()
    path = write(tmp_path / "x.mp4", as_hdr(picture, transfer), transfer)
    assert np.abs(read(path)[:, 2::8] - picture[:, 2::8]).max() <= 5  # of ten bits and its scaler


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_highlights_are_compressed_in_order(transfer: int) -> None:
    codes = np.linspace(0, 65535, 256).astype(np.uint16)
    grey = to_sdr(np.repeat(codes[None, :, None], 3, 2), transfer)[0].astype(int)
    assert (np.ptp(grey, 1) <= 1).all() and (np.diff(grey[:, 0]) >= 0).all()
    assert grey[0, 0] == 0 and grey[-1, 0] == 255
    white = as_hdr(np.full((1, 1, 3), 255), transfer)  # diffuse white: room is left above
    assert 220 <= to_sdr(white, transfer).min() <= 240


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_a_live_source_of_hdr_is_shown_like_the_file(tmp_path: Path, transfer: int) -> None:
    path = write(tmp_path / "x.mp4", as_hdr(darker_colours(), transfer), transfer)

    class FileSource:
        is_file = False

        def __init__(self) -> None:
            self.container = av.open(str(path))
            self.frames = self.container.decode(video=0)
            self.header = StreamHeader.of(self.container.streams.video[0])
            self.ended = threading.Event()

        def next(self) -> tuple[float, av.VideoFrame] | None:
            frame = next(self.frames, None)
            if frame is None:
                self.ended.wait(60)
                return None
            return frame.time or 0.0, frame

        def interrupt(self) -> None:
            self.ended.set()

        def close(self) -> None:
            self.container.close()

    receiver = Receiver(lambda _: FileSource(), (SIZE, SIZE), 16.0, 4, lambda _: None)
    wait_until(lambda: receiver.is_ready(1))
    live = (receiver.take(1)[0] * 255).round().permute(1, 2, 0)
    receiver.close()
    assert torch.equal(live, torch.from_numpy(read(path)))


def test_a_clip_that_is_shown_otherwise_has_another_digest(tmp_path: Path) -> None:
    """A shot that was kept before HDR or the shape of pixels was read does not go on mixed."""
    path = str(write(tmp_path / "x.mp4", as_hdr(darker_colours(), HLG), HLG))
    clips = [VideoClip.probe(path, FrameRequest(Fraction(16), 16, 16))]
    with pytest.MonkeyPatch.context() as patch:
        for header in (PLAIN, StreamHeader(Fraction(4, 3))):
            patch.setattr(StreamHeader, "of", lambda _, header=header: header)
            clips.append(VideoClip.probe(path, FrameRequest(Fraction(16), 16, 16)))
    assert len({clip.digest for clip in clips}) == 3
