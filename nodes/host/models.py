"""The host's MODEL and VAE: built by its own loaders, read and patched by us."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management
import comfy.sd
import comfyui_version
import torch
from comfy.cli_args import args
from comfy.patcher_extension import CallbacksMP
from torch import Tensor, nn

from ...errors import BadInput
from ...kinds import kind_of
from ...model.recurrent.network import RecurrentNetwork
from .memory import manage_as_model
from .own_layers import add_own_layers, without_own_layers

T = TypeVar("T")

TOKENS = "longtake_tokens"  # of live code, beside the weights
WAN_MODULES = ("patch_embedding", "time_embedding", "time_projection", "blocks")
READERS = ("text_embedding", "img_emb")  # of a prompt, or of a picture in its place


def source_file(model: Any) -> Path | None:
    """The file that the host's own loader made a MODEL of; None of any other loader."""
    maker = getattr(model, "cached_patcher_init", None)  # not yet in older hosts
    first = next(iter(maker[1]), None) if maker else None
    return Path(first) if isinstance(first, str) else None


def build_diffusion_model(
    read: Callable[[], dict[str, Tensor]], metadata: Mapping[str, str], dtype: torch.dtype | None
) -> Any:
    """A MODEL from weights with official names; the host may call `read` again later."""

    def build(**options: Any) -> Any:
        chosen = {} if dtype is None else {"dtype": dtype}
        state = without_own_layers(read())
        with _channels_last_named():
            model = comfy.sd.load_diffusion_model_state_dict(
                state, model_options=chosen, metadata=dict(metadata), **options
            )
        if model is None:
            raise BadInput(
                "This ComfyUI does not know the architecture of these weights; update ComfyUI."
            )
        model.cached_patcher_init = (build, ())
        add_own_layers(model, read(), metadata)
        return model

    return build()


@contextmanager
def _channels_last_named() -> Iterator[None]:
    """Name the switch of the host by which it orders layers of video as those of pictures."""
    try:
        yield
    except RuntimeError as error:
        if not args.force_channels_last:
            raise
        raise BadInput(
            "ComfyUI was started with --force-channels-last, with which it can build no video "
            f"model ({error}); start it without."
        ) from error


class NetworkShell(nn.Module):
    """A network of our own where the host keeps a diffusion model."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = network

    def get_dtype_inference(self) -> torch.dtype:
        """The dtype in which the network computes: that of its weights."""
        return next(self.parameters()).dtype


def manage_network(network: nn.Module) -> Any:
    """A MODEL for a network of our own, which the host loads and frees as any other."""
    return manage_as_model(NetworkShell(network))


def build_vae(state: Mapping[str, Tensor], dtype: torch.dtype | None, path: Path) -> Any:
    """A VAE from the weights of the file `path`, as the host detects it."""
    try:
        vae = comfy.sd.VAE(sd=dict(state), dtype=dtype)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path} is not a whole VAE that this ComfyUI knows ({reason}); choose a Wan VAE."
        ) from error
    if vae.first_stage_model is None:
        raise BadInput(f"{path} is not a VAE that this ComfyUI knows; choose a Wan VAE.")
    return vae


def copy_vae(vae: Any, device: torch.device) -> Any:
    """The same VAE with weights of its own that computes on `device`.

    Other nodes may use `vae` itself meanwhile, so the two share no module. A CPU computes in the
    dtype that the host chooses for it, another accelerator in that of `vae`.
    """
    tree = vae.first_stage_model
    state = {name: weight.cpu() for name, weight in tree.state_dict().items()}
    twin = comfy.sd.VAE(
        sd=state, device=device, dtype=None if device.type == "cpu" else vae.vae_dtype
    )
    if type(twin.first_stage_model) is not type(tree):
        raise BadInput(
            f"The VAE is {kind_of(tree)}, which cannot be moved to another device; set "
            "decode_on to default."
        )
    return twin


def is_wan(model: Any) -> bool:
    """Whether the diffusion model inside a MODEL has modules with the official Wan names."""
    tree = model.model.diffusion_model
    named = all(hasattr(tree, name) for name in WAN_MODULES)
    named = named and any(hasattr(tree, name) for name in READERS)
    return named and hasattr(tree.blocks[0], "cross_attn")


def module_tree(model: Any) -> nn.Module:
    """The diffusion model inside a MODEL, Wan's or our own; BadInput for others."""
    tree = model.model.diffusion_model
    if not is_wan(model) and not isinstance(tree, RecurrentNetwork):
        raise BadInput(
            f"The model is {kind_of(tree)}, not a Wan model; connect Load Demo Model or a "
            "Wan 2.1 text-to-video model to `model`."
        )
    return tree


def has_image_branch(model: Any) -> bool:
    """Whether a MODEL has layers for CLIP vision features, as Wan 2.1 image to video has."""
    return getattr(module_tree(model), "img_emb", None) is not None


def session_token(model: Any, live: Sequence[object]) -> str:
    """Identifies a MODEL's patches and the objects `live` on it for as long as the host keeps them.

    Each object has a random token, kept beside the weights until the object is gone: Python gives
    its address to another one.
    """
    tokens = model.model.__dict__.setdefault(TOKENS, {})
    for address in [address for address, (alive, _) in tokens.items() if alive() is None]:
        del tokens[address]
    for part in live:
        if id(part) not in tokens:
            tokens[id(part)] = _reference(part), uuid.uuid4().hex
    return " ".join([str(model.patches_uuid), *(tokens[id(part)][1] for part in live)])


def _reference(part: object) -> Callable[[], object]:
    """A weak reference to `part` where Python has one, else a strong one."""
    try:
        return weakref.ref(part)
    except TypeError:
        return lambda: part


def under_root(model: Any) -> Any:
    """A MODEL whose parent, if any, is the first of its clones: `model` itself or a clone of it.

    When a loaded MODEL is gone, the host counts its weights to its parent. Of a MODEL that a
    garbage collector frees together with its parent, it would count them to nobody for ever.
    """
    root = model.parent
    while root is not None and root.parent is not None:
        root = root.parent
    if root is model.parent:
        return model
    clone = model.clone()
    clone.parent = root
    return clone


@contextmanager
def without_injections(model: Any) -> Iterator[None]:
    """Take out what the host has injected into the weights' modules, for this or another MODEL.

    Which MODEL was used last then no longer shows in the modules that all its clones share.
    """
    with ExitStack() as stack:
        for loaded in comfy.model_management.current_loaded_models:
            if loaded.model is not None and loaded.model.model is model.model:
                stack.enter_context(loaded.model.use_ejected())
        yield


def attach(model: Any, key: str, value: object) -> None:
    """Attach a value to a MODEL and its later clones."""
    model.set_attachments(key, value)


def get_attachment(model: Any, key: str) -> Any:
    """The value that `attach` put there, or None."""
    return model.attachments.get(key)


def override_attention(model: Any, wrap: Callable[[Any], T]) -> T:
    """Replace a MODEL's attention override by `wrap(previous)`; returns the new one.

    `previous` is None if there was no override.
    """
    override = wrap(attention_override(model))
    options = model.model_options.setdefault("transformer_options", {})
    options["optimized_attention_override"] = override
    return override


def attention_override(model: Any) -> Any:
    """A MODEL's attention override, None if it has none."""
    return model.model_options.get("transformer_options", {}).get("optimized_attention_override")


def watch_sampling(
    model: Any, key: str, on_begin: Callable[[Any], None], on_end: Callable[[Any], None]
) -> None:
    """Call `on_begin` and `on_end` with the model around each run of the host's own samplers.

    This also holds for clones of the model, and for runs that fail: `on_end` is then called while
    the exception is in flight. Earlier callbacks with this `key` are removed.
    """
    for when, callback in ((CallbacksMP.ON_PRE_RUN, on_begin), (CallbacksMP.ON_CLEANUP, on_end)):
        model.remove_callbacks_with_key(when, key)
        model.add_callback_with_key(when, key, callback)


def callbacks_before_sampling(model: Any) -> list[tuple[object, list[Any]]]:
    """The keys and functions of callbacks that the host's own samplers call before they begin."""
    return [*model.callbacks.get(CallbacksMP.ON_PRE_RUN, {}).items()]


def core_version() -> str:
    """The version of ComfyUI."""
    return str(comfyui_version.__version__)
