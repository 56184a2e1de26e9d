"""The patches of other nodes on a MODEL: which work here, and which have no effect.

Our forward calls the host's modules, so weight patches (LoRA), replaced leaf modules and injections
work. Hooks into the host's own forward or sampling loop are never called; users get their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from .. import host
from ..attention.override import AttentionOverride

SAMPLER_HOOKS = (
    "model_function_wrapper",
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_calc_cond_batch_function",
    "denoise_mask_function",
)
REMEDIES = {"model_sampling": " (use `shift` of Diffusion-Forcing Schedule instead)"}
FORWARD_HOOKS = ("optimized_attention_override", "rope_options", "ar_config")
OWN = "longtake."
ATTENTION_CHOICE = ".comfy_attention"
"""The end of the names of modules by which newer hosts choose an attention; we call none."""


def ignored_patches(model: Any) -> list[str]:
    """The names of the patches that have no effect here."""
    options = model.model_options
    inner = options.get("transformer_options", {})
    names = [f"{key or 'unnamed'} ({kind} wrapper)" for kind, key in _wrappers(model, inner)]
    names += [f"{name} (before sampling)" for name in _before_sampling(model)]
    names += [key for key in SAMPLER_HOOKS if key in options]
    names += [key for key in FORWARD_HOOKS if _foreign(inner.get(key))]
    names += [f"{key} patch" for key in inner.get("patches", {})]
    for kind, replaced in inner.get("patches_replace", {}).items():
        names += [f"{kind} {' '.join(map(str, where))} replacement" for where in replaced]
    names += [_replaced(name) for name in model.object_patches if not _is_used(model, name)]
    return list(dict.fromkeys(names))


def live_code(model: Any) -> list[tuple[str, object]]:
    """What works here but is code, which cannot be identified later: names and objects."""
    leaves = [(f"replaced {name}", part) for name, part in model.object_patches.items()
              if _is_called(model, name)]  # fmt: skip
    injections = [(f"injection {key}", part) for key, parts in model.injections.items()
                  for part in parts]  # fmt: skip
    wrappers = [(f"weight wrapper of {name}", part)
                for name, parts in model.weight_wrapper_patches.items()
                for part in parts]  # fmt: skip
    return [*leaves, *injections, *wrappers, *_weight_hooks(model), *_module_code(model)]


def _weight_hooks(model: Any) -> list[tuple[str, object]]:
    """The hooks that the host applies to the weights whenever it loads the model."""
    group = model.forced_hooks
    return [("weight hook", hook) for hook in group.hooks] if group else []


def _module_code(model: Any) -> list[tuple[str, object]]:
    """PyTorch hooks and forwards that other code set on the leaves themselves."""
    replacements: list[tuple[str, object]] = []
    replaced_by_host = getattr(model, "object_patches_backup", {})
    for name, part in model.model.named_modules():
        if not name.startswith("diffusion_model.") or next(part.children(), None) is not None:
            continue
        hooks = (*part._forward_pre_hooks.values(), *part._forward_hooks.values())
        replacements += [(f"PyTorch hook on {name}", hook) for hook in hooks]
        forward = part.__dict__.get("forward")
        own = forward is None or getattr(forward, "__func__", None) is type(part).forward
        if not own and f"{name}.forward" not in replaced_by_host:
            replacements.append((f"replaced {name}.forward", forward))
    return replacements


def _foreign(hook: object) -> bool:
    """Whether `hook` is another node's; our own attention override is known."""
    return hook is not None and not (isinstance(hook, AttentionOverride) and hook.previous is None)


def _wrappers(model: Any, transformer_options: dict[str, Any]) -> list[tuple[str, str | None]]:
    merged = [*model.wrappers.items(), *transformer_options.get("wrappers", {}).items()]
    return [(kind, key) for kind, keyed in merged for key, functions in keyed.items() if functions]


def _before_sampling(model: Any) -> Iterator[str]:
    """The names of functions that the host's samplers would call first, without our own.

    Packs replace the host's attention so (SageAttention), or how torch multiplies.
    """
    for key, functions in host.callbacks_before_sampling(model):
        if not str(key).startswith(OWN):
            yield from (getattr(part, "__name__", type(part).__name__) for part in functions)


def _replaced(name: str) -> str:
    if name.endswith(ATTENTION_CHOICE):
        return "choice of an attention (see ANN-Sparse Attention)"
    return f"replaced {name}{REMEDIES.get(name, '')}"


def _is_used(model: Any, name: str) -> bool:
    """Whether what replaces `name` works here: a leaf, or the dtype to compute in."""
    return name == host.COMPUTE_DTYPE or _is_called(model, name)


def _is_called(model: Any, name: str) -> bool:
    """Whether our forward calls `name`, a module or its forward: a leaf of the diffusion model."""
    path = name.removesuffix(".forward")
    if not path.startswith("diffusion_model.") or path.endswith(ATTENTION_CHOICE):
        return False
    root: nn.Module = model.model
    try:
        target = root.get_submodule(path)
    except AttributeError:
        return False
    return next(target.children(), None) is None
