"""What rungs take in place of the demo's own weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from ...errors import BadInput
from ...model.checkpoint import load_tiny_vae, read
from ...model.fingerprint import fingerprint
from ...model.preset import DEMO_FOLDER
from ...training.evaluation.kit import Kit, load_kit, with_networks

STUDENT, DECODER = "student", "decoder"
OPTIONS: Mapping[str, str] = {
    STUDENT: "--student with distilled weights",
    DECODER: "--decoder with the file of a VAE",
}


@dataclass(frozen=True, slots=True)
class OwnWeights:
    """A folder with a student's weights and a VAE's file; None stands for the demo's."""

    student: Path | None = None
    decoder: Path | None = None

    def holds(self, names: Collection[str]) -> bool:
        """Whether these are given."""
        return all(getattr(self, name) is not None for name in names)

    def check(self, rung: str, names: Collection[str]) -> None:
        """BadInput if one of these is not given, which a rung needs."""
        for name in names:
            if not self.holds([name]):
                raise BadInput(f"the rung {rung!r} needs {OPTIONS[name]}.")

    def only(self, names: Collection[str]) -> OwnWeights:
        """Of these alone, in place of the demo's."""
        return OwnWeights(**{name: file for name, file in asdict(self).items() if name in names})

    def prints(self) -> list[str]:
        """What tells the given weights from others."""
        folder = [] if self.student is None else [self.student / "dit.safetensors"]
        file = [] if self.decoder is None else [self.decoder]
        return [_print_of(weights) for weights in folder + file]


@lru_cache(maxsize=3)
def kit_with(own: OwnWeights) -> Kit:
    """The demo's networks, with these in their place."""
    kit = load_kit(DEMO_FOLDER)
    if own.decoder is not None:
        kit = replace(kit, vae=load_tiny_vae(own.decoder))
    return kit if own.student is None else with_networks(kit, own.student)


@lru_cache(maxsize=2)
def _print_of(weights: Path) -> str:
    return fingerprint(read(weights)[0])
