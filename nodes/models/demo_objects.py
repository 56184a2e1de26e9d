"""The demo's text encoder and VAE as the host's CLIP and VAE objects.

They are small stand-ins for `comfy.sd.CLIP` and `comfy.sd.VAE`: the host's CLIP Text Encode, VAE
Decode, VAE Encode, their tiled forms and Load LoRA accept them, and the VAE's weights are under the
host's memory management.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.config import FRAMES_PER_LATENT
from ...model.demo_phrases import DESCRIPTIONS
from ...model.text import MIN_PADDING, Encoded, TextEncoder
from ...model.vae.int8.ranges import Ranges
from ...model.vae.latent_format import LATENT_CHANNELS, SPATIAL_FACTOR, denormalise, normalise
from ...model.vae.memory_order import order_weights
from ...model.vae.precision import fastest_decoding
from ...model.vae.streaming import StreamingDecoder, StreamingEncoder
from ...model.vae.tiny import TinyVAE
from .. import host
from ..widgets import check_characters

logger = logging.getLogger("longtake")

MAX_UNKNOWN = 12
"""Unknown words that a warning names."""

MAX_CHOICES = 5
"""Words that a warning offers; there are no more colours of the ball than that."""

PROMPT_TEXT = "longtake_text"
"""Name of the prompt's text in a CONDITIONING."""

PROMPT_EMBEDDING = "longtake_embedding"
"""Name of the text's own embedding there, which tells whether a node changed the prompt since."""

Conditioning = list[list[Any]]
"""The host's CONDITIONING: [[embedding (1, l, c), options], ...]."""


class _DemoObject:
    """An object of the host's in part; `title` and `remedy` tell users of a part that it lacks."""

    title: str
    remedy: str

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"The demo's {self.title} has no `{name}`, which this node asks for; {self.remedy}."
        )


class DemoCLIP(_DemoObject):
    """The demo's text encoder, as the host's CLIP."""

    title = "text encoder"
    remedy = "connect Load Demo Model to Prompt Timeline or CLIP Text Encode directly"

    def __init__(self, encoder: TextEncoder) -> None:
        self.cond_stage_model = encoder

    def encode_prompt(self, text: str) -> Encoded:
        """Embedding (l, c) of one prompt, and the words that were not understood."""
        return self.cond_stage_model.encode(text)

    def tokenize(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, str]:
        """Wrap the prompt for `encode_from_tokens`; the demo's encoder reads plain text."""
        check_characters("The prompt", text)
        return {"longtake": text}

    def encode_from_tokens_scheduled(
        self,
        tokens: Mapping[str, str],
        unprojected: bool = False,
        add_dict: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Conditioning:
        """Encode a prompt as CONDITIONING; unknown words are ignored and named in the log.

        It carries the prompt's text too, whose words move the camera.
        """
        output = self.encode_from_tokens(tokens, return_dict=True)
        embedding = output.pop("cond")
        own = {PROMPT_TEXT: tokens["longtake"], PROMPT_EMBEDDING: embedding}
        return [[embedding, {**output, **own, **(add_dict or {})}]]

    def encode_from_tokens(
        self, tokens: Mapping[str, str], return_pooled: bool = False, return_dict: bool = False
    ) -> Any:
        """The embedding (1, l, c), in any of the host's three forms."""
        encoded = self.encode_prompt(tokens["longtake"])
        for problem in problems(encoded):
            logger.warning("%s", problem)
        embedding = encoded.embedding.unsqueeze(0)
        if return_dict:
            return {"cond": embedding, "pooled_output": None}
        return (embedding, None) if return_pooled else embedding

    def encode(self, text: str) -> Tensor:
        """The embedding (1, l, c) of a prompt."""
        return self.encode_from_tokens(self.tokenize(text))

    def clone(self, **_: Any) -> DemoCLIP:
        """Share the encoder; a CLIP has no state of its own."""
        return DemoCLIP(self.cond_stage_model)

    def add_patches(
        self, patches: Mapping[str, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[str]:
        """Refuse all patches: no LoRA fits this encoder."""
        return []


def words_of(embedding: Tensor, options: Mapping[str, Any]) -> str:
    """The text of a CONDITIONING's prompt, marked where `is_changed`; empty if it has no words.

    Conditioning Zero Out clears the embedding and keeps the text.
    """
    text = " ".join(options.get(PROMPT_TEXT, "").split()) if embedding.any() else ""
    return f"{text} (changed)" if text and is_changed(embedding, options) else text


def is_changed(embedding: Tensor, options: Mapping[str, Any]) -> bool:
    """Whether a node made another embedding of that of the text, such as Conditioning Average."""
    encoded = options.get(PROMPT_EMBEDDING)
    return encoded is not None and not torch.equal(encoded.to(embedding), embedding)


def problems(encoded: Encoded) -> list[str]:
    """Name what the text encoder ignored of a prompt, one sentence each."""
    sentences = []
    if encoded.unknown:
        count = len(encoded.unknown)
        more = f" and {count - MAX_UNKNOWN} more" if count > MAX_UNKNOWN else ""
        sentences.append(
            f"The demo model does not know {', '.join(map(repr, encoded.unknown[:MAX_UNKNOWN]))}"
            f"{more}; the prompt is used without {'it' if count == 1 else 'them'}."
        )
    sentences += [_misplaced(word, thing) for word, thing in encoded.misplaced]
    if encoded.dropped:
        sentences.append(
            f"The prompt is too long for the demo model, which ignores {encoded.dropped[0]!r} and "
            f"what follows; use at most {len(encoded.embedding) - MIN_PADDING} words that it knows."
        )
    return sentences


def _misplaced(word: str, thing: str) -> str:
    choices = DESCRIPTIONS[thing][:MAX_CHOICES]
    remedy = f"use {' or '.join(map(repr, choices))}" if choices else "leave it out"
    known_for = " or ".join(repr(noun) for noun, words in DESCRIPTIONS.items() if word in words)
    return (
        f"The demo model knows {word!r} of {known_for}, not of {thing!r}, and cannot show it "
        f"there; {remedy}."
    )


class DemoVAE(_DemoObject):
    """The demo's VAE, as the host's VAE: raw Wan 2.1 latents, pictures in [0, 1], channels last.

    `decoding` is the module that decodes: on a CPU with instructions for it in 8-bit integers if
    `ranges` are given, else in bfloat16.
    """

    title = "VAE"
    remedy = "connect Load Demo Model to VAE Decode or VAE Encode, ComfyUI's or Longtake's"
    latent_channels = LATENT_CHANNELS
    latent_dim = 3

    def __init__(
        self,
        module: TinyVAE,
        device: torch.device | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        self.first_stage_model, self._ranges = module, ranges
        self.patcher = host.manage(module, device)
        self.device = self.patcher.load_device
        self.output_device = host.runtime_device()
        self.vae_dtype = torch.float32
        exact = host.wants_float32_vae()
        self.decoding = module if exact else fastest_decoding(module, ranges, self.device)

    def copy_on(self, device: torch.device) -> DemoVAE:
        """The same VAE with weights of its own, on `device`."""
        module = TinyVAE(self.first_stage_model.config)
        module.load_state_dict(self.first_stage_model.state_dict())
        order_weights(module.decoder)
        return DemoVAE(module, device, self._ranges)

    def decode(self, samples: Tensor, vae_options: Mapping[str, Any] | None = None) -> Tensor:
        """Raw latents (b, 16, f, h, w) to pictures (b, 1 + 4 (f - 1), H, W, 3)."""
        if samples.ndim != 5 or samples.shape[1] != LATENT_CHANNELS:
            raise BadInput(
                f"The demo VAE decodes video latents (batch, {LATENT_CHANNELS}, frames, height, "
                f"width), not {tuple(samples.shape)}; connect a Wan 2.1 latent such as Empty AR "
                "Video Latent."
            )
        host.claim([self.patcher], 0)
        raw = samples.transpose(1, 2).to(self.device, self.vae_dtype)  # (b, f, 16, h, w)
        latents = normalise(raw)
        rows = [StreamingDecoder(self.decoding).feed(row) for row in latents]
        return torch.stack(rows).movedim(2, -1).to(self.output_device)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (f, H, W, 3) or (b, f, H, W, 3) to raw latents (b, 16, f', h, w).

        Sizes that are no multiple of 8 are cropped around the middle, as the host's own VAEs do.
        """
        host.claim([self.patcher], 0)
        clips = _crop((pixels if pixels.ndim == 5 else pixels.unsqueeze(0))[..., :3])
        frames = clips.movedim(-1, 2).to(self.device, self.vae_dtype)  # (b, f, 3, H, W)
        rows = [_encode(StreamingEncoder(self.first_stage_model), clip) for clip in frames]
        return denormalise(torch.stack(rows)).transpose(1, 2).to(self.output_device)

    def decode_tiled(self, samples: Tensor, **_: Any) -> Tensor:
        """Decode at once; the demo VAE is too small to need tiles."""
        return self.decode(samples)

    def encode_tiled(self, pixels: Tensor, **_: Any) -> Tensor:
        """Encode at once; the demo VAE is too small to need tiles."""
        return self.encode(pixels)

    def spacial_compression_decode(self) -> int:
        """Pixels per latent row and column (the host's spelling)."""
        return SPATIAL_FACTOR

    def spacial_compression_encode(self) -> int:
        """Pixels per latent row and column (the host's spelling)."""
        return SPATIAL_FACTOR

    def temporal_compression_decode(self) -> int:
        """Frames per latent frame after the first."""
        return FRAMES_PER_LATENT


def _encode(encoder: StreamingEncoder, frames: Tensor) -> Tensor:
    latents, rest = encoder.feed(frames), encoder.drain()
    return latents if rest is None else torch.cat([latents, rest])


def _crop(clips: Tensor) -> Tensor:
    rows, columns = (size // SPATIAL_FACTOR * SPATIAL_FACTOR for size in clips.shape[2:4])
    if not rows or not columns:
        raise BadInput(
            f"Pictures of {clips.shape[3]}x{clips.shape[2]} are too small for the demo VAE; use "
            "8x8 pixels or more."
        )
    top, left = (clips.shape[2] - rows) // 2, (clips.shape[3] - columns) // 2
    return clips[:, :, top : top + rows, left : left + columns]
