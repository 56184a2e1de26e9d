"""What of a shot has no effect, or was never trained: warnings that stop nothing."""

from __future__ import annotations

from ...samplers.planning.cost import idle_views
from ...samplers.settings import RolloutSettings
from ..attachments import unread_numbers
from ..conditioning.prompt_plan import (
    changed_words,
    has_strengths,
    truncated_prompts,
    unused_prompts,
)
from ..conditioning.reference import RAYS_REPLACED, end_of_rays, unread_features
from ..length import Length
from ..runtime.resolved_model import ResolvedModel
from ..sound.in_shot import end_of_voice
from ..steering.camera_spec import idle_moves
from .request import RolloutRequest
from .training_limits import out_of_distribution_warnings

MAX_NAMES = 6  # patches that a warning names


def shot_warnings(
    resolved: ResolvedModel, request: RolloutRequest, settings: RolloutSettings, length: Length
) -> list[str]:
    """What has no effect, does not fit the text encoder or was never trained."""
    config, size = resolved.engine.config, (request.width, request.height)
    return [
        *_model_warnings(resolved),
        *idle_views(settings),
        *unused_prompts(request.prompts, length),
        *unread_numbers(request.prompts, request.picture),
        *([] if request.camera else changed_words(request.prompts)),
        *_unused_picture(request, settings),
        *unread_features(settings.reference, request.picture, request.prompts),
        *end_of_voice(length, request.picture, request.prompts),
        *_nothing_to_make(settings),
        *_steering_warnings(resolved, request, settings, length),
        *truncated_prompts(
            request.prompts, config, settings.guidance.own_prompts, resolved.preset.text_len
        ),
        *out_of_distribution_warnings(
            resolved.facts,
            settings,
            size,
            guidance=request.guidance,
            by_curve=has_strengths(request.prompts),
        ),
    ]


def _steering_warnings(
    resolved: ResolvedModel, request: RolloutRequest, settings: RolloutSettings, length: Length
) -> list[str]:
    """Where camera or control video have another length than the shot, replace another one, or do
    what the model cannot follow.
    """
    fps = resolved.preset.fps
    texts = [] if request.control is None else request.control.remarks(length, fps)
    path, rays = settings.camera, settings.reference and settings.reference.rays
    if request.camera is None or path is None:
        return texts if rays is None else [*end_of_rays(rays, length), *texts]
    replaced = [] if rays is None else [RAYS_REPLACED]
    idle = idle_moves(path, resolved.engine.config, length, request.camera.source)
    return [*request.camera.shortfall(path, length), *idle, *replaced, *texts]


def _unused_picture(request: RolloutRequest, settings: RolloutSettings) -> list[str]:
    """Say where a conditioning with a picture serves nothing: the model takes no picture."""
    if request.picture is None or settings.reference is not None:
        return []
    return [
        "`picture` has no effect, because this model takes none; to begin with a picture, connect "
        "it to VAE Encode (Stream), and that to known_frames."
    ]


def _nothing_to_make(settings: RolloutSettings) -> list[str]:
    """Say where known frames at level 0 fill the whole shot."""
    if settings.length is None or settings.origin < settings.length:
        return []
    return [
        "The known frames fill the whole shot at level 0, so the model makes nothing; raise "
        "`length` to continue them, or `level` of Known Frames to redraw them."
    ]


def _model_warnings(resolved: ResolvedModel) -> list[str]:
    """Lost blocks, patches without effect, half a pair, chunks that a restart makes useless."""
    warnings, names = [*resolved.losses], resolved.ignored_patches
    if resolved.half_patched:
        warnings.append(resolved.half_patched)
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
