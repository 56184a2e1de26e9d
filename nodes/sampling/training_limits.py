"""Warnings about settings that a model was not trained for, shown before the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...attention.temp_cache.policy import TempCache
from ...model.families.anyflow import FLOW_MAPS
from ...model.preset import Preset
from ...samplers.guidance import Guidance
from ...samplers.schedule.options import preset_schedule
from ...samplers.schedule.rows import StaggeredSchedule
from ...samplers.settings import RolloutSettings
from ...samplers.solvers.single_step import Euler
from ..guidance.guidance_spec import GuidanceSpec
from ..models.model_facts import ModelFacts

SIZE_FACTOR = 2.0  # warn from this many times more or fewer pixels
WIDTHS = (2 / 3, 7 / 6)  # of the one trained width, between which no picture of the demo's suffers
# Models trained on clean histories only show more noise than this as artefacts. This follows from
# their recipes: Self-Forcing commits its history at t = 0, in effect at noise 0.005
SLIGHT_NOISE = 0.05


def out_of_distribution_warnings(
    known: ModelFacts,
    settings: RolloutSettings,
    size: tuple[int, int],
    *,
    guidance: GuidanceSpec | None = None,
    by_curve: bool = False,
) -> list[str]:
    """One sentence for each setting outside the training range.

    `guidance` is connected; without it, the sampler's cfg sets the text guidance. `by_curve`: its
    strengths over time come from `guidance` of Prompt Timeline.
    """
    instead = known.family.instead
    unlearned = [
        *_text(known, settings, guidance, by_curve=by_curve),
        *_noise(known, settings, guidance), *_levels(known, settings),
    ]  # fmt: skip
    warnings = [f"{warning} {instead}" if instead else warning for warning in unlearned]
    return [
        *_doubt(known, settings), *warnings,
        *_chunks(known, settings), *_solver(known, settings), *_size(known, size),
        *_reach(known, settings),
    ]  # fmt: skip


def _doubt(known: ModelFacts, settings: RolloutSettings) -> Iterator[str]:
    """Check a file whose name contradicts the family, by few steps or as another family.

    Not where text guidance is off, as a model of few steps needs.
    """
    if known.doubt and any(guidance.text_scale != 1 for guidance in _guidances(settings)):
        yield known.doubt


def _reach(known: ModelFacts, settings: RolloutSettings) -> Iterator[str]:
    """Check how far back TempCache reaches."""
    cache, trained = settings.cache, known.preset.trained_reach
    if not isinstance(cache, TempCache) or cache.reach_frames is None:
        return
    if cache.reach_frames > trained:
        yield (
            f"TempCache reaches {cache.reach_frames} latent frames back, but {known.family.title} "
            f"was trained to look back {trained}, so pictures may suffer; set reach_frames of "
            f"ANN-Sparse Attention to -1 and window_frames to {trained} or less."
        )


def _text(
    known: ModelFacts, settings: RolloutSettings, spec: GuidanceSpec | None, *, by_curve: bool
) -> Iterator[str]:
    """Check the strongest text guidance of a distilled model's shot."""
    if known.preset.guidance_scale != 1 or known.family.takes_guidance:
        return
    scales = [guidance.text_scale for guidance in _guidances(settings)]
    scale = max(scales, key=lambda scale: abs(scale - 1))
    if abs(scale - 1) <= 1e-6:
        return
    named = f"cfg {scale:g}"
    more = f"{named} takes twice the"
    remedy = "connect the cfg of Settings From Model"
    if spec is not None:
        named = f"text guidance of {scale:g}"
        more = f"{named} takes more"
        remedy = " and ".join(spec.ways_without_text)
    elif scale != settings.guidance.text_scale or _is_replaced(settings):
        line = f"remove (guidance {scale:g}) from the Prompt Timeline"
        remedy = "disconnect `guidance` of Prompt Timeline" if by_curve else line
    effect = "exaggerates contrast" if scale > 1 else "weakens the prompt"
    costs = f"{more} time and {effect}" if scale else f"{named} leaves out the prompt"
    yield f"{known.family.title} is distilled and was trained for cfg 1; {costs}; {remedy}."


def _noise(
    known: ModelFacts, settings: RolloutSettings, spec: GuidanceSpec | None
) -> Iterator[str]:
    """Check for a history noisier than any in training."""
    if known.preset.noisy_history:
        return
    slight = max(SLIGHT_NOISE, known.preset.context_noise)
    used, spec = settings.guidance, spec or GuidanceSpec()
    has_sink = settings.cache.sink_frames > 0
    seen = [(level, f"history at noise {level:g}" if level < 1 else "pure noise", way)
            for level in sorted({b.view.seen_level for b in used.branches})
            for way in spec.ways_without_noise(level, known.preset, sink=has_sink)]  # fmt: skip
    for name, level in (
        ("stabilise", used.stabilise), ("context noise", settings.context_noise.level)
    ):  # fmt: skip
        seen.append((level, f"{name} {level:g}", f"{name} of at most {slight:g}"))
    noisy = [(what, instead) for level, what, instead in seen if level > slight]
    if noisy:
        yield (
            f"{known.family.title} was not trained with noisy history, so "
            f"{_join([*dict.fromkeys(what for what, _ in noisy)])} may cause artefacts; use "
            f"{_join([*dict.fromkeys(instead for _, instead in noisy)])}."
        )


def _levels(known: ModelFacts, settings: RolloutSettings) -> Iterator[str]:
    """Check that later chunks pass the noise levels that the model learned, one after another."""
    if not known.family.own_levels_only:
        return
    used, trained = settings.schedule, preset_schedule(known.preset)
    own = (trained.ladder, trained.lag)
    if isinstance(used, StaggeredSchedule) and (used.ladder, used.lag) == own:
        return
    yield (
        f"{known.family.title} learned chunks of {known.preset.steps} steps, one after another; "
        "other noise levels may look worse; leave steps, shift and schedule at from model."
    )


def _chunks(known: ModelFacts, settings: RolloutSettings) -> Iterator[str]:
    """Check the size of the chunks, where they follow one another as those of the training did."""
    used, trained = settings.schedule, preset_schedule(known.preset)
    sizes = known.preset.trained_chunks
    if not known.family.causal or not isinstance(used, StaggeredSchedule):
        return
    if used.chunk_frames not in sizes and _in_turn(used) == _in_turn(trained):
        yield (
            f"{known.family.title} was trained with chunks of {' and '.join(map(str, sizes))} "
            f"latent frames, so chunks of {used.chunk_frames} may look worse; leave schedule and "
            "chunk_frames at from model."
        )


def _in_turn(schedule: StaggeredSchedule) -> bool:
    """Whether each chunk is clean before the next one begins."""
    return schedule.lag == len(schedule.ladder) - 1


def _solver(known: ModelFacts, settings: RolloutSettings) -> Iterator[str]:
    """Check that a flow map takes Euler's steps, whose mean velocity it predicts."""
    if known.family.shape in FLOW_MAPS and not isinstance(settings.solver, Euler):
        yield (
            f"{known.family.title} predicts the mean velocity of a whole step, which is Euler's, "
            "so other solvers may look worse; leave solver at from model."
        )


def _size(known: ModelFacts, size: tuple[int, int]) -> Iterator[str]:
    """Check the picture size."""
    if _suffers(known.preset, size):
        trained = f"{known.preset.width}x{known.preset.height}"
        yield (
            f"{known.family.title} was trained at {trained}; pictures of {size[0]}x{size[1]} "
            "suffer, so use a size nearer to that."
        )


def _suffers(preset: Preset, size: tuple[int, int]) -> bool:
    """Whether pictures of this width and height are unlike those of the training.

    Where a model knows one size, it makes two balls or suns of a world that is too wide, and dark
    bands and smears of one that is too high or too low.
    """
    width, height = size
    if preset.one_size:
        low, high = WIDTHS
        return height != preset.height or not low <= width / preset.width <= high
    trained = preset.width * preset.height
    return not trained / SIZE_FACTOR < width * height < trained * SIZE_FACTOR


def _guidances(settings: RolloutSettings) -> list[Guidance]:
    """Every guidance that is in force in the shot, with those of the timeline."""
    own = [] if _is_replaced(settings) else [settings.guidance]
    return [*own, *(change.guidance for change in settings.guidance_changes)]


def _is_replaced(settings: RolloutSettings) -> bool:
    """Whether the timeline sets another guidance from the shot's beginning on."""
    return any(change.start_frame == 0 for change in settings.guidance_changes)


def _join(names: Sequence[str]) -> str:
    """`a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
