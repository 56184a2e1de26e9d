"""From the sampler's inputs and a resolved model to the settings of a rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...attention.temp_cache.policy import TempCache
from ...samplers.conditioning.known_frames import KnownFrames
from ...samplers.conditioning.reference import Reference
from ...samplers.experts import check_second_weights
from ...samplers.guidance import Guidance
from ...samplers.history.settings import CacheSettings
from ...samplers.history.state_reading import check_state
from ...samplers.planning.caching import describe_caching
from ...samplers.planning.rules import describe_rules
from ...samplers.recurrent_rules import check_recurrent
from ...samplers.settings import RolloutSettings, guidances_of
from ...samplers.settings_checks import check_skipped_layers
from ...stream.rollout.live_input import LiveInput
from ...stream.rollout.recache import check as check_resume
from ..conditioning.prompt_plan import (
    check_guidance_prompts,
    guidance_changes,
    lora_changes,
    prompt_timeline,
)
from ..conditioning.reference import check_pictures, reference
from ..known.first_picture import begin_with_picture
from ..known.known_frames import check_end, check_starts, place_clips
from ..known.live_input import check_source, given_clips, live_source
from ..length import Length, check_endless, latent_size, snapped_length
from ..memory import cache_spec
from ..memory.own_memory import compatible
from ..planning.costs import describe_budget
from ..runtime.resolved_model import ResolvedModel
from ..sound.in_shot import with_voice
from ..steering.camera_spec import camera_path
from ..steering.control_spec import control_video
from .request import RolloutRequest
from .schedule_spec import ScheduleSettings
from .shot_warnings import shot_warnings


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


@dataclass(frozen=True, slots=True)
class _Choices:
    """What the connected nodes and the model's preset choose, before a shot is put together.

    `size` counts latent rows and columns. `plain_window` says, if so, that a plain window takes the
    place of the model's own memory.
    """

    size: tuple[int, int]
    schedule: ScheduleSettings
    cache: CacheSettings
    plain_window: str | None
    guidance: Guidance
    guided: Callable[[float], Guidance]
    guidance_values: dict[str, object]
    known: KnownFrames
    picture: Reference | None
    length: Length


def plan_rollout(resolved: ResolvedModel, request: RolloutRequest) -> PlannedRollout:
    """Resolve every setting of a shot; BadInput where the model cannot do what is requested."""
    chosen = _choices(resolved, request)
    settings = _with_cache(_settings(resolved, request, chosen), resolved, chosen.cache)
    _check(settings, resolved, request, chosen.length)
    notes = (
        chosen.plain_window,
        describe_budget(chosen.cache, settings),
        describe_rules(settings, resolved.engine.config.num_layers),
        describe_caching(settings),
    )
    from_preset = _values_from_preset(resolved, request, settings)
    return PlannedRollout(
        settings, chosen.length, chosen.guided, _live_input(request, resolved, settings),
        notes=tuple(note for note in notes if note is not None),
        warnings=tuple(shot_warnings(resolved, request, settings, chosen.length)),
        values_from_preset=from_preset | chosen.guidance_values,
        guidance_values=chosen.guidance_values,
    )  # fmt: skip


def _choices(resolved: ResolvedModel, request: RolloutRequest) -> _Choices:
    """Complete what the request leaves open with the model's preset."""
    preset, config = resolved.preset, resolved.engine.config
    size = latent_size(request.width, request.height, config.out_channels)
    schedule = request.schedule_spec.resolve(preset)
    cache = _requested_cache(resolved, request)
    policy = cache.policy_for(drops_first_frame=preset.drops_first_frame)
    has_sink = policy.sink_frames > 0
    guidance = request.guidance_spec.resolve(preset, sink=has_sink)
    check_guidance_prompts(guidance, config)
    cache, plain_window = compatible(cache, guidance, schedule.context_noise)
    known = place_clips(given_clips(request.known_frames), preset.fps, config)
    picture = reference(
        config, request.picture, request.prompts, image_branch=resolved.image_branch
    )
    known, picture = begin_with_picture(known, picture, preset)
    length = snapped_length(
        request.length, request.length_unit, preset.fps, schedule.schedule.chunk_frames,
        schedule.schedule.chunk_base(known.leading),
    )  # fmt: skip
    check_end(known, length)
    return _Choices(
        size, schedule, cache, plain_window, guidance, request.guidance_spec.at_strength(guidance),
        request.guidance_spec.values_from_preset(preset, sink=has_sink), known, picture, length,
    )  # fmt: skip


def _settings(
    resolved: ResolvedModel, request: RolloutRequest, chosen: _Choices
) -> RolloutSettings:
    """Put the shot together, but for its history."""
    preset, config, length = resolved.preset, resolved.engine.config, chosen.length
    schedule = chosen.schedule
    return RolloutSettings(
        prompt_timeline(request.prompts, config, length, preset.text_len),
        *chosen.size, schedule.schedule,
        length=length.latent_frames, seed=request.seed, solver=schedule.solver,
        context_noise=schedule.context_noise, guidance=chosen.guidance,
        cache=chosen.cache.policy_for(drops_first_frame=preset.drops_first_frame),
        feature_caching=schedule.feature_caching,
        known_frames=chosen.known.before(length.latent_frames),
        guidance_changes=guidance_changes(request.prompts, length, chosen.guided),
        lora_changes=lora_changes(
            request.prompts, length,
            has_lora=resolved.engine.host.scale_loras is not None,
        ),
        reference=with_voice(
            chosen.picture, config, preset, request.picture, request.prompts
        ),
        camera=camera_path(request.camera, config, preset.fps),
        control=control_video(
            request.control, resolved.engine.host.model, config,
            (request.width, request.height), preset.fps,
        ),
    )  # fmt: skip


def _check(
    settings: RolloutSettings, resolved: ResolvedModel, request: RolloutRequest, length: Length
) -> None:
    """Refuse (BadInput) what this model, or a shot of this length, cannot do."""
    check_second_weights(settings, resolved.engine)
    check_state(settings, resolved.engine.config)
    check_recurrent(settings, resolved.engine.config)
    check_skipped_layers(guidances_of(settings), resolved.engine.config)
    check_endless(length, settings.cache)
    check_starts(settings.known_frames, resolved.preset.fps)
    check_pictures(resolved.engine.config, length, request.picture, request.prompts)
    check_resume(request.resume, settings.cache)


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
