"""Average the weights of two runs, of which the second began with those of the first.

`python -m longtake.training.blend --first FOLDER --second FOLDER --out FOLDER`. Such weights lie in
one basin, so that their mean is a model too, often better than both (Wortsman et al., arXiv
2203.05482).
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import BadInput
from ..model.checkpoint import read
from .command import FOLDER, reporting
from .run import save_half

PARTS = ("dit", "text")


def blend(first: Path, second: Path, out: Path, share: float) -> None:
    """Write both files of a model, `share` (0 to 1) of the second folder's and the rest of the
    first's, into `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        file = f"{part}.safetensors"
        earlier, later = (read(folder / file)[0] for folder in (first, second))
        if earlier.keys() != later.keys():
            raise BadInput(f"{first} and {second} hold models of different layers in {file}.")
        with safe_open(second / file, "pt") as opened:
            header = opened.metadata()
        save_half(mean(earlier, later, share), out / file, header)


def mean(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """The weighted mean of two models' tensors, in float32."""
    return {name: torch.lerp(weight.float(), second[name].float(), share)
            for name, weight in first.items()}  # fmt: skip


@click.command(help=__doc__)
@click.option("--first", type=FOLDER, required=True, help="Weights of the earlier run.")
@click.option("--second", type=FOLDER, required=True, help="Weights of the later run.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the mean.")
@click.option("--share", type=click.FloatRange(0, 1), default=0.5, show_default=True)
def main(first: Path, second: Path, out: Path, share: float) -> None:
    with reporting():
        blend(first, second, out, share)


if __name__ == "__main__":
    main()
