"""How a history is kept, resolved once model, picture size and length are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from ...attention.cache.policy import CachePolicy
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.placement import ON_DEVICE, Placement
from ...errors import BadInput, Unsupported
from ...model.forward import ModelConfig
from ...model.preset import Preset
from ...model.vae.protocol import StreamingCodec
from ..conditioning.first_frame import ReencodedFirstFrame
from ..rules.anchor import Anchor
from ..rules.memory import MemoryRules
from ..settings import OnPromptChange, RolloutSettings
from .budget import within_budget

FirstLatent = Literal["automatic", "sink", "leave", "re-encode"]
"""What becomes of the first latent frame, which stands for one picture and not for four: it stays
for ever as a sink; it leaves the window like any other; whichever of these the model was trained
with; or it leaves, and the oldest one is encoded as a first one in its place.
"""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How a history is kept.

    `budget_bytes` may shorten its window; None is no budget. `codec` is the VAE, with its digest,
    that re-encodes a first latent frame. `memory` and `anchor` are the rules of the history.
    `gives_way`: nobody asked for this policy, so that a plain window may take its place.
    """

    policy: CachePolicy
    storage: Storage = DENSE
    placement: Placement = ON_DEVICE
    on_prompt_change: OnPromptChange = "keep"
    first_latent: FirstLatent = "automatic"
    budget_bytes: int | None = None
    codec: tuple[StreamingCodec, str] | None = None
    memory: MemoryRules = MemoryRules()
    anchor: Anchor | None = None
    gives_way: bool = False

    def resolve(self, preset: Preset) -> CacheSettings:
        """Return these settings: they are the same for every model."""
        return self

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """Nothing: a preset sets none of these settings."""
        return {}

    def apply_to(
        self,
        settings: RolloutSettings,
        config: ModelConfig,
        place: tuple[torch.device, torch.dtype],
        *,
        drops_first_frame: bool,
    ) -> RolloutSettings:
        """Apply this cache to `settings`, for a model at `place` (device and dtype).

        `drops_first_frame` says that the model was trained on windows without the first latent
        frame.
        """
        device, dtype = place
        reason = self.storage.unsupported_reason(device)
        if reason is not None:
            raise BadInput(f"The KV cache cannot be stored so: {reason}; choose int8 or int4.")
        chosen = replace(
            settings,
            cache=self.policy_for(drops_first_frame=drops_first_frame),
            storage=self.storage,
            placement=self.placement,
            on_prompt_change=self.on_prompt_change,
            reencoded_first_frame=self._reencoded_first_frame(),
            memory=self.memory,
            anchor=self.anchor,
        )
        return self.fit_to(chosen, config, dtype)

    def policy_for(self, *, drops_first_frame: bool) -> CachePolicy:
        """The policy before a budget shortens it."""
        leaves = self.first_latent in ("leave", "re-encode") or (
            self.first_latent == "automatic" and drops_first_frame
        )
        return self.policy if leaves else self.policy.with_first()

    def plain(self) -> CacheSettings:
        """The same settings with a plain window in place of a policy that has a limit."""
        return replace(self, policy=self.policy.when_rebuilt())

    def fit_to(
        self, settings: RolloutSettings, config: ModelConfig, dtype: torch.dtype
    ) -> RolloutSettings:
        """Shorten the history of `settings` to the budget, if there is one."""
        if self.budget_bytes is None:
            return settings
        return within_budget(settings, self.budget_bytes, config, dtype)

    def _reencoded_first_frame(self) -> ReencodedFirstFrame | None:
        if self.first_latent != "re-encode" or self.policy.sink_frames:
            return None
        if self.codec is None:
            raise Unsupported("Re-encoding the first latent frame needs a VAE", "re-encoding-vae")
        return ReencodedFirstFrame(*self.codec)
