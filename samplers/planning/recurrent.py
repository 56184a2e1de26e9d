"""What a pass of a recurrent model takes: rehearsed as a whole, since it has few layers."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...model.memory import META, Peaks, convolution_scratch, peak_bytes
from ...model.recurrent.config import RecurrentConfig
from ...model.recurrent.network import RecurrentNetwork
from ...model.shape_memo import ShapeMemo
from ..settings import RolloutSettings
from .rehearsal import CheckInterrupted, Rehearsal

ALIVE_PER_FRAME = 6  # pictures of a layer's width, for each latent frame of a pass and layer
ALIVE_AT_ONCE = 40  # beside these, within one layer


class RecurrentRehearsal(Rehearsal):
    """A rehearsal whose passes have one place: all layers of all latent frames."""

    @property
    def _tree(self) -> RecurrentNetwork:
        tree: RecurrentNetwork = self.tree
        return tree

    def _peaks(self, run: Callable[[], object]) -> Peaks:
        return {(0, "pass"): peak_bytes(run, convolution_scratch, self.shapes)}


def rehearsals(
    config: RecurrentConfig,
    dtype: torch.dtype,
    check_interrupted: CheckInterrupted,
    shapes: ShapeMemo,
) -> Callable[[RolloutSettings], Rehearsal]:
    """Makes the rehearsal of a shot on a model without weights."""
    with META:
        tree = RecurrentNetwork(config).to(dtype)
    return lambda shot: RecurrentRehearsal(shot, tree, config, dtype, check_interrupted, shapes)


def max_values(settings: RolloutSettings, config: RecurrentConfig) -> int:
    """An upper bound of the float32 values that one branch of a pass holds."""
    picture = settings.rows * settings.columns * config.dim
    frames = settings.pass_frames * (ALIVE_PER_FRAME * config.num_layers + ALIVE_AT_ONCE)
    words = settings.prompts_at_once * settings.prompts.negative.shape[0]
    return picture * (frames + ALIVE_AT_ONCE) + words * (4 * config.text_dim + 8 * config.dim)
