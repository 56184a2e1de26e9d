"""The model of the attention speed bench as one value, and the embedded model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...attention.storage.shape import CacheShape
from ...model.config import PATCH
from ...model.dit import TextKV, WanDiT, project_text
from ...model.preset import DEMO, DEMO_FOLDER, Preset
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...model.vae.tiny import CausalDecoder
from ...training.evaluation.kit import Kit, load_kit
from ...training.world.dataset import encode_shots
from ...training.world.scene import Shot
from .._shared.passes import FrameHooks, frame_hooks, no_camera

PADDED = 512  # tokens, the text length of the Wan family
LATENTS = 16  # rows and columns of 128x128 pixels
CLIP_FRAMES = 48
WORDS = "a red ball over hills at noon"
VALUES = {"ball": "red", "time": "day", "terrain": "hills", "weather": "clear", "pan": "left"}


@dataclass(frozen=True, slots=True)
class SpeedModel:
    """A model, entirely on one device.

    `texts` holds the short prompt and the same prompt padded to Wan's length. `clip` (f, c, h, w),
    float32 and in whole chunks, holds finished latents; histories repeat it. `name` starts the
    labels in results, and `note` describes the model. `camera` gives the hooks of a pass.
    """

    name: str
    note: str
    tree: WanDiT
    decoder: CausalDecoder
    texts: tuple[TextKV, TextKV]
    clip: Tensor
    preset: Preset
    dtype: torch.dtype = torch.float32
    camera: FrameHooks = no_camera

    @property
    def device(self) -> torch.device:
        return self.clip.device

    @property
    def cache_shape(self) -> CacheShape:
        """Sizes of the keys and values of one branch."""
        heads, (rows, columns) = self.tree.num_heads, self.clip.shape[-2:]
        return CacheShape(
            len(self.tree.blocks), 1, heads, self.tree.dim // heads, rows // PATCH,
            columns // PATCH, self.preset.chunk_frames, self.dtype,
        )  # fmt: skip


def embed() -> SpeedModel:
    """Return the demo's model at 128x128 on the CPU, a prompt, and true latents of its world."""
    kit = load_kit(DEMO_FOLDER)
    prompt = kit.text.encode(WORDS).embedding
    padded = F.pad(prompt, (0, 0, 0, PADDED - len(prompt)))
    short, long = (project_text(kit.dit, words[None, None]) for words in (prompt, padded))
    note = f"the embedded one in float32, {SPATIAL_FACTOR * LATENTS} pixels on a side, on a CPU"
    return SpeedModel(
        "", note, kit.dit, kit.vae, (short, long), true_latents(kit), DEMO,
        camera=frame_hooks(kit, [(0, WORDS)]),
    )  # fmt: skip


@torch.inference_mode()
def true_latents(kit: Kit) -> Tensor:
    """Return CLIP_FRAMES latents (f, c, h, w) of 128x128: two rendered clips, one above the
    other.
    """
    shots = [Shot(((0, VALUES),), seed) for seed in (1, 2)]
    halves = encode_shots(kit.vae, shots, CLIP_FRAMES, SPATIAL_FACTOR * LATENTS)
    return torch.cat([*halves.float()], 2)  # two of (f, c, 8, 16)
