"""What a recurrent model cannot do: its history is one state, which has no parts to look at."""

from __future__ import annotations

from collections.abc import Iterator

from ..attention.cache.policy import FullHistory, RebuiltWindow
from ..attention.sparse.settings import Sparsity
from ..attention.storage.dense import DENSE
from ..attention.storage.placement import ON_DEVICE
from ..errors import Unsupported
from ..model.forward import ModelConfig
from ..model.recurrent.config import RecurrentConfig
from .guidance import AllFrames, Guidance, NoFrames, View
from .rules.memory import MemoryRules
from .schedule.row import Row
from .settings import RolloutSettings, guidances_of


def check_recurrent(settings: RolloutSettings, config: ModelConfig) -> None:
    """Refuse settings for a recurrent model that need keys of single latent frames."""
    if not isinstance(config, RecurrentConfig):
        return
    for problem in _problems(settings):
        raise Unsupported(
            f"The model is recurrent and its history is a state, so {problem}", "recurrent"
        )


def _problems(settings: RolloutSettings) -> Iterator[str]:
    """What cannot be done, each as half a sentence."""
    if not isinstance(settings.cache, FullHistory | RebuiltWindow):
        yield "a window cannot be cut out of it: keep the full history or a rebuilt window"
    if settings.storage != DENSE or settings.placement != ON_DEVICE:
        yield "it is stored as computed and on the device"
    if settings.on_prompt_change == "flush":
        yield "it cannot forget all but the newest latent frame"
    if settings.memory != MemoryRules():
        yield "memory rules cannot weigh its latent frames"
    if settings.sparsity != Sparsity():
        yield "there is no attention to make sparse"
    if settings.feature_caching is not None:
        yield "no step can take over the work of the last one: leave out feature caching"
    if settings.known_frames.max_lookahead:
        yield "latent frames cannot look at known ones ahead"
    yield from _problems_of_guidance(settings)
    if any(row.lowest for row in _first_rows(settings)):
        yield "no latent frame can look back less far than another one"


def _problems_of_guidance(settings: RolloutSettings) -> Iterator[str]:
    guidances = guidances_of(settings)
    if any(branch.skipped for each in guidances for branch in each.branches):
        yield "none of its layers can be left out: leave out skip-layer guidance"
    if any(each.normalized_attention for each in guidances):
        yield "attention to its prompts cannot be pushed from the negative one: leave out NAG"
    if not all(_is_whole(view) for each in guidances for view in _views(each)):
        yield "guidance may see all of it, none of it, or an exact part that is committed again"


def _views(guidance: Guidance) -> Iterator[View]:
    return (branch.view for branch in guidance.all_branches)


def _is_whole(view: View) -> bool:
    """Whether a state can give the view: whole, empty, or committed for it."""
    return view.rebuilt or isinstance(view.frames, AllFrames | NoFrames)


def _first_rows(settings: RolloutSettings) -> Iterator[Row]:
    """The rows of the schedule up to the first that finishes latent frames."""
    for row in settings.noise_rows(settings.origin):
        yield row
        if row.finished:
            return
