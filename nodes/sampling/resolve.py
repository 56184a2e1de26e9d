"""From the sampler's inputs and a resolved model to the settings of a rollout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...attention.temp_cache.policy import TempCache
from ...samplers.experts import check_second_weights
from ...samplers.guidance import Guidance
from ...samplers.history.settings import CacheSettings
from ...samplers.history.state_reading import check_state
from ...samplers.planning.caching import describe_caching
from ...samplers.planning.cost import idle_views
from ...samplers.planning.rules import describe_rules
from ...samplers.recurrent_rules import check_recurrent
from ...samplers.settings import RolloutSettings
from ...stream.rollout.live_input import LiveInput
from ...stream.rollout.recache import Resume
from ...stream.rollout.recache import check as check_resume
from ...stream.rollout.spec import Prompter
from ..conditioning.camera_spec import CameraSpec, camera_path
from ..conditioning.control_spec import ControlSpec, control_video
from ..conditioning.known_frames import KnownClip, check_starts, place_clips
from ..conditioning.live_input import check_source, given_clips, live_source
from ..conditioning.prompt_plan import (
    check_own_prompts,
    guidance_changes,
    prompt_timeline,
    truncated_prompts,
    unused_prompts,
)
from ..conditioning.reference import RAYS_REPLACED, end_of_rays, reference
from ..conditioning.timeline import Timeline
from ..from_model import set_or_none
from ..guidance.guidance_spec import CfgSpec, GuidanceSpec
from ..length import Length, check_endless, latent_size, snapped_length
from ..planning.costs import describe_budget
from ..runtime.resolved_model import ResolvedModel
from . import cache_spec, schedule_spec
from .cache_spec import KVCacheSpec
from .own_memory import compatible
from .schedule_spec import ScheduleSpec
from .training_limits import out_of_distribution_warnings

MAX_NAMES = 6  # patches that a warning names


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


@dataclass(frozen=True, slots=True)
class PlannedRollout:
    """What will be generated.

    `guided` turns a live guidance strength into guidance. `live` comes in while the shot is made.
    `notes` belong to the plan; `warnings`
    name what has no effect or does not suit the model. `values_from_preset` are the settings that
    come from the model, `guidance_values` those of them that belong to the connected guidance.
    """

    settings: RolloutSettings
    length: Length
    guided: Callable[[float], Guidance]
    live: LiveInput | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    values_from_preset: dict[str, object]
    guidance_values: dict[str, object]


def plan_rollout(resolved: ResolvedModel, request: RolloutRequest) -> PlannedRollout:
    """Resolve every setting of a shot; BadInput where the model cannot do what is requested."""
    preset, config = resolved.preset, resolved.engine.config
    size = latent_size(request.width, request.height, config.out_channels)
    schedule = request.schedule_spec.resolve(preset)
    cache = _requested_cache(resolved, request)
    drops = preset.drops_first_frame
    has_sink = cache.policy_for(drops_first_frame=drops).sink_frames > 0
    guidance = request.guidance_spec.resolve(preset, sink=has_sink)
    check_own_prompts(guidance, config)
    cache, plain = compatible(cache, guidance, schedule.context_noise)
    known = place_clips(given_clips(request.known_frames), preset.fps, config)
    length = snapped_length(
        request.length, request.length_unit, preset.fps, schedule.schedule.chunk_frames,
        known.leading,
    )  # fmt: skip
    guided = request.guidance_spec.at_strength(guidance)
    settings = RolloutSettings(
        prompt_timeline(request.prompts, config, length, preset.text_len), *size, schedule.schedule,
        length=length.latent_frames, seed=request.seed, solver=schedule.solver,
        context_noise=schedule.context_noise, guidance=guidance,
        cache=cache.policy_for(drops_first_frame=drops),
        feature_caching=schedule.feature_caching,
        known_frames=known.before(length.latent_frames),
        guidance_changes=guidance_changes(request.prompts, length, guided),
        reference=reference(config, request.picture, request.prompts),
        camera=camera_path(request.camera, config, preset.fps),
        control=control_video(
            request.control, resolved.engine.host.model, config,
            (request.width, request.height), preset.fps,
        ),
    )  # fmt: skip
    settings = _with_cache(settings, resolved, cache)
    check_second_weights(settings, resolved.engine)
    check_state(settings, resolved.engine.config)
    check_recurrent(settings, resolved.engine.config)
    check_endless(length, settings.cache)
    check_starts(settings.known_frames, preset.fps)
    check_resume(request.resume, settings.cache)
    notes = (
        plain,
        describe_budget(cache, settings),
        describe_rules(settings, config.num_layers),
        describe_caching(settings),
    )
    guidance_values = request.guidance_spec.values_from_preset(preset, sink=has_sink)
    return PlannedRollout(
        settings, length, guided, _live_input(request, resolved, settings),
        notes=tuple(note for note in notes if note is not None),
        warnings=tuple(_warnings(resolved, request, settings, length)),
        values_from_preset=_values_from_preset(resolved, request, settings) | guidance_values,
        guidance_values=guidance_values,
    )  # fmt: skip


def _live_input(
    request: RolloutRequest, resolved: ResolvedModel, settings: RolloutSettings
) -> LiveInput | None:
    """The connected live input, for pictures of the shot's size."""
    source = live_source(request.known_frames)
    if source is None:
        return None
    check_source(source, resolved.engine.config.out_channels)
    return source.open_for(settings, resolved.preset.fps)


def _requested_cache(resolved: ResolvedModel, request: RolloutRequest) -> CacheSettings:
    """The requested history, as ANN-Sparse Attention keeps it."""
    cache = request.cache_spec.resolve(resolved.preset)
    if resolved.attention is None:
        return cache
    return resolved.attention.over(cache, resolved.preset)


def _with_cache(
    settings: RolloutSettings, resolved: ResolvedModel, cache: CacheSettings
) -> RolloutSettings:
    """Apply the history, within its budget, and the model's sparse attention."""
    engine, attention = resolved.engine, resolved.attention
    if cache.budget_bytes is not None:  # of all histories together
        cache = replace(cache, budget_bytes=cache.budget_bytes // engine.histories)
    if attention is not None:
        settings = replace(settings, sparsity=attention.sparsity)
    return cache.apply_to(
        settings, engine.config, (engine.device, engine.dtype),
        drops_first_frame=resolved.preset.drops_first_frame,
    )  # fmt: skip


def _values_from_preset(
    resolved: ResolvedModel, request: RolloutRequest, settings: RolloutSettings
) -> dict[str, object]:
    """Schedule and history settings that come from the model; TempCache has none of a window's."""
    values = request.schedule_spec.values_from_preset(resolved.preset)
    if isinstance(settings.cache, TempCache):
        return values
    own = request.cache_spec.values_from_preset(resolved.preset)
    if "policy" in own:
        own["policy"] = cache_spec.policy_name(settings.cache)
    return values | own


def _warnings(
    resolved: ResolvedModel, request: RolloutRequest, settings: RolloutSettings, length: Length
) -> list[str]:
    """What has no effect, does not fit the text encoder or was never trained."""
    config, size = resolved.engine.config, (request.width, request.height)
    return [
        *_model_warnings(resolved),
        *idle_views(settings),
        *unused_prompts(request.prompts, length),
        *_steering_warnings(request, settings, length, resolved.preset.fps),
        *truncated_prompts(
            request.prompts, config, settings.guidance.own_prompts, resolved.preset.text_len
        ),
        *out_of_distribution_warnings(
            resolved.facts, settings, size, by_cfg=request.guidance is None
        ),
    ]


def _steering_warnings(
    request: RolloutRequest, settings: RolloutSettings, length: Length, fps: float
) -> list[str]:
    """Where camera or control video have another length than the shot, or replace another one."""
    texts = [] if request.control is None else request.control.remarks(length, fps)
    path, rays = settings.camera, settings.reference and settings.reference.rays
    if request.camera is None or path is None:
        return texts if rays is None else [*end_of_rays(rays, length), *texts]
    replaced = [] if rays is None else [RAYS_REPLACED]
    return [*request.camera.shortfall(path, length), *replaced, *texts]


def _model_warnings(resolved: ResolvedModel) -> list[str]:
    """Patches without effect, half a pair, and chunks that a restart makes useless."""
    warnings, names = [], resolved.ignored_patches
    if names:
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        shown = ", ".join(names[:MAX_NAMES])
        warnings.append(f"These patches on the model have no effect here: {shown}{more}.")
    if resolved.preset.boundary and resolved.engine.second is None:
        warnings.append(
            f"{resolved.facts.family.title} is two models and this is one of them, so pictures "
            "stay blurred or noisy; connect the high and the low noise model to Model Pair."
        )
    if resolved.session_only:
        warnings.append(
            f"Finished chunks can be reused only until ComfyUI restarts: {resolved.session_only}."
        )
    return warnings
