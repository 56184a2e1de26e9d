"""LoRA files under any of the names they are published with, as the host's own loader reads them.

What a LoRA adds to a weight is `strength * alpha / rank * (up @ down)`. Trainers differ in how they
name a layer (official Wan, diffusers, wrapped by PEFT or FSDP, all dots underscores) and in where
they say alpha: in a tensor, in PEFT's `adapter_config.json`, in diffusers' `lora_adapter_metadata`,
or nowhere, where alpha is the rank. Here names become official ones and alpha a tensor; the host
does the arithmetic. PEFT: huggingface/peft `tuners/lora/layer.py`, `get_delta_weight`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ..families.names import copies, from_diffusers, to_diffusers, unwrap
from ..families.others import other
from ..files.number_checks import check_numbers
from ..files.weights import Weights, open_weights
from .checks import check_parts, check_unquantised
from .roles import (
    ALPHA,
    BIAS,
    DIFFERENCE,
    DOWN,
    KNOWN_ROLES,
    MAGNITUDE,
    UP,
    Part,
    Shapes,
    role_of,
)

UNDERSCORED = re.compile(r"^(lora|lycoris|oft)(_(unet|transformer))?__?")
DIFFUSERS_HEADS = {"condition_embedder", "proj_out"}
NOT_THE_MODELS = re.compile(r"critic|fake_score|real_score|text_encoder|lora_te\d?_")
PEFT_FILE, PEFT_CONFIG = "adapter_model", "adapter_config.json"
INPUT_LAYER = "patch_embedding"
DIFFUSERS_CONFIG = "lora_adapter_metadata"


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that fits a model. `alpha_from` says where alpha was found; `unused` are stored names
    that change no layer of the model.
    """

    parts: dict[Part, Tensor] = field(repr=False)
    alpha_from: str
    unused: tuple[str, ...]

    @property
    def layers(self) -> int:
        """The number of layers that it changes; an alpha alone changes none."""
        return len({module for module, role in self.parts if role != ALPHA})

    @property
    def scales(self) -> tuple[float, ...]:
        """The values of alpha / rank that occur, in order."""
        downs = ((module, len(t)) for (module, role), t in self.parts.items() if role == DOWN)
        ratios = {round(float(self.parts[module, ALPHA]) / rank, 4) for module, rank in downs}
        return tuple(sorted(ratios))

    @property
    def idle(self) -> str:
        """Why all of its pairs add zeros to the model; empty where it changes any layer."""
        if not all(role in (UP, DOWN, ALPHA) for _, role in self.parts):
            return ""
        modules = {module for module, role in self.parts if role == DOWN}
        if not any(self.parts[module, ALPHA].any() for module in modules):
            return "its alpha is 0"
        changes = any(
            all(self.parts[module, role].any() for role in (UP, DOWN, ALPHA)) for module in modules
        )
        return "" if changes else "one half of each pair is zeros, as before training"


def open_lora(path: Path, layers: Shapes) -> Lora:
    """The LoRA in `path` for a model whose layers have weights of these shapes, or a refusal."""
    weights = open_weights(path)
    places, unused = _places(weights, layers)
    if all(role == ALPHA for _, role in places):
        raise BadInput(_no_lora(path, list(weights.header.tensors), layers))
    check_unquantised(path, weights.header.tensors)
    parts = {part: weights.read(stored) for part, stored in places.items()}
    check_numbers({places[part]: tensor for part, tensor in parts.items()}, path)
    check_parts(parts, layers, path)
    config, alpha_from = _config(path, weights.header.metadata)
    if any(role == ALPHA for _, role in parts):
        alpha_from = "its own tensors"
    for module in [module for module, role in parts if role == DOWN]:
        if (module, ALPHA) not in parts:
            rank = len(parts[module, DOWN])
            scale = _scale(config, _stored_module(places[module, DOWN]), rank, path)
            parts[module, ALPHA] = torch.tensor(scale * rank)
            if (module, BIAS) in parts:
                parts[module, BIAS] = scale * parts[module, BIAS].float()
    return Lora(parts, alpha_from, unused)


def _places(weights: Weights, layers: Shapes) -> tuple[dict[Part, str], tuple[str, ...]]:
    """Which stored tensor is which part, and the tensors that are none."""
    flat = _flat(layers)
    places: dict[Part, str] = {}
    unused = []
    for stored in weights.header.tensors:
        name = _own_name(unwrap(stored))
        part = None if NOT_THE_MODELS.search(stored) else _part(name, layers, flat)
        shape = weights.header.tensors[stored].shape
        if (
            part is None
            or not KNOWN_ROLES.fullmatch(part[1])
            or _reads_other_channels(part, shape, layers)
        ):
            unused.append(stored)
            continue
        if part in places:
            raise BadInput(
                f"{weights.header.path} holds more than one LoRA ({places[part]} and {stored}), "
                "and nothing says which to take; save yours in a file of its own."
            )
        if part[1].startswith(MAGNITUDE):
            raise BadInput(
                f"{weights.header.path} is a DoRA of PEFT ({stored}), whose norm ComfyUI computes "
                "otherwise; use a LoRA without magnitudes, or the model it was merged into."
            )
        places[part] = stored
    return places, tuple(unused)


def _reads_other_channels(part: Part, shape: tuple[int, ...], layers: Shapes) -> bool:
    """Whether a difference is one of the layer for latents, in a model with other inputs.

    Distilled LoRAs hold one, and serve text to video and image to video alike; the host leaves it
    out too.
    """
    if part != (INPUT_LAYER, DIFFERENCE):
        return False
    own = layers[INPUT_LAYER]
    return shape != own and shape[:1] + shape[2:] == own[:1] + own[2:]


def _flat(layers: Shapes) -> dict[str, str]:
    """The layers by their names without dots, official and diffusers'."""
    return {
        name.replace(".", "_"): module
        for module in layers
        for name in (module, to_diffusers(module))
    }


def _own_name(stored: str) -> str:
    """The name by layer of a tensor that a file only numbers, or of a modulation's difference.

    LightX2V ends the latter in `diff_m` (ModelTC/LightX2V `tools/extract/lora_extractor.py`). Clean
    Forcing numbers tensors in the order of the modules: block after block, q, k, v and o of its
    self-attention, down and up of each (illustro1/clean-forcing
    `self_forcing/wan/modules/lora.py`).
    """
    numbered = re.fullmatch(r"lora\.(\d+)", stored)
    if not numbered:
        return re.sub(r"\.diff_m$", f".modulation.{DIFFERENCE}", stored)
    layer, is_up = divmod(int(numbered[1]), 2)
    block, letter = divmod(layer, 4)
    return f"blocks.{block}.self_attn.{'qkvo'[letter]}.lora_{'AB'[is_up]}.weight"


def _part(name: str, layers: Shapes, flat: Mapping[str, str]) -> Part | None:
    head, _, rest = name.partition(".")
    plain = UNDERSCORED.sub("", head)
    if plain != head and plain in flat:
        return flat[plain], role_of(rest)
    words = name.split(".")
    heads = {module.partition(".")[0] for module in layers} | DIFFUSERS_HEADS
    for start in (start for start, word in enumerate(words) if word in heads):
        official = from_diffusers(".".join(words[start:])).split(".")
        for stop in range(len(official) - 1, 0, -1):
            module = ".".join(official[:stop])
            if module in layers:
                return module, role_of(".".join(official[stop:]))
    return None


def config_beside(path: Path) -> tuple[Path, ...]:
    """The file beside PEFT's weights that says alpha; none for a file of another name."""
    return (path.with_name(PEFT_CONFIG),) if path.stem.startswith(PEFT_FILE) else ()


def _config(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """What PEFT or diffusers wrote beside the tensors, and where."""
    beside = next((file for file in config_beside(path) if file.is_file()), None)
    try:
        if beside is not None:
            content, source = json.loads(beside.read_text(encoding="utf-8")), PEFT_CONFIG
        elif DIFFUSERS_CONFIG in metadata:
            content, source = json.loads(metadata[DIFFUSERS_CONFIG]), DIFFUSERS_CONFIG
        else:
            return {}, "nowhere, so it is the rank"
        return {
            str(key).removeprefix("transformer."): value for key, value in content.items()
        }, source
    except (ValueError, AttributeError, OSError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _scale(config: Mapping[str, Any], module: str, rank: int, path: Path) -> float:
    """alpha / rank, or alpha / sqrt(rank) where PEFT's `use_rslora` is set."""
    patterns = config.get("alpha_pattern") or {}
    try:
        matching = (a for p, a in patterns.items() if re.fullmatch(rf"(.*\.)?({p})", module))
        alpha = float(next(matching, config.get("lora_alpha", rank)))
        if not math.isfinite(alpha):
            raise ValueError(f"it is {alpha}")
    except (re.error, AttributeError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _unreadable(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path}: its alpha cannot be read ({error}); get the LoRA again.")


def _stored_module(stored: str) -> str:
    return re.split(r"\.(?:lora[_.]|lokr_|hada_)", unwrap(stored))[0]


def _no_lora(path: Path, names: list[str], layers: Shapes) -> str:
    pairs = [name for name in names if re.search(r"\.(lora[_.]|lokr_|hada_)|^lora_", name)]
    if pairs:
        in_first = re.sub(r"(?<=blocks[._])\d+", "0", unwrap(pairs[0]))
        kind = "this" if _part(in_first, layers, _flat(layers)) else "any Wan"
        return (
            f"{path} is a LoRA that changes no layer of {kind} model (it changes "
            f"{_stored_module(pairs[0])}); use one that was made for this model."
        )
    if copies(names):
        return f"{path} is a whole model and no LoRA; load it as a model."
    wrong = other(names)
    if wrong is not None:
        return f"{path} is {wrong.title} and no LoRA; choose a LoRA file."
    return f"{path} is no LoRA (it holds {', '.join(names[:2])}); choose a LoRA file."
