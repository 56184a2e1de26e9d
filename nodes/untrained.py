"""What of a shot's settings its model was not trained for, said before it runs."""

from __future__ import annotations

from collections.abc import Iterator

from ..samplers.guidance import Guidance
from ..samplers.settings import RolloutSettings
from .model_facts import ModelFacts

SIZE_FACTOR = 2.0  # how many times more or fewer pixels are worth a word


def untrained(
    known: ModelFacts, settings: RolloutSettings, size: tuple[int, int], *, by_cfg: bool
) -> list[str]:
    """A sentence for each thing; `by_cfg` says that the strength of the prompt is the sampler's own
    cfg. The demo's own defaults are the widgets'.
    """
    if known.family.key == "demo":
        return []
    return [*_text(known, settings, by_cfg=by_cfg), *_size(known, size)]


def _text(known: ModelFacts, settings: RolloutSettings, *, by_cfg: bool) -> Iterator[str]:
    """Text guidance of a distilled model: the furthest from none of the whole shot's."""
    if known.preset.guidance_scale != 1:
        return
    scale = max((one.text_scale for one in _guidances(settings)), key=lambda s: abs(s - 1))
    if abs(scale - 1) <= 1e-6:
        return
    more = f"cfg {scale:g} takes twice the"
    remedy = "connect the cfg of Settings From Model"
    if not by_cfg:
        more = f"text guidance of {scale:g} takes more"
        remedy = "set text_scale of History Guidance to 1 and leave out the negative prompt"
    elif scale != settings.guidance.text_scale:
        remedy = f"leave (guidance {scale:g}) out of the Prompt Timeline"
    yield (
        f"{known.family.title} is distilled and was trained for cfg 1; {more} time and overdoes "
        f"contrast: {remedy}."
    )


def _size(known: ModelFacts, size: tuple[int, int]) -> Iterator[str]:
    """A picture of another size."""
    width, height = known.preset.width, known.preset.height
    area, trained = size[0] * size[1], width * height
    if not trained / SIZE_FACTOR < area < trained * SIZE_FACTOR:
        yield (
            f"{known.family.title} was trained at {width}x{height}; {size[0]}x{size[1]} is far "
            "from that and pictures suffer."
        )


def _guidances(settings: RolloutSettings) -> list[Guidance]:
    """All that are in force at some time, the timeline's among them."""
    return [settings.guidance, *(change.guidance for change in settings.guidance_changes)]
