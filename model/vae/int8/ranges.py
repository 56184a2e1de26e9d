"""How large the values of each channel become, at each place of a decoder that gets codes.

The demo's file holds what `python -m longtake.training.vae.ranges` measured on pictures. Values
that are larger get the highest code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ....errors import BadInput
from ....machine.temporary_files import write_whole
from ...fingerprint import fingerprint
from ..tiny import TinyVAE

Ranges = Mapping[str, Tensor]
"""The largest size of each channel's values (c,), by the name of the module that makes them.

For a convolution before a ReLU these are the values behind it, for a memory block those after its
sum, for a `split` those of either sign.
"""

DIGITS = 4


def save_ranges(ranges: Ranges, vae: TinyVAE, path: Path) -> None:
    """Write the ranges that were measured on a VAE."""
    rounded = {
        name: [float(f"{value:.{DIGITS}g}") for value in largest.tolist()]
        for name, largest in ranges.items()
    }
    lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in rounded.items()]
    text = ",\n".join([f'"vae": "{fingerprint(vae.state_dict())}"', *lines])
    write_whole(path, f"{{\n{text}\n}}\n")


def load_ranges(path: Path, vae: TinyVAE) -> Ranges:
    """Read the ranges of a VAE's decoder, or refuse (BadInput) a damaged file and other weights."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        of = content.pop("vae")
        ranges = {name: torch.tensor(values) for name, values in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} is missing or damaged ({error}); download it again.") from error
    if of != fingerprint(vae.state_dict()):
        raise BadInput(
            f"{path} was measured on another VAE; run python -m longtake.training.vae.ranges again."
        )
    return ranges
