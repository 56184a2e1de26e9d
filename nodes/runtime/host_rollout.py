"""Streams inside the host: models claimed before each chunk, progress, news of every chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch

from ...attention.sparse.thresholds import measured_on
from ...model.config import DiTConfig, config_from_shapes
from ...samplers.denoiser import Denoiser
from ...samplers.guidance import Guidance
from ...samplers.history.plan import planned_bytes
from ...samplers.planning.memory import RolloutMemory, max_bytes, rollout_memory
from ...samplers.settings import RolloutSettings
from ...stream.journal.chain import ModelHistory
from ...stream.journal.journal import Journal
from ...stream.preview.messages import Plan
from ...stream.rollout.rollout import Rollout
from ...stream.rollout.run import Prompter
from .. import host
from ..models.channels import check_channels
from ..models.identity import identity
from ..models.model_facts import facts
from .claim import Claim
from .host_codec import with_room
from .run_observer import HostRun
from .session import session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HostDenoiser(Denoiser):
    """One of the host's models, as the engine evaluates it."""

    host: Claim


class HostRollout(Rollout):
    """A rollout of one of the host's models, made by the node `node_id`."""

    model: HostDenoiser
    node_id: str | None = None
    session_only: str | None = None  # why its chunks are of no use after a restart, if so
    from_model: str = ""  # what its settings have from its model, one sentence
    plan: Plan

    def new_run(self) -> HostRun:
        """A run that is shown in the host."""
        return HostRun(self)

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [self.claim.model]

    @property
    def claim(self) -> Claim:
        """How this rollout asks for its model."""
        return self.model.host

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
        sparsity = measured_on(self.settings.sparsity, self.model.device)
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


def open_rollout(
    model: Any,
    engine: HostDenoiser,
    settings: RolloutSettings,
    prompter: Prompter | None,
    guided: Callable[[float], Guidance],
    *,
    plan_only: bool = False,
) -> HostRollout:
    """The rollout of a MODEL, over the host's journal."""
    name, session_only = identity(model)
    rollout = over_journal(engine, settings, name, prompter, guided, plan_only=plan_only)
    rollout.session_only = session_only
    return rollout


def over_journal(  # noqa: PLR0913
    engine: HostDenoiser,
    settings: RolloutSettings,
    made_by: str | ModelHistory,
    prompter: Prompter | None,
    guided: Callable[[float], Guidance],
    *,
    plan_only: bool = False,
    cut: int | None = None,
) -> HostRollout:
    """A rollout made by models of known identity, over the host's journal."""
    settings = with_room(settings, engine.host, engine.config.out_channels)
    rollout = HostRollout(
        settings, engine, made_by, Journal(host.rollout_folder()), prompter, guided,
        fps=facts(engine.host.model).preset.fps, scope=host.running_prompt,
        plan_only=plan_only, cut=cut, hot=session.states,
    )  # fmt: skip
    rollout.claim.beside.update(settings.known.sources)
    if engine.device.type != "cpu":  # main memory is not the host's to make room in
        rollout.claim.working_bytes = lambda: rollout.working_bytes
    return rollout
