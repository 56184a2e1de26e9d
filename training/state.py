"""Training of a state beside the window: what each frame of a clip reads, and tasks for it.

A rollout's state holds the frames that have left the window. In a clip these are all clean frames
before the oldest one that a frame may look at. Windows are short, so that most of a clip has left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ..attention.rope import rotation
from ..model.config import PATCH
from ..model.delta import DeltaLayers, begin, clip_hooks
from ..model.dit import WanDiT
from ..model.hooks import NO_HOOKS, Hooks
from .batches import Batch, Task

SHORT_WINDOWS = (6, 9, 12)
"""Windows in latent frames, each a whole number of chunks; the demo serves 21."""


def state_tasks(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """The same tasks with short windows, which most frames of a clip have left."""
    return {name: replace(task, windows=SHORT_WINDOWS) for name, task in tasks.items()}


def absorbed_frames(mask: Tensor, clean: int, tokens: int) -> list[int]:
    """For each frame, how many of the `clean` ones have left its window, by a mask over tokens."""
    sees = mask[::tokens, ::tokens][:, :clean]
    return [int(row.long().argmax()) for row in sees]  # 0 where a frame sees no clean one


def states_of_clip(dit: WanDiT, batch: Batch) -> Hooks:
    """The hooks of a model's states for one pass over a batch; none for a model without."""
    if not has_states(dit):
        return NO_HOOKS
    frames, rows, columns = batch.x.shape[1], batch.x.shape[-2] // PATCH, batch.x.shape[-1] // PATCH
    absorbed = absorbed_frames(batch.mask, frames - batch.target.shape[1], rows * columns)
    places = rotation([0], rows, columns, dit.dim // dit.num_heads)
    return clip_hooks(dit, absorbed, places)


def begin_states(dit: WanDiT) -> None:
    """Give the layers of states the values that they have before training."""
    for module in dit.modules():
        if isinstance(module, DeltaLayers):
            begin(module)


def has_states(dit: WanDiT) -> bool:
    """Whether a model keeps a state beside its window."""
    return hasattr(dit.blocks[0].self_attn, "delta")
