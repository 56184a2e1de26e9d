"""Known Video: a video file inside a shot, encoded when the shot reaches it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.config import FRAMES_PER_LATENT
from .. import categories, host, sockets
from ..frames.pictures import PictureFrames, frames_input, rate_of, to_frames
from ..frames.video_frames import VideoFrames
from ..models.streaming_vae import StreamingVAE, streaming_vae
from ..schema import build
from .known_frames import KnownClip, ahead_input, level_input, start_inputs

KEPT_LATENTS = 64  # more than any schedule has active at once


class KnownVideo(io.ComfyNode):
    """FRAMES of a video file to KNOWN_FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeKnownVideo",
            display_name="Known Video (Stream)",
            category=categories.PROMPT,
            description="Puts a video of any length into the shot, to redraw it under the prompt "
            "or to continue it. It is read and encoded chunk by chunk, with constant memory.",
            search_aliases=["video to video", "v2v", "continue video", "restyle", "redraw"],
            inputs=[
                frames_input("frames", "From Video to Frames (Stream)."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                *start_inputs(),
                level_input(),
                sockets.KnownFrames.Input(
                    "known_frames", optional=True, tooltip="Other known frames to add to."
                ),
                ahead_input(),
            ],
            outputs=[sockets.KnownFrames.Output(display_name="known_frames")],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        frames: Tensor | VideoFrames | PictureFrames,
        vae: object,
        start: float,
        start_unit: str,
        level: float,
        known_frames: tuple[KnownClip, ...] = (),
        ahead: int = 0,
    ) -> io.NodeOutput:
        """Open the video; latents are encoded when the shot needs them."""
        fps, frames = rate_of(frames), to_frames(frames)
        if not isinstance(frames, VideoFrames | PictureFrames):
            raise BadInput(
                "Known Video needs the frames of a video file, but these are generated; connect "
                "Video to Frames (Stream), or encode them with VAE Encode (Stream) for Known "
                "Frames."
            )
        latents = VideoLatents(frames, streaming_vae(vae))
        clip = KnownClip(latents, start, start_unit, 1, level, ahead, fps)
        return io.NodeOutput((*known_frames, clip))


class ReadablePictures(Protocol):
    """Pictures of one size that can be read from any number on."""

    @property
    def width(self) -> int:
        """Pixels across a picture."""

    @property
    def height(self) -> int:
        """Pixels down a picture."""

    @property
    def frame_total(self) -> int:
        """The number of pictures."""

    @property
    def digest(self) -> str:
        """A name that other pictures do not have."""

    def open_reader(self, first: int) -> Any:
        """Read from picture number `first` on: `read(count)`, `close()`."""


class VideoLatents(Sequence["VideoLatent"]):
    """The latent frames of a video, in order; the most recently read ones stay in memory.

    The VAE is claimed together with the model that makes the shot: see `Claim`.
    """

    def __init__(self, frames: ReadablePictures, vae: StreamingVAE) -> None:
        factor = vae.form.spatial_factor
        if frames.width % factor or frames.height % factor:
            raise BadInput(
                f"The frames are {frames.width}x{frames.height}; scale or crop them to multiples "
                f"of {2 * factor}, as width and height of Video to Frames (Stream) do."
            )
        self._frames, self._vae = frames, vae
        self.patcher = vae.patcher
        self.shape = (vae.form.channels, frames.height // factor, frames.width // factor)
        self._length = vae.open_encoder().latent_frames(frames.frame_total)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._reading: _Encoding | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> VideoLatent:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return VideoLatent(self, index)

    @cached_property
    def encoder_name(self) -> str:
        """Identifies the VAE and its dtype."""
        return f"{self._vae.weights_name} {self._vae.dtype}"

    @cached_property
    def name(self) -> str:
        """Identifies the pictures and the VAE."""
        return f"{self._frames.digest} {self.encoder_name}"

    @property
    def required_bytes(self) -> int:
        """Bytes that encoding the next pictures allocates."""
        frames = self._frames
        return self._vae.encoder_bytes(FRAMES_PER_LATENT, frames.height, frames.width)

    def read(self, index: int) -> Tensor:
        """Return normalised latents (c, h, w) on the CPU.

        A jump backward, or forward beyond the encoder's overlap, starts a new reading that many
        latent frames earlier. Raise BadInput if the encoder makes fewer latents than announced.
        """
        if index not in self._kept:
            self._read_up_to(index)
        self._kept.move_to_end(index)
        return self._kept[index]

    def _read_up_to(self, index: int) -> None:
        reading = self._reading_before(index)
        while index not in self._kept:
            if reading.drained:  # a new reading would give no more
                raise BadInput(
                    f"The VAE made fewer than {len(self)} latent frames of the video's "
                    f"{self._frames.frame_total} frames; encode them with VAE Encode (Stream) for "
                    "Known Frames, or connect another VAE to Known Video."
                )
            for number, latent in reading.next():
                self._kept[number] = latent
                if len(self._kept) > KEPT_LATENTS:
                    self._kept.popitem(last=False)

    def _reading_before(self, index: int) -> _Encoding:
        """Return the current reading if it reaches that latent soon, else a new one."""
        if self._reading is None or not self._reading.leads_to(index):
            if self._reading is not None:
                self._reading.close()
            self._reading = _Encoding(self._frames, self._vae, index)
        return self._reading


class _Encoding:
    """Encode frames in order, so that `index` equals the result of encoding from the start.

    The encoder starts early enough that no older frame can influence `index`.
    """

    def __init__(self, frames: ReadablePictures, vae: StreamingVAE, index: int) -> None:
        self._encoder, self._device = vae.open_encoder(), vae.device
        self._looks_back = self._encoder.overlap_frames
        before = max(0, index - self._looks_back)
        self._number = before - before % 2  # some encoders make latents in pairs
        self._exact_from = index if self._number else 0
        self._reader = frames.open_reader(self._number * FRAMES_PER_LATENT)
        self.drained = False

    def leads_to(self, index: int) -> bool:
        """Whether this reading reaches that latent no later than a new one would."""
        most = self._number + self._looks_back + 1
        return not self.drained and max(self._exact_from, self._number) <= index <= most

    def next(self) -> list[tuple[int, Tensor]]:
        """Encode the next pictures; return numbers and latents (c, h, w)."""
        host.check_interrupted()
        pictures = self._reader.read(FRAMES_PER_LATENT)
        if pictures is None:
            self.drained, encoded = True, self._encoder.drain()
        else:
            with host.computing_on(self._device):
                encoded = self._encoder.feed(pictures.to(self._device))
        latents = [] if encoded is None else [*encoded.cpu()]
        first, self._number = self._number, self._number + len(latents)
        numbered = enumerate(latents, first)
        return [(number, latent) for number, latent in numbered if number >= self._exact_from]

    def close(self) -> None:
        """Close the file; reading is over."""
        self._reader.close()


class VideoLatent:
    """One latent frame of a video, read on demand."""

    __slots__ = ("_index", "_video")

    def __init__(self, video: VideoLatents, index: int) -> None:
        self._video, self._index = video, index

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows and columns."""
        return self._video.shape

    @property
    def source(self) -> VideoLatents:
        """The video whose VAE is claimed for reading."""
        return self._video

    @property
    def digest(self) -> str:
        """Hash of the file, its range, size and rate, the VAE, and the frame number."""
        return hashlib.sha256(f"{self._video.name} {self._index}".encode()).hexdigest()

    def read(self) -> Tensor:
        """Return normalised latents (c, h, w)."""
        return self._video.read(self._index)
