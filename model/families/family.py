"""One family of models as a value, and the licences that several families have."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..preset import Preset

APACHE = "Apache-2.0"
NON_COMMERCIAL = "CC-BY-NC-SA-4.0: no commercial use"
WAN = "Apache-2.0 (Wan 2.1)"
SKYWORK = "Skywork community licence: commercial use under its terms"


@dataclass(frozen=True, slots=True)
class Family:
    """One family of models.

    `shape` is the architecture that its tensors show, see `recognise`. `named` is a pattern in the
    names of file and folder, lower case, other characters as one `_`. `copy` is the copy to take of
    a file with several. `causal` says whether the model was trained to look only back.
    `takes_guidance`: it learned to do without a prompt, so that text guidance works though its
    preset has none. `own_levels_only`: it learned no noise levels but its preset's. `instead`
    names, in a sentence, what does all that it has not learned. `width` is that of a family with
    models of one size, so that no name makes another model one of them; 0 for others.
    `adapter_alpha` is the alpha of the LoRA that its files hold beside the weights; 0 for others.
    """

    key: str
    title: str
    shape: str
    licence: str
    source: str
    preset: Preset
    named: str = ""
    copy: str = "ema"
    causal: bool = True
    takes_guidance: bool = False
    own_levels_only: bool = False
    instead: str = ""
    width: int = 0
    adapter_alpha: float = 0.0

    def with_state(self) -> Family:
        """The same family for a model that keeps a state beside its window."""
        return replace(self, preset=replace(self.preset, state=True))
