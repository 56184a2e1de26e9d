"""A streaming VAE decoder in the host: its weights are claimed before each chunk."""

from __future__ import annotations

from torch import Tensor

from .. import host
from ..models.streaming_vae import StreamingVAE
from ..runtime.claim import Claim


class HostDecoder:
    """A streaming decoder whose VAE is claimed together with the model where they share a device.

    Elsewhere it is claimed alone: one claim would keep the same bytes free on both devices.
    """

    def __init__(self, vae: StreamingVAE, claim: Claim, latents: tuple[int, int, int]) -> None:
        self.patcher = vae.patcher
        self._decoder = vae.open_decoder()
        self._planned = vae.decoder_memory(*latents)
        self._claim = claim
        self._claims_seen = claim.count
        self._is_apart = not host.same_device(claim.memory.load_device, self.patcher.load_device)
        self._is_loaded = False
        if not self._is_apart:
            claim.co_claimed.add(self)

    def prepare(self) -> None:
        """Load the VAE for the next `feed`, unless the model's claim has just loaded both.

        Since that claim another reader of the shot may have loaded a model that needed the room.
        Call this on the host's thread; `feed` may then run on another.
        """
        from_journal = self._claims_seen == self._claim.count
        if self._is_apart or from_journal or not host.is_loaded(self.patcher):
            host.claim([self.patcher], self.required_bytes)
        self._claims_seen, self._is_loaded = self._claim.count, True

    def leave_claim(self) -> None:
        """From now on load the VAE apart: claims of the model must not touch it while it decodes.

        Only for a CPU, or a device of its own. On one card, two claims evict each other.
        """
        self._claim.co_claimed.discard(self)
        self._is_apart = True

    @property
    def overlap_frames(self) -> int:
        """Latent frames to decode first, so that a frame in mid-stream is exact."""
        return self._decoder.overlap_frames

    @property
    def required_bytes(self) -> int:
        """Bytes that the next chunk will allocate: missing state and working memory."""
        missing = max(0, self._planned.state_bytes - self._decoder.state_bytes)
        return missing + self._planned.working_bytes

    def feed(self, latents: Tensor) -> Tensor:
        """Decode the next latents."""
        if not self._is_loaded:
            self.prepare()
        self._is_loaded = False
        device = self.patcher.load_device
        with host.computing_on(device):
            return self._decoder.feed(latents.to(device))

    def drain(self) -> Tensor | None:
        """End the video and return what is left."""
        return self._decoder.drain()

    def reset(self) -> None:
        """Forget the past: the next latent is a first one."""
        self._decoder.reset()

    @property
    def state_bytes(self) -> int:
        """Bytes that the decoder keeps."""
        return self._decoder.state_bytes
