"""The shape of a Wan-family DiT, as one frozen value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from ..errors import BadInput
from .action_sizes import FIRST, ActionSizes, action_sizes

FRAMES_PER_LATENT = 4  # pictures of a latent frame, but for a shot's first
PATCH = 2  # rows and columns per token; one latent frame deep
FREQ_DIM = 256
EPS = 1e-6
TEXT = "text_embedding.0.weight"
"""Of a model that reads a prompt."""

Camera = Literal["none", "action", "columns", "plucker", "prope", "fun", "keys"]
"""How a model takes a camera, see `model/camera/modules.py`."""

CAMERA_TENSORS: Mapping[Camera, str] = {
    "columns": "world_columns",
    "action": "action_embedding.0.weight",
    "plucker": "patch_embedding_wancamctrl.weight",
    "fun": "control_adapter.conv.weight",
    "prope": "blocks.0.self_attn.prope_o.weight",
    "keys": f"{FIRST}.keyboard_embed.0.weight",
}
"""For each kind of camera a tensor that only such models have."""

State = Literal["none", "delta"]
"""Which state of constant size a model keeps beside its history, see `model/delta.py`."""

STATE_TENSOR = "blocks.0.self_attn.delta.out.weight"
VOICE_INPUTS = 33  # noise, picture, and whether a frame is the picture
VOICE_TENSOR = "audio_proj.proj.weight"
"""Of a model that takes a voice, see `model/voice.py`."""
FLOW_MAP_TENSOR = "delta_embedding.0.weight"
"""Of a model that is told where a step ends, see `model/anyflow/flow_map.py`."""
COARSE_PATCH = 4  # rows and columns per token of an older past
COARSE_TENSOR = "far_patch_embedding.weight"
"""Of a model that reads it so, see `model/anyflow/coarse_patches.py`."""


def camera_of(names: Iterable[str]) -> Camera:
    """The kind of camera that a model with tensors of these names takes."""
    known = {*names}
    return next((kind for kind, name in CAMERA_TENSORS.items() if name in known), "none")


def state_of(names: Iterable[str]) -> State:
    """The state that a model with tensors of these names keeps."""
    return "delta" if STATE_TENSOR in {*names} else "none"


@dataclass(frozen=True, slots=True)
class DiTConfig:
    """Sizes of the transformer.

    Everything else in the family is fixed (patch 1x2x2, qk-norm, eps 1e-6). `control_blocks` counts
    the blocks of a VACE module beside the model, which has tensors of its own. A `text_dim` of 0:
    the model reads CLIP vision features of the picture in place of a prompt. `action` are the sizes
    of layers for keys and a mouse. `voice`: the model takes a voice, which moves a face.
    `flow_map`: the model is told the level at which a step ends. `coarse_past`: the model reads
    its older past in patches of 4 x 4.
    """

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    text_dim: int
    in_channels: int = 16
    out_channels: int = 16
    camera: Camera = "none"
    control_blocks: int = 0
    action: ActionSizes | None = None
    state: State = "none"
    voice: bool = False
    flow_map: bool = False
    coarse_past: bool = False

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.dim % self.num_heads or self.head_dim % 2:
            raise BadInput(
                "dim must split into heads of even size; "
                f"got dim {self.dim} and {self.num_heads} heads."
            )

    def first_layers(self, count: int, actions: int | None = None) -> DiTConfig:
        """The sizes of the first `count` layers alone, of which at most `actions` take keys."""
        most = count if actions is None else actions
        action = self.action and replace(self.action, blocks=min(self.action.blocks, most))
        return replace(self, num_layers=count, action=action)

    @property
    def reads_prompt(self) -> bool:
        """Whether the model reads a prompt; else it reads the picture alone."""
        return self.text_dim > 0

    @property
    def patch(self) -> int:
        """Latent rows and columns for each token."""
        return PATCH

    @property
    def token_flops(self) -> int:
        """Multiplications and additions for a token in all blocks, without attention itself."""
        projections = 6 * self.dim**2 + 2 * self.dim * self.ffn_dim
        return 2 * self.num_layers * projections

    @property
    def head_dim(self) -> int:
        """Channels per attention head."""
        return self.dim // self.num_heads


def config_from_shapes(state: Mapping[str, Tensor], num_heads: int | None = None) -> DiTConfig:
    """Read the sizes off official Wan tensors.

    Heads are dim / 128 unless the file's header says otherwise.
    """
    dim = state["head.modulation"].shape[-1]
    action = action_sizes({name: tensor.shape for name, tensor in state.items()})
    layers = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    return DiTConfig(
        dim=dim,
        ffn_dim=state["blocks.0.ffn.0.weight"].shape[0],
        num_heads=num_heads or dim // 128,
        num_layers=layers,
        text_dim=0 if action else state[TEXT].shape[1],
        in_channels=state["patch_embedding.weight"].shape[1],
        out_channels=state["head.head.weight"].shape[0] // PATCH**2,
        camera=camera_of(state),
        action=action,
        state=state_of(state),
        voice=VOICE_TENSOR in state,
        flow_map=FLOW_MAP_TENSOR in state,
        coarse_past=COARSE_TENSOR in state,
    )
