"""Programs that send and receive NDI by its own library, and are not written here."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from longtake.tests.support.numbered_frames import numbered_frames

needs_ndi = pytest.mark.skipif(find_spec("cyndilib") is None, reason="needs the package cyndilib")
PATIENCE_S = 60.0
RATE = Fraction(25)  # pictures a second that `ndi_sender` sends
LOOK_EVERY_S = 0.005
VARIABLE = "NDI_CONFIG_DIR"  # NDI's library reads this once in each process


def write_config(folder: Path) -> None:
    """Let NDI look for sources on this machine alone, where no service announces them."""
    config = {"ndi": {"networks": {"ips": "127.0.0.1", "discovery": ""}}}
    (folder / "ndi-config.v1.json").write_text(json.dumps(config), "utf-8")


def broken_package(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Put a cyndilib that cannot be loaded before the installed one, also for new processes."""
    (folder / "cyndilib").mkdir(parents=True)
    (folder / "cyndilib" / "__init__.py").write_text('raise ImportError("no libndi")', "utf-8")
    for name in [name for name in sys.modules if name.partition(".")[0] == "cyndilib"]:
        patch.delitem(sys.modules, name)
    patch.syspath_prepend(folder)


@contextmanager
def ndi_sender(size: tuple[int, int], *names: str) -> Iterator[BaseProcess]:
    """A process that sends numbered frames of one size (width, height) as NDI sources.

    Without a service that announces them, NDI shows one process of a machine only.
    """
    process = get_context("spawn").Process(target=_send_numbers, args=(size, names), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _send_numbers(size: tuple[int, int], names: Sequence[str]) -> None:
    """Send until this process is ended."""
    from cyndilib.sender import Sender
    from cyndilib.video_frame import VideoSendFrame
    from cyndilib.wrapper.ndi_structs import FourCC

    senders, pixels = list[Any](), np.full((size[1], size[0], 4), 255, np.uint8)
    with ExitStack() as stack:
        for name in names:
            frame = VideoSendFrame()
            frame.set_resolution(*size)
            frame.set_frame_rate(RATE)
            frame.set_fourcc(FourCC.RGBX)
            sender = Sender(name, clock_video=not senders, clock_audio=False)  # one waits for all
            sender.set_video_frame(frame)
            senders.append(stack.enter_context(sender))
        for number in itertools.count():
            picture = numbered_frames(number, 1, *size)[0].permute(1, 2, 0) * 255
            pixels[..., :3] = picture.round().numpy()
            for sender in senders:
                sender.write_video(pixels.reshape(-1))


class NdiReceiver:
    """Takes an NDI source: pictures by NDI's frame synchronizer, as mixers do, and sound.

    The synchronizer of cyndilib takes most of what the receiver's own queue would give.
    """

    def __init__(self, name: str) -> None:
        from cyndilib.audio_frame import AudioRecvFrame
        from cyndilib.finder import Finder
        from cyndilib.receiver import Receiver
        from cyndilib.video_frame import VideoFrameSync
        from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat

        self._finder = Finder()
        self._finder.open()
        self._receiver = Receiver(
            color_format=RecvColorFormat.RGBX_RGBA, bandwidth=RecvBandwidth.highest
        )
        self._video, self._audio = VideoFrameSync(), AudioRecvFrame()
        self._receiver.frame_sync.set_video_frame(self._video)
        self._receiver.set_audio_frame(self._audio)
        self._receiver.set_source(self._find(name))

    @property
    def rate(self) -> float:
        """Pictures a second, as the source says."""
        return float(self._video.get_frame_rate())

    def pictures(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The pictures that come (H, W, 3), each once."""
        shown_at, until = 0.0, time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            self._receiver.frame_sync.capture_video()
            if self._video.xres and self._video.get_timestamp_posix() != shown_at:
                shown_at = self._video.get_timestamp_posix()
                yield self._picture()
            time.sleep(LOOK_EVERY_S)
        raise AssertionError(f"the pictures were not enough after {PATIENCE_S} s")

    def sounds(self) -> Iterator[npt.NDArray[np.float32]]:
        """Some of the blocks of sound that come (channels, samples)."""
        from cyndilib.receiver import ReceiveFrameType

        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            kind = self._receiver.receive(ReceiveFrameType.recv_audio, 200)
            if kind == ReceiveFrameType.recv_audio:
                yield np.array(self._audio.get_all_read_data()[0], np.float32)
        raise AssertionError(f"the sound was not right for {PATIENCE_S} s")

    def close(self) -> None:
        """Let the source go."""
        self._receiver.disconnect()
        self._finder.close()

    def _find(self, name: str) -> Any:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for source in self._finder:
                if source.stream_name == name:
                    return source
            self._finder.wait(0.5)
        raise AssertionError(f"no NDI source {name}")

    def _picture(self) -> npt.NDArray[np.uint8]:
        width, height = self._video.get_resolution()
        rows = np.array(self._video.get_array(), np.uint8)
        return rows.reshape(height, -1)[:, : 4 * width].reshape(height, width, 4)[..., :3].copy()
