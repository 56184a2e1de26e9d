"""FlashVSR in the host: its transformer is a MODEL, its other networks are loaded beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....model.dit import TextKV, project_text
from ....model.fingerprint import fingerprint
from ....model.flashvsr.decoder import GuidedDecoder
from ....model.flashvsr.file import FlashVSRFile
from ....model.flashvsr.passes import Networks
from ....model.flashvsr.projector import Projector
from ....model.flashvsr.sizes import Sizes
from ... import host
from ..identity import identity


class Beside(nn.Module):
    """The projector and the decoder, which the host moves together."""

    def __init__(self, projector: Projector, decoder: GuidedDecoder) -> None:
        super().__init__()
        self.projector, self.decoder = projector, decoder


@dataclass(frozen=True, slots=True)
class FlashVSR:
    """What a FLASHVSR socket carries: the MODEL, the patcher of the networks beside it, the prompt.

    `prompt` (1, 1, l, c) lies on the CPU.
    """

    model: Any
    beside: Any
    prompt: Tensor
    sizes: Sizes

    @property
    def models(self) -> list[Any]:
        """All that the host keeps loaded."""
        return [self.model, self.beside]

    @property
    def weights(self) -> host.Weights:
        """The sizes of all weights."""
        return host.weights(self.model) + host.weights(self.beside)

    @property
    def identity(self) -> str:
        """The networks, their version and how they compute, in the address of a frame."""
        name, _ = identity(self.model)
        beside = fingerprint(self.beside.model.state_dict() | {"prompt": self.prompt})
        return f"{name} {beside} {self.sizes}"

    @property
    def decoder_reach(self) -> int:
        """How many earlier latent frames a decoded frame can depend on."""
        return self.beside.model.decoder.decoder_reach

    @property
    def device(self) -> torch.device:
        """The device that the passes run on."""
        return host.compute_place(self.model)[0]

    def claim(self, planned_bytes: int, text: TextKV | None, memory: Any) -> Networks:
        """Load all networks and the state in `memory`, with room for `planned_bytes`.

        `text` is that of an earlier claim.
        """
        host.claim([*self.models, memory], planned_bytes)
        device, dtype = host.compute_place(self.model)
        tree, parts = host.module_tree(self.model), self.beside.model
        if text is None:
            text = project_text(tree, self.prompt.to(device, dtype))

        def cast(parameter: Tensor) -> Tensor:
            return host.cast(parameter, device)

        return Networks(tree, parts.projector, parts.decoder, text, dtype, cast)


def manage_flashvsr(model: Any, file: FlashVSRFile) -> FlashVSR:
    """Put all parts into the host's care, in the dtype of the MODEL."""
    dtype = host.compute_place(model)[1]
    widths, prompt_tokens = file.decoder.config.widths, file.prompt.shape[2]
    sizes = Sizes(file.config, file.projector.config, widths, dtype, prompt_tokens)
    module = Beside(file.projector, file.decoder).to(dtype)
    return FlashVSR(model, host.manage_beside(module, model), file.prompt, sizes)
