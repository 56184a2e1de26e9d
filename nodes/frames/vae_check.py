"""Whether a VAE decodes the latents of its own model, judged by the first chunk of a shot."""

from __future__ import annotations

from ...stream.lazy.frame_chunk import FrameChunk
from .. import host
from ..models.streaming_vae import StreamingVAE, doubt


class VAECheck:
    """Warns at the node `node_id`, once, of a VAE that seems to be another model's.

    Somebody waits for the first chunk, so judge it when the second one is there, or none comes.
    """

    def __init__(self, vae: StreamingVAE, node_id: str | None) -> None:
        self._vae, self._node_id = vae, node_id
        self._opening: FrameChunk | None = None  # until the VAE is judged by it
        self._is_done = False

    def keep(self, opening: FrameChunk) -> None:
        """Keep the first chunk of a shot until it is judged, unless one was."""
        if not self._is_done:
            self._opening = opening

    def judge(self) -> None:
        """Judge the chunk that is kept, if any."""
        opening, self._opening = self._opening, None
        if opening is None or opening.latents is None:
            return
        self._is_done = True
        reason = doubt(self._vae, opening.latents.latents[0], opening.frames[0])
        if reason is not None:
            host.warn(self._node_id, reason)
