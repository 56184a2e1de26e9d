"""From a recognised weights file to a MODEL that the host builds and that knows its family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...model.checkpoint import Checkpoint, finite
from .. import host
from .model_facts import remember


def build_model(checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> Any:
    """A MODEL with all layers of the file, also those that the host does not know.

    Its weights are in `dtype`, or as the host chooses (None). The host may read the file again
    later.
    """

    def read() -> dict[str, Tensor]:
        state = checkpoint.state()
        finite(state, checkpoint.recognition.header.path)
        return state

    model = host.build_diffusion_model(read, checkpoint.metadata(), dtype)
    remember(model, checkpoint.recognition)
    return model
