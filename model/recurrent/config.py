"""The sizes of a recurrent denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...errors import BadInput
from ..action_sizes import ActionSizes
from ..config import Camera, State

MAX_LAYERS = 64


@dataclass(frozen=True, slots=True)
class RecurrentConfig:
    """Sizes of a convolutional recurrent network that denoises latent frames in order.

    Each of `num_layers` layers keeps two pictures of `dim` channels, as large as a latent frame.
    """

    dim: int
    num_layers: int
    text_dim: int
    in_channels: int = 16
    out_channels: int = 16

    def __post_init__(self) -> None:
        if self.dim < 1 or not 1 <= self.num_layers <= MAX_LAYERS:
            raise BadInput(
                f"A recurrent model has at least 1 channel and 1 to {MAX_LAYERS} layers; got "
                f"{self.dim} and {self.num_layers}."
            )

    @property
    def num_heads(self) -> int:
        """One: a state is not divided into heads."""
        return 1

    @property
    def head_dim(self) -> int:
        """Channels of a state."""
        return self.dim

    @property
    def patch(self) -> int:
        """Latent rows and columns for each place of a state."""
        return 1

    @property
    def token_flops(self) -> int:
        """Multiplications and additions for a place of a latent frame in all layers."""
        kernels = 9 * (2 * self.dim * 4 * self.dim + self.dim**2)
        return 2 * self.num_layers * kernels

    @property
    def voice(self) -> bool:
        """No module takes a voice."""
        return False

    @property
    def flow_map(self) -> bool:
        """The network is told the level of each frame alone."""
        return False

    @property
    def coarse_past(self) -> bool:
        """The past is a state, in no patches."""
        return False

    @property
    def camera(self) -> Camera:
        """None: no module takes a camera."""
        return "none"

    @property
    def state(self) -> State:
        """None beside the history: the history is a state itself."""
        return "none"

    @property
    def action(self) -> ActionSizes | None:
        """None: no layers take keys and a mouse."""
        return None

    @property
    def reads_prompt(self) -> bool:
        """True: a prompt is all that it reads."""
        return True

    @property
    def control_blocks(self) -> int:
        """None: no module reads a control video."""
        return 0


def recurrent_config(state: Mapping[str, Tensor]) -> RecurrentConfig:
    """Read the sizes off the tensors of a recurrent model."""
    dim, channels = state["stem.weight"].shape[:2]
    layers = {int(name.split(".")[1]) for name in state if name.startswith("layers.")}
    return RecurrentConfig(
        dim=dim,
        num_layers=1 + max(layers),
        text_dim=state["text_embedding.0.weight"].shape[1],
        in_channels=channels,
        out_channels=state["head.weight"].shape[0],
    )
