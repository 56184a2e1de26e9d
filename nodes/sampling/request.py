"""The sampler's inputs as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...samplers.history.settings import CacheSettings
from ...stream.rollout.recache import Resume
from ...stream.rollout.spec import Prompter
from ..conditioning.timeline import Timeline
from ..from_model import set_or_none
from ..guidance.guidance_spec import CfgSpec, GuidanceSpec
from ..known.known_frames import KnownClip
from ..memory import cache_spec
from ..memory.cache_spec import KVCacheSpec
from ..steering.camera_spec import CameraSpec
from ..steering.control_spec import ControlSpec
from . import schedule_spec
from .schedule_spec import ScheduleSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequest:
    """The sampler's inputs, without the model; sockets that are not connected are None."""

    prompts: Timeline | list[Any]
    seed: int
    width: int
    height: int
    length: float
    length_unit: str
    cfg: float
    kv_cache: cache_spec.Resolvable | None = None
    guidance: GuidanceSpec | None = None
    plan_only: bool = False
    known_frames: tuple[KnownClip, ...] | Mapping[str, Any] | None = None
    snapshot_chunks: int = 0
    picture: list[Any] | None = None
    resume: Resume = "exact"
    camera: CameraSpec | None = None
    control: ControlSpec | None = None
    schedule: schedule_spec.Resolvable | None = None

    @property
    def guidance_spec(self) -> GuidanceSpec | CfgSpec:
        """The guidance that counts: the connected one, or else the sampler's cfg."""
        return self.guidance or CfgSpec(set_or_none("cfg", self.cfg, 0.0))

    @property
    def cache_spec(self) -> cache_spec.Resolvable:
        """The connected KV cache, or else the model's."""
        return self.kv_cache or KVCacheSpec(CacheSettings)

    @property
    def schedule_spec(self) -> schedule_spec.Resolvable:
        """The connected schedule, or else the model's."""
        return self.schedule or ScheduleSpec()

    @property
    def prompter(self) -> Prompter | None:
        """Encodes the prompts of live edits; only a Prompt Timeline has one."""
        return self.prompts.prompter if isinstance(self.prompts, Timeline) else None
