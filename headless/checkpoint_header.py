"""What a weights file is, from its safetensors header alone: nothing of the weights is read."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput

LARGEST_HEADER_BYTES = 100_000_000  # the format's own limit

# The official Wan 2.1 text-to-video names; each block has all of BLOCK_KEYS.
WAN_KEYS = re.compile(
    r"(patch_embedding|text_embedding\.[02]|time_embedding\.[02]|time_projection\.1|head\.head)\.(weight|bias)"
    r"|head\.modulation"
    r"|blocks\.\d+\.(modulation|norm3\.(weight|bias)|ffn\.[02]\.(weight|bias)"
    r"|(self|cross)_attn\.([qkvo]\.(weight|bias)|norm_[qk]\.weight))"
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, dtype and shape of one tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a safetensors file."""

    path: Path
    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape by name."""
        return {tensor.name: tensor.shape for tensor in self.tensors}


def read_header(path: Path) -> Header:
    """Read and check the header; a file that is cut short is refused, naming the missing bytes."""
    try:
        with path.open("rb") as file:
            size_field = file.read(8)
            header_bytes = struct.unpack("<Q", size_field)[0] if len(size_field) == 8 else 0
            if not 2 <= header_bytes <= LARGEST_HEADER_BYTES:
                raise BadInput(f"{path} is not a safetensors file; give a .safetensors file.")
            text = file.read(header_bytes)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; check the path.") from error
    try:
        content = json.loads(text)
        metadata = content.pop("__metadata__", {})
        tensors = tuple(
            TensorInfo(name, one["dtype"], tuple(one["shape"])) for name, one in content.items()
        )
        end = (
            8 + header_bytes + max((one["data_offsets"][1] for one in content.values()), default=0)
        )
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} has no readable safetensors header; it may be damaged: download it again."
        ) from error
    missing = end - path.stat().st_size
    if missing > 0:
        raise BadInput(f"{path} is cut short by {missing:,} bytes; download it again.")
    return Header(path, tensors, metadata)


def describe(header: Header) -> list[str]:
    """Lines for `longtake inspect`."""
    parameters = sum(tensor.count for tensor in header.tensors)
    dtypes = Counter(tensor.dtype for tensor in header.tensors)
    counts = ", ".join(f"{dtype} x {count}" for dtype, count in dtypes.most_common())
    lines = [
        f"file        {header.path} ({header.path.stat().st_size / 1e6:.1f} MB)",
        f"tensors     {len(header.tensors)} ({counts}), {parameters / 1e6:.2f} M numbers",
        *_family(header),
    ]
    return lines + [
        f"metadata    {key}: {_shorten(value)}" for key, value in header.metadata.items()
    ]


def _family(header: Header) -> list[str]:
    shapes = header.shapes
    known = [name for name in shapes if WAN_KEYS.fullmatch(name)]
    unknown = [name for name in shapes if not WAN_KEYS.fullmatch(name)]
    if not {"head.modulation", "patch_embedding.weight", "blocks.0.ffn.0.weight"} <= set(known):
        return [f"family      unknown (first tensors: {', '.join(list(shapes)[:3])})"]
    transformer = _transformer_config(header)
    dim = shapes["head.modulation"][-1]
    heads = transformer.get("num_heads", dim // 128)
    layers = 1 + max(int(name.split(".")[1]) for name in known if name.startswith("blocks."))
    sizes = f"dim {dim}, ffn {shapes['blocks.0.ffn.0.weight'][0]}, {heads} heads, {layers} layers"
    channels = f"{shapes['patch_embedding.weight'][1]} latent channels"
    kind = (
        "Wan 2.1, marked causal"
        if transformer.get("causal_ar")
        else "Wan 2.1 (causal or not: weights do not tell)"
    )
    lines = [
        f"family      {kind}",
        f"sizes       {sizes}, {channels}",
        f"Wan keys    {len(known)} known",
    ]
    if unknown:
        lines.append(f"other keys  {len(unknown)}, for example {', '.join(unknown[:3])}")
    return lines


def _transformer_config(header: Header) -> dict[str, object]:
    try:
        config = json.loads(header.metadata.get("config", "{}")).get("transformer", {})
    except (ValueError, AttributeError) as error:
        raise BadInput(
            f"{header.path}: its `config` metadata is not the JSON object it should be; repair it."
        ) from error
    return config if isinstance(config, dict) else {}


def _shorten(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
