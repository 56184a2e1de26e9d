"""Known Video: a video file that is part of a shot, encoded as the shot comes to it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.fingerprint import fingerprint
from ...model.vae.latent_format import FRAMES_PER_LATENT
from ...stream.video.reader import VideoReader
from ...stream.video.source import VideoClip
from .. import categories, host, sockets
from ..frames.video_frames import VideoFrames
from ..models.streaming_vae import StreamingVAE, streaming_vae
from ..schema import build
from .known_frames import KnownClip, ahead_input, level_input, start_inputs

KEPT_LATENTS = 64  # more than any schedule has active at once


class KnownVideo(io.ComfyNode):
    """FRAMES of a file to KNOWN_FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeKnownVideo",
            display_name="Known Video (Stream)",
            category=categories.PROMPT,
            description="Puts a video of any length into the shot: to be redrawn by the prompt, or "
            "to go on from. It is read and encoded chunk by chunk while the shot is made, with "
            "constant memory.",
            search_aliases=["video to video", "v2v", "restyle", "continue video", "redraw"],
            inputs=[
                sockets.Frames.Input("frames", tooltip="From Video to Frames (Stream)."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                *start_inputs(),
                level_input(),
                sockets.KnownFrames.Input(
                    "known_frames", optional=True, tooltip="Known frames to add these to."
                ),
                ahead_input(),
            ],
            outputs=[sockets.KnownFrames.Output(display_name="known_frames")],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        frames: VideoFrames,
        vae: object,
        start: float,
        start_unit: str,
        level: float,
        known_frames: tuple[KnownClip, ...] = (),
        ahead: int = 0,
    ) -> io.NodeOutput:
        """Nothing is encoded yet."""
        if not isinstance(frames, VideoFrames):
            raise BadInput(
                "Known Video takes the frames of a file, and these are generated; give those of "
                "Video to Frames (Stream), or encode them with VAE Encode (Stream) for Known "
                "Frames."
            )
        latents = VideoLatents(frames, streaming_vae(vae))
        clip = KnownClip(latents, start, start_unit, 1, level, ahead, frames.fps)
        return io.NodeOutput((*known_frames, clip))


class VideoLatents(Sequence["VideoLatent"]):
    """The latent frames of a video, in order; those read last are kept.

    Its VAE is claimed with the model that makes the shot: see `Claim`.
    """

    def __init__(self, frames: VideoFrames, vae: StreamingVAE) -> None:
        factor = vae.form.spatial_factor
        if frames.width % factor or frames.height % factor:
            raise BadInput(
                f"The frames are {frames.width}x{frames.height}; give Video to Frames multiples of "
                f"{2 * factor} for width and height."
            )
        self._frames, self._vae = frames, vae
        self.patcher = vae.patcher
        self.shape = (vae.form.channels, frames.height // factor, frames.width // factor)
        weights = fingerprint(dict(vae.tree.state_dict()))
        self.name = f"{frames.clip.digest} {weights} {vae.dtype}"
        self._length = vae.open_encoder().latent_frames(frames.clip.frame_total)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._reading: _Encoding | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> VideoLatent:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return VideoLatent(self, index)

    @property
    def room_bytes(self) -> int:
        """Bytes that encoding the next pictures allocates."""
        frames = self._frames
        return self._vae.encoder_bytes(FRAMES_PER_LATENT, frames.height, frames.width)

    def read(self, index: int) -> Tensor:
        """Normalised latents (c, h, w) on the CPU.

        Going back, or on by more than the encoder looks back, begins as far before as it does. A
        video of which the encoder makes fewer than it says is refused (BadInput).
        """
        if index not in self._kept:
            self._read_up_to(index)
        self._kept.move_to_end(index)
        return self._kept[index]

    def _read_up_to(self, index: int) -> None:
        reading = self._reading_before(index)
        while index not in self._kept:
            if reading.drained:  # to begin anew would give no more
                raise BadInput(
                    f"The VAE made fewer latent frames of the video's {self._frames.frame_total} "
                    f"frames than the {len(self)} there should be; encode them with VAE Encode "
                    "(Stream) for Known Frames, or connect another VAE to Known Video."
                )
            for number, latent in reading.next():
                self._kept[number] = latent
                if len(self._kept) > KEPT_LATENTS:
                    self._kept.popitem(last=False)

    def _reading_before(self, index: int) -> _Encoding:
        """The reading in progress if that latent comes soon, else a new one."""
        if self._reading is None or not self._reading.leads_to(index):
            if self._reading is not None:
                self._reading.close()
            self._reading = _Encoding(self._frames.clip, self._vae, index)
        return self._reading


class _Encoding:
    """The latents of a clip one after another, so that `index` is exactly as from the start on: an
    encoder that begins so far before it that nothing of an earlier past is left in it.
    """

    def __init__(self, clip: VideoClip, vae: StreamingVAE, index: int) -> None:
        self._encoder, self._device = vae.open_encoder(), vae.device
        self._looks_back = self._encoder.overlap_frames
        before = max(0, index - self._looks_back)
        self._number = before - before % 2  # some encoders make latents two by two
        self._exact_from = index if self._number else 0
        self._reader = VideoReader(clip, self._number * FRAMES_PER_LATENT)
        self.drained = False

    def leads_to(self, index: int) -> bool:
        """Whether that latent comes soon."""
        most = self._number + self._looks_back + 1  # beginning anew would read as many
        return not self.drained and max(self._exact_from, self._number) <= index <= most

    def next(self) -> list[tuple[int, Tensor]]:
        """What the next pictures give: numbers and latents (c, h, w)."""
        host.check_interrupted()
        pictures = self._reader.read(FRAMES_PER_LATENT)
        if pictures is None:
            self.drained, made = True, self._encoder.drain()
        else:
            made = self._encoder.feed(pictures.to(self._device))
        latents = [] if made is None else [*made.cpu()]
        first, self._number = self._number, self._number + len(latents)
        found = enumerate(latents, first)
        return [(number, one) for number, one in found if number >= self._exact_from]

    def close(self) -> None:
        """Close the file; reading is over."""
        self._reader.close()


class VideoLatent:
    """One of them, read when it is wanted."""

    __slots__ = ("_index", "_video")

    def __init__(self, video: VideoLatents, index: int) -> None:
        self._video, self._index = video, index

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows and columns."""
        return self._video.shape

    @property
    def source(self) -> VideoLatents:
        """What is claimed for reading it."""
        return self._video

    @property
    def digest(self) -> str:
        """Names its values by what they are made of: file, part, size, rate and VAE."""
        return hashlib.sha256(f"{self._video.name} {self._index}".encode()).hexdigest()

    def read(self) -> Tensor:
        """Its latents (c, h, w)."""
        return self._video.read(self._index)
