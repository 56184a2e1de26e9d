"""Memory rules in words, for the plan and the report."""

from __future__ import annotations

from ...attention.cache.policy import CachePolicy
from ..history.steady_state import steady_state_frames
from ..rules.reading import FarReading, NewestFrames
from ..settings import RolloutSettings
from .chunk_rows import typical_rows


def describe_rules(settings: RolloutSettings, layers: int) -> str | None:
    """One sentence on the memory rules and the anchor; None where there are none."""
    memory, anchor = settings.memory, settings.anchor
    parts = []
    if memory.commit is not None:
        parts.append(_describe_commit(memory.commit, settings.cache))
    if memory.recency is not None:
        parts.append(f"older frames are read less (log weight down to -{memory.recency.depth:g})")
    if memory.far is not None:
        parts.append(_describe_far(memory.far, settings, layers))
    if memory.positions is not None:
        parts.append(f"positions are top-aligned in {memory.positions.trained_frames}")
    if memory.past is not None:
        chunks = memory.past.chunks
        parts.append(
            f"the past counts {memory.past.weight:g} times for {chunks} "
            f"chunk{'s' if chunks > 1 else ''} after a change of prompt"
        )
    if anchor is not None:
        to = "the first chunk of each prompt" if anchor.target is None else "a picture"
        parts.append(f"chunks move {anchor.strength:.0%} of the way to {to}")
    return f"Memory rules: {'; '.join(parts)}." if parts else None


def name_rules(settings: RolloutSettings) -> str | None:
    """Name the rules that act, in a few words; None where there are none."""
    memory, anchor = settings.memory, settings.anchor
    recency, past = memory.recency, memory.past
    names = (
        "commit forcing" if memory.commit else None,
        f"recency {recency.depth:g}" if recency else None,
        "far past in the last steps" if memory.far else None,
        "top-aligned positions" if memory.positions else None,
        f"past weight {past.weight:g}" if past else None,
        f"anchor {anchor.strength:g}" if anchor else None,
    )
    return ", ".join(filter(None, names)) or None


def read_share(settings: RolloutSettings, layers: int) -> float:
    """The share of a full history's keys that denoising reads, over all steps and layers."""
    far, frames = settings.memory.far, steady_state_frames(settings)
    if far is None or not frames:
        return 1.0
    newest, sink = frames[-1], settings.cache.sink_frames
    near = [frame < sink or newest - frame < far.near_frames for frame in frames]
    steps = _steps(settings)
    reading = len(far.reading_layers(layers))
    places = far.share * min(far.last_steps, steps) * reading / (steps * layers)
    return (sum(near) + places * (len(frames) - sum(near))) / len(frames)


def _steps(settings: RolloutSettings) -> int:
    """The steps of a chunk; 1 where all latent frames are given and none has any."""
    rows = typical_rows(settings)
    return rows[-1].of_steps[0] if rows else 1


def _describe_commit(rule: NewestFrames, cache: CachePolicy) -> str:
    if rule.frames == 0:
        return "a commit sees its chunk alone"
    if rule.frames is None:
        idle = "" if cache.sink_frames else ", of which there is none"
        return f"a commit sees all but the sink{idle}"
    return f"a commit sees its chunk and the newest {rule.frames} latent frames, without the sink"


def _describe_far(far: FarReading, settings: RolloutSettings, layers: int) -> str:
    reading = len(far.reading_layers(layers))
    where = f"in the last {min(far.last_steps, _steps(settings))} of {_steps(settings)} steps and "
    where += f"{reading} of {layers} layers"
    if not far.last_steps:
        where = "by no step"
    chosen = "" if far.share == 1 else f"the {far.share:.0%} most attended "
    return (
        f"{chosen}frames beyond the newest {far.near_frames} and the sink are read {where}, "
        f"{read_share(settings, layers):.0%} of the history's keys in all{_fetched(settings)}"
    )


def _fetched(settings: RolloutSettings) -> str:
    """Whether only what is read is fetched, for histories that are not on the device."""
    if not settings.placement.buffers:
        return ""
    is_whole = settings.cache.extra_frames > 0 or settings.cache.moves_keys
    return ", and all are fetched" if is_whole else ", and only these are fetched"
