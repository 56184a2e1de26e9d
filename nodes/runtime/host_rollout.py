"""Streams inside the host: models claimed before each chunk, progress, news of every chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch

from ...attention.sparse.thresholds import apply_measurements
from ...model.config import DiTConfig, config_from_shapes
from ...samplers.denoiser import Denoiser
from ...samplers.history.plan import planned_bytes
from ...samplers.planning.memory import RolloutMemory, max_bytes, rollout_memory
from ...samplers.settings import RolloutSettings
from ...stream.journal.chain import ModelHistory
from ...stream.journal.journal import Journal
from ...stream.preview.messages import Plan
from ...stream.rollout.rollout import Rollout
from ...stream.rollout.spec import RolloutSpec
from .. import host
from ..advice import less_memory
from ..models.channels import check_channels
from ..models.model_facts import facts
from .claim import Claim
from .host_codec import with_room
from .run_observer import HostRunObserver
from .session import session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HostDenoiser(Denoiser):
    """One of the host's models, as the engine evaluates it."""

    host: Claim


class HostRollout(Rollout):
    """A rollout of one of the host's models, created by the node `node_id`.

    `session_only` says why its chunks are useless after a restart, if they are. `from_model` is a
    sentence about the settings that come from the model.
    """

    plan: Plan

    def __init__(
        self,
        spec: RolloutSpec,
        claim: Claim,
        *,
        node_id: str | None = None,
        session_only: str | None = None,
        from_model: str = "",
    ) -> None:
        super().__init__(spec, host.running_prompt, self._observe)
        self.claim = claim
        self.node_id, self.session_only, self.from_model = node_id, session_only, from_model

    def _observe(self) -> HostRunObserver:
        self.claim.load_s = None
        return HostRunObserver(self.spec, self.node_id)

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [self.claim.model]

    @property
    def kv_on_host(self) -> bool:
        """Whether the KV cache waits in main memory, because of a long pause or of other models."""
        return self.claim.memory.on_host

    @property
    def kv_bytes_planned(self) -> int:
        """Bytes of the KV cache while chunks are made, at most."""
        return max(self._each(planned_bytes))

    @property
    def max_bytes(self) -> int:
        """More than KV cache and passes can take, known without rehearsing one."""
        return max(self._each(max_bytes))

    @property
    def weights(self) -> host.Weights:
        """The model's."""
        return host.weights(self.claim.model)

    def memory_beside(self, other_bytes: int, free_bytes: int) -> RolloutMemory:
        """What is planned for; passes are rehearsed only where the memory might be short."""
        spare = free_bytes - self.max_bytes - other_bytes
        return RolloutMemory(self.kv_bytes_planned, self.working_bytes if spare < 0 else 0)

    @property
    def largest_latents(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a whole chunk."""
        return self.span(0).count, self.settings.rows, self.settings.columns

    @cached_property
    def working_bytes(self) -> int:
        """What a pass takes beside the model's weights and the KV cache, rehearsed."""
        on_device = partial(rollout_memory, device=self.model.device)
        return max(memory.working_bytes for memory in self._each(on_device))

    def _each(self, plan: Callable[[RolloutSettings, DiTConfig, torch.dtype], T]) -> list[T]:
        """A plan of each of the settings that are ever in force, on the model's device."""
        config, dtype = self.model.config, self.model.dtype
        sparsity = apply_measurements(self.settings.sparsity, self.model.device)
        s = replace(self.settings, sparsity=sparsity)
        in_force = [s, *(s.at(change.start_frame) for change in s.guidance_changes)]
        return [plan(one, config, dtype) for one in in_force]


def denoiser(model: Any) -> HostDenoiser:
    """The engine's view of a MODEL; one that is no Wan text-to-video model is refused."""
    tree = host.module_tree(model)
    config = config_from_shapes(dict(tree.named_parameters()), tree.num_heads)
    check_channels(config)
    device, dtype = host.compute_place(model)
    return HostDenoiser(Claim(model, device), config, device, dtype)


def host_spec(
    engine: HostDenoiser, settings: RolloutSettings, identity: str | ModelHistory
) -> RolloutSpec:
    """A spec over the host's journal and session; the caller replaces what it wants otherwise."""
    return RolloutSpec(
        settings, engine, identity, Journal(host.rollout_folder()),
        fps=facts(engine.host.model).preset.fps, hot=session.states,
        memory_advice=less_memory(settings.cache),
    )  # fmt: skip


def open_rollout(
    spec: RolloutSpec,
    claim: Claim,
    *,
    node_id: str | None,
    session_only: str | None = None,
    from_model: str = "",
) -> HostRollout:
    """The rollout of `spec`, whose model, VAEs and KV caches `claim` manages together."""
    settings = with_room(spec.settings, claim, spec.model.config.out_channels)
    rollout = HostRollout(
        replace(spec, settings=settings), claim,
        node_id=node_id, session_only=session_only, from_model=from_model,
    )  # fmt: skip
    rollout.claim.beside.update(settings.known_frames.sources)
    if spec.model.device.type != "cpu":  # main memory is not the host's to make room in
        rollout.claim.working_bytes = lambda: rollout.working_bytes
    return rollout
