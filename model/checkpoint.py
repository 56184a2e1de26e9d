"""Load weights strictly.

The right tensors, all of them, in safetensors; anything else is one clear sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import BadInput
from .config import config_from_shapes
from .dit import WanDiT
from .text import TextEncoder
from .vae.tiny import TinyVAE, TinyVAEConfig

WAN_KEYS = (
    "head.modulation", "head.head.weight", "blocks.0.self_attn.q.weight", "blocks.0.ffn.0.weight",
    "text_embedding.0.weight", "patch_embedding.weight",
)  # fmt: skip


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors as stored and the header metadata of a safetensors file."""
    if not path.is_file():
        raise BadInput(f"{path} is not there; give the path of a .safetensors file.")
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except SafetensorError as error:
        raise BadInput(
            f"{path} cannot be read as safetensors ({error}); it may be cut short: "
            "download it again."
        ) from error


def load_dit(path: Path) -> WanDiT:
    """A Wan-family DiT in float32, ready to evaluate."""
    state, metadata = read(path)
    missing = [key for key in WAN_KEYS if key not in state]
    if missing:
        raise BadInput(
            f"{path} is not a Wan-family diffusion model (it has no {missing[0]}); "
            "choose a Wan 2.1 text-to-video file."
        )
    try:
        config = config_from_shapes(state, _header_heads(metadata))
    except (BadInput, ValueError, IndexError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} does not describe a Wan-family model ({error}); use the unmodified file."
        ) from error
    dit = WanDiT(config)
    _load(dit, state, path)
    return dit


def load_tiny_vae(path: Path) -> TinyVAE:
    """The demo's VAE in float32; widths are read off the tensors."""
    state, _ = read(path)
    try:
        e = (state["encoder.0.weight"], state["encoder.2.weight"], state["encoder.6.weight"])
        d = (state["decoder.10.weight"], state["decoder.5.weight"], state["decoder.0.weight"])
    except KeyError as error:
        raise BadInput(
            f"{path} is not the demo's VAE (it has no {error.args[0]}); "
            "choose model/demo/vae.safetensors."
        ) from error
    config = TinyVAEConfig((len(e[0]), len(e[1]), len(e[2])), (len(d[0]), len(d[1]), len(d[2])))
    vae = TinyVAE(config)
    _load(vae, state, path)
    return vae


def load_text_encoder(path: Path) -> TextEncoder:
    """The demo's text encoder; vocabulary and text length come from the file's header."""
    state, metadata = read(path)
    if "vocabulary" not in metadata or "words.weight" not in state:
        raise BadInput(
            f"{path} is not the demo's text encoder; choose model/demo/text.safetensors."
        )
    try:
        words, text_len = json.loads(metadata["vocabulary"]), int(metadata["text_len"])
    except (ValueError, KeyError) as error:
        raise BadInput(
            f"{path} has an unreadable header ({error}); "
            "use the unmodified model/demo/text.safetensors."
        ) from error
    encoder = TextEncoder(words, state["words.weight"].shape[1], text_len)
    _load(encoder, state, path)
    return encoder


def _header_heads(metadata: Mapping[str, str]) -> int | None:
    """The number of heads from the header that the host's loader reads too; None without one."""
    heads = json.loads(metadata.get("config", "{}")).get("transformer", {}).get("num_heads")
    return None if heads is None else int(heads)


def _load(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"{path} does not fit the model its tensors describe: {reason}; "
            "use the unmodified file."
        ) from error
    module.eval().requires_grad_(False)
