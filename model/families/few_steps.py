"""Names of files that say few steps where their family takes many.

A merge of Wan with a distillation LoRA (FusionX, Lightning) has the tensors of plain Wan, and so
has a distilled model whose family nobody lists. What they need is not in the file.
"""

from __future__ import annotations

import re
from pathlib import Path

from .family import Family
from .folder import plain_name
from .recognise import Recognition
from .table import FAMILIES

STATED = ("family: as chosen", "family: its metadata says so")
STEP_DISTILL = "stepdistill-"
_DISTILLED = re.compile(
    r"(?<!no)(?<!no_)lightning|fusion_?i?x|caus_?vid|acc_?vid|lightx2v|fast_?wan"
    r"|self_?forcing|turbo|rapid"
    r"|(?<!un)distill|(?<![a-z0-9])(?:dmd\d?|rcm|lcm|few_?steps?|(?:\d|1[0-2])_?steps?)(?![a-z0-9])"
)


def few_step_warning(model: Recognition) -> str:
    """What to set where a file's name says few steps and its family takes many; else empty.

    A family that the user chose, or that the file states, is not doubted.
    """
    row = model.family
    if set(STATED) & set(model.reasons):
        return ""
    return few_step_warning_for(model.header.path, row, few_step_choice(row))


def few_step_choice(row: Family) -> str:
    """Words that offer a family of few steps with the architecture of `row`; empty without one."""
    keys = [f.key for f in FAMILIES if f.shape == row.shape and f.key.startswith(STEP_DISTILL)]
    return f", or choose the family {keys[0]} (4 steps)" if keys else ""


def few_step_warning_for(path: Path, row: Family, otherwise: str) -> str:
    """What to set for a file that is taken for the family `row`; `otherwise` is another remedy."""
    name = _DISTILLED.search(plain_name(path))
    if name is None or row.preset.guidance_scale <= 1:
        return ""
    return (
        f"Its name has {name[0]!r}, so it may be distilled to few steps; {row.title} takes "
        f"{row.preset.steps} at cfg {row.preset.guidance_scale:g}. Set cfg 1 and its author's "
        f"number of steps{otherwise}."
    )
