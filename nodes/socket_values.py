"""What hosts do not check of a socket's value.

They compare the types of a link's two ends. A switch, reroute or loader of another pack has outputs
of any type, which may give anything, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..errors import BadInput
from ..kinds import kind_of
from ..stream.rollout.rollout import Rollout
from .conditioning.timeline import Timeline
from .guidance.guidance_spec import GuidanceSpec
from .models.flashvsr.objects import FlashVSR
from .steering.camera_spec import CameraSpec
from .steering.control_spec import ControlSpec


def check_socket(socket: io.Input, value: Any) -> None:
    """Refuse a value that is of none of the socket's types, and None if the socket is required."""
    types = socket.get_io_type().split(",")
    names = " or ".join(types)
    if value is None and not socket.optional:
        raise BadInput(
            f"{socket.id} got nothing from the node that is connected to it; connect a node that "
            f"gives {names}."
        )
    if value is not None and not any(fits(value) for fits in map(_FITS.get, types) if fits):
        raise BadInput(
            f"{socket.id} got {kind_of(value)}, and takes {names}; connect "
            f"a node that gives {names}."
        )


def has_check(socket: io.Input) -> bool:
    """Whether the values of every type of this socket are checked here."""
    return all(name in _FITS for name in socket.get_io_type().split(","))


def _has(*names: str) -> Callable[[Any], bool]:
    """Whether a value has these attributes: hosts and other packs have classes of their own."""
    return lambda value: all(hasattr(value, name) for name in names)


def _is(*classes: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, classes)


def _has_tensor(key: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and isinstance(value.get(key), Tensor)


def _is_sound(value: Any) -> bool:
    """Whether a value has the keys of a sound; reading one may decode a whole file."""
    return isinstance(value, Mapping) and {"waveform", "sample_rate"} <= set(value)


def _is_conditioning(value: Any) -> bool:
    """Whether a value is [[embedding, options], ...] with embeddings (b, l, c)."""
    return isinstance(value, Sequence) and all(map(_is_prompt, value))


def _is_prompt(part: Any) -> bool:
    if not isinstance(part, Sequence) or len(part) != 2:
        return False
    embedding, options = part
    return isinstance(embedding, Tensor) and embedding.ndim == 3 and isinstance(options, Mapping)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "AUDIO": _is_sound,
    "CAMERA_PATH": _is(CameraSpec),
    "CLIP": _has("cond_stage_model", "tokenize"),
    "CONDITIONING": _is_conditioning,
    "CONTROL_VIDEO": _is(ControlSpec),
    "FLASHVSR": _is(FlashVSR),
    "FRAMES": _has("chunks", "fps"),
    "GUIDANCE": _is(GuidanceSpec),
    "IMAGE": _is(Tensor),
    "AUDIO_ENCODER": _has("model", "patcher"),
    "INTERP_MODEL": _has("load_device"),
    "KNOWN_FRAMES": _is(tuple),
    "KV_CACHE": _has("resolve", "values_from_preset"),
    "LATENT": _has_tensor("samples"),
    "MASK": _is(Tensor),
    "MODEL": _has("load_device", "attachments"),
    "NOISE_SCHEDULE": _has("resolve", "values_from_preset"),
    "PROMPT_TIMELINE": _is(Timeline),
    "ROLLOUT": _is(Rollout),
    "UPSCALE_MODEL": _has("scale"),
    "VAE": _is(object),  # `streaming_vae` names what it cannot stream
    "VIDEO": _has("get_stream_source"),
}
"""By type, whether a value is one."""
