"""A LATENT as FRAMES: decoded a few latent frames at a time when an output asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ...errors import BadInput
from ...model.families.table import BY_KEY
from ...model.preset import DEMO
from ...model.vae.latent_format import FORMATS, WAN22, frame_count, normalise
from ...model.vae.protocol import StreamingCoder
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.metrics import Meter
from ...stream.rollout.frame_stream import DECODING_ADVICE
from ...stream.rollout.out_of_memory import explain_lack
from .. import host
from ..models.streaming_vae import StreamingVAE, doubt
from .stored import StoredFrames

CHUNK_FRAMES = 3  # latent frames that are decoded together, as those of most models
WAN22_FPS = BY_KEY["wan22-ti2v-5b"].preset.fps


class LatentFrames(StoredFrames):
    """The pictures of raw latents (c, f, h, w), decoded by `vae` for the node `node_id`."""

    def __init__(self, samples: Tensor, vae: StreamingVAE, node_id: str | None) -> None:
        self.samples, self.vae, self.node_id = samples, vae, node_id
        _, frames, rows, columns = samples.shape
        size = vae.form.spatial_factor * columns, vae.form.spatial_factor * rows
        fps = WAN22_FPS if vae.form is WAN22 else DEMO.fps
        super().__init__(size, fps, frame_count(frames), -(-frames // CHUNK_FRAMES))
        self._memory = vae.decoder_memory(min(frames, CHUNK_FRAMES), rows, columns)
        self._judged = False

    def chunk_of(self, frame: int) -> int | None:
        """None: all latents before are decoded too, for the same bits."""
        return None

    def _address(self, index: int) -> str | None:
        """None: decoding that begins in the middle gives other last bits on a CPU."""
        return None

    def get_models(self) -> list[Any]:
        """Return the VAE, which decodes them."""
        return [self.vae.patcher]

    def _read(self, first: int) -> Iterator[FrameChunk]:
        self.meter = Meter()
        decoder = self.vae.open_decoder()
        overlap = -(-decoder.overlap_frames // CHUNK_FRAMES)  # chunks, so that `first` is exact
        for index in range(max(0, first - overlap), self.chunk_count):
            pictures = self._decode(decoder, index)
            if index >= first:
                self.meter.chunk_done(frames=len(pictures), latent_frames=0)
                yield FrameChunk(index, frame_count(index * CHUNK_FRAMES), pictures)

    def _decode(self, decoder: StreamingCoder, index: int) -> Tensor:
        """The pictures (n, 3, H, W) of a chunk, float32 on the CPU."""
        host.check_interrupted()
        part = self.samples[:, index * CHUNK_FRAMES : (index + 1) * CHUNK_FRAMES]
        latents = normalise(part.transpose(0, 1).float())
        missing = max(0, self._memory.state_bytes - decoder.state_bytes)
        host.claim([self.vae.patcher], missing + self._memory.working_bytes)
        device = self.vae.patcher.load_device
        lack = explain_lack(f"while chunk {index} was decoded", DECODING_ADVICE)
        with host.computing_on(device), lack:
            pictures = decoder.feed(latents.to(device))
        if index == 0 and not self._judged:
            self._judged = True
            reason = doubt(self.vae, latents[0], pictures[0])
            if reason is not None:
                host.warn(self.node_id, reason)
        return pictures.float().cpu()


def open_latent(latent: Mapping[str, Any], vae: StreamingVAE, node_id: str | None) -> LatentFrames:
    """The frames of the host's LATENT; BadInput if it is no single video of this VAE."""
    samples = latent["samples"]
    shape, channels = tuple(samples.shape), vae.form.channels
    if samples.ndim != 5:
        raise BadInput(
            f"The latent is {shape}, and the VAE decodes a video latent (1, {channels}, frames, "
            "height, width); connect VAE Encode (Stream), or ComfyUI's VAE Decode for pictures."
        )
    if shape[1] != channels:
        other = FORMATS.get(shape[1])
        title = "a VAE of its own model" if other is None else f"a {other.title} VAE"
        raise BadInput(
            f"The latent has {shape[1]} channels and the VAE takes {channels} ({vae.form.title}); "
            f"connect Load VAE with {title}."
        )
    if shape[0] != 1:
        raise BadInput(
            f"The latent is a batch of {shape[0]} videos, and VAE Decode (Stream) takes one; pick "
            "one with Latent From Batch."
        )
    if not samples.numel():
        raise BadInput(f"The latent {shape} has no frames; connect a latent of a video.")
    if not samples.isfinite().all():
        raise BadInput(
            "The latent has NaN or infinity, which no VAE decodes to a picture; make it anew in "
            "float32 or bfloat16."
        )
    return LatentFrames(samples[0], vae, node_id)
