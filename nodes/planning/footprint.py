"""The memory of a rollout on its model's device, each figure computed at most once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import TypeVar

import torch

from ...attention.sparse.thresholds import apply_measurements
from ...model.config import DiTConfig
from ...samplers.denoiser import Denoiser
from ...samplers.history.plan import CachePlan, cache_plans, planned_bytes
from ...samplers.planning.memory import RolloutMemory, max_bytes, rollout_memory
from ...samplers.settings import RolloutSettings

T = TypeVar("T")


class RolloutFootprint:
    """The memory that a rollout of `model` needs beside the model's weights, in bytes."""

    def __init__(self, settings: RolloutSettings, model: Denoiser) -> None:
        self.settings, self.model = settings, model

    @property
    def histories(self) -> int:
        """How many histories the model keeps, each with these KV caches."""
        return self.model.histories

    @cached_property
    def lean(self) -> RolloutFootprint:
        """The same rollout without rotated copies of its keys; the video is the same."""
        return RolloutFootprint(replace(self.settings, hold_rotated=False), self.model)

    @property
    def copied_bytes(self) -> int:
        """What copies of keys take that a rollout can do without."""
        return self.kv_bytes - self.lean.kv_bytes if self.settings.hold_rotated else 0

    @cached_property
    def cache_plans(self) -> tuple[CachePlan, ...]:
        """The KV caches of one history at the beginning of the shot."""
        return cache_plans(self.settings, self.model.config, self.model.dtype)

    @cached_property
    def kv_bytes(self) -> int:
        """The most that the KV caches take, exactly."""
        return self.histories * max(self._of_each_guidance(planned_bytes))

    @property
    def offloaded_bytes(self) -> int:
        """KV cache bytes in main memory or on disk."""
        length = self.settings.length
        return self.histories * sum(plan.planned_offloaded(length) for plan in self.cache_plans)

    @cached_property
    def max_bytes(self) -> int:
        """An upper bound for KV caches and passes that needs no rehearsal."""
        further = self.kv_bytes - self.kv_bytes // self.histories  # of the second history
        return max(self._of_each_guidance(max_bytes)) + further

    @cached_property
    def working_bytes(self) -> int:
        """What a pass of the model takes beside weights and KV caches, by a rehearsal."""
        on_device = partial(
            rollout_memory,
            device=self.model.device,
            check_interrupted=self.model.host.check_interrupted,
        )
        return max(memory.working_bytes for memory in self._of_each_guidance(on_device))

    def memory_beside(self, other_bytes: int, free_bytes: int) -> RolloutMemory:
        """The memory to plan for beside `other_bytes`.

        Passes are rehearsed only where memory might be short; otherwise they count as 0.
        """
        is_short = self.max_bytes + other_bytes > free_bytes
        return RolloutMemory(self.kv_bytes, self.working_bytes if is_short else 0)

    def _of_each_guidance(
        self, figure: Callable[[RolloutSettings, DiTConfig, torch.dtype], T]
    ) -> list[T]:
        """Compute `figure` for every guidance of the shot, on the model's device."""
        config, dtype = self.model.config, self.model.dtype
        sparsity = apply_measurements(self.settings.sparsity, self.model.device)
        settings = replace(self.settings, sparsity=sparsity)
        return [figure(in_force, config, dtype) for in_force in settings.stages]
