"""What Fork, Rewind or Continue does to a shot. The source rollout never changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import BadInput
from ...model.config import FRAMES_PER_LATENT
from ...samplers.conditioning.embedding import fit
from ...samplers.conditioning.prompts import TimedPrompt
from ...samplers.settings import RolloutSettings
from ...stream.rollout.fork import Fork, extend
from ...stream.rollout.spec import Warn
from ...stream.timecode import time_label
from ...timed_lines import first_time
from ...units import count_of
from .. import host
from ..length import SECONDS, snapped_length
from ..runtime.host_rollout import HostRollout
from ..steering.control_spec import end_of_control
from .derive import chunk_near, derive_rollout, first_frame, time_of

FORK, REWIND, CONTINUE = "fork", "rewind", "continue"
KEEP = -1


@dataclass(frozen=True, slots=True)
class RolloutEdit:
    """The widgets of the node. Times are seconds; a number of -1 keeps the source's value."""

    at: float
    more: float
    new_prompt: str
    new_seed: int
    new_guidance: float
    length: float

    def warnings(self, action: str) -> list[str]:
        """Name the changes that only a fork makes and that `action` ignores."""
        if action == FORK:
            return []
        changed = {
            "new_prompt": bool(self.new_prompt.strip()),
            "new_seed": self.new_seed > KEEP,
            "new_guidance": self.new_guidance > KEEP,
            "length": self.length > 0,
        }
        return [
            f"{name} has no effect with `{action}`; choose `{FORK}`."
            for name, is_set in changed.items()
            if is_set
        ]


def fork(source: HostRollout, edit: RolloutEdit, node_id: str | None) -> HostRollout:
    """Make a shot that shares the chunks before `at` and differs from there on."""
    check_change(FORK, edit.new_prompt)
    frame, warnings = first_frame(source, chunk_near(source, edit.at)), list[str]()
    change = Fork(
        frame,
        _encode_prompt(source, edit.new_prompt, warnings.append),
        edit.new_seed if edit.new_seed > KEEP else None,
        source.spec.guided(edit.new_guidance) if edit.new_guidance > KEEP else None,
    )
    settings = _set_length(change.apply(source.settings), source, frame, edit.length)
    warnings += end_of_control(settings.control, settings.length, source.fps)
    forked = derive_rollout(source, settings, node_id)
    host.show_status(node_id, _fork_summary(forked, change), *warnings)
    return forked


def rewind(source: HostRollout, edit: RolloutEdit, node_id: str | None) -> HostRollout:
    """Make the same shot, ending at the chunk end nearest to `at`; at least one chunk stays."""
    cut = max(1, chunk_near(source, edit.at))
    rewound = derive_rollout(source, source.settings, node_id, cut=cut)
    end = time_label(time_of(source, first_frame(source, cut)))
    text = f"Rewound to {end}, after {count_of(cut, 'chunk')}."
    host.show_status(node_id, text, *edit.warnings(REWIND))
    return rewound


def continue_shot(source: HostRollout, edit: RolloutEdit, node_id: str | None) -> HostRollout:
    """Make the same shot, longer by `more` seconds, rounded up to whole chunks."""
    end = source.latent_frames
    if end is None:
        raise BadInput(
            "The rollout has no end (its length is 0), so it continues anyway; rewind it first to "
            "continue from an earlier time."
        )
    more_frames = max(1, round(edit.more * source.fps))
    settings = extend(source.settings, end, -(-more_frames // FRAMES_PER_LATENT))
    ends = end_of_control(settings.control, settings.length, source.fps)
    warnings = [*edit.warnings(CONTINUE), *ends]
    return derive_rollout(source, settings, node_id, warnings=warnings)


ACTIONS: dict[str, Callable[[HostRollout, RolloutEdit, str | None], HostRollout]] = {
    FORK: fork,
    REWIND: rewind,
    CONTINUE: continue_shot,
}


def check_change(action: str, new_prompt: str) -> None:
    """Refuse (BadInput) a time in the prompt of a fork."""
    time = first_time(new_prompt)
    if action == FORK and time is not None:
        raise BadInput(
            f"new_prompt has the time `{time}`, but a fork has one prompt, which begins at `at`; "
            "delete the time and set `at`, or write the line in Prompt Timeline."
        )


def _encode_prompt(source: HostRollout, text: str, warn: Warn) -> TimedPrompt | None:
    text = " ".join(text.split())
    if not text:
        return None
    if source.spec.prompter is None:
        raise BadInput(
            "The fork has no text encoder for its new prompt; connect a clip to Load Rollout, or a "
            "Prompt Timeline to the sampler in place of CLIP Text Encode."
        )
    embedding = source.spec.prompter.encode(text, warn)
    return TimedPrompt(0, fit(embedding, len(source.settings.prompts.negative)), text)


def _set_length(
    settings: RolloutSettings, source: HostRollout, frame: int, length: float
) -> RolloutSettings:
    """Apply the requested length; 0 keeps the source's. Refuse a fork with nothing after it."""
    if length:
        schedule, leading = settings.schedule, settings.known_frames.whole.leading
        base = schedule.chunk_base(leading)
        snapped = snapped_length(length, SECONDS, source.fps, schedule.chunk_frames, base)
        assert snapped.latent_frames is not None
        settings = settings.lasting(snapped.latent_frames)
    if settings.length is not None and settings.length <= frame:
        at, end = (time_of(source, latent) for latent in (frame, settings.length))
        raise BadInput(
            f"The fork is at {at:g} s, and the shot would end at {end:g} s; set a greater length "
            "or an earlier time."
        )
    return settings


def _fork_summary(forked: HostRollout, change: Fork) -> str:
    stored, shared = forked.spec.stored_chunks(), time_label(time_of(forked, change.frame))
    names = [name for name in ("prompt", "seed", "guidance") if getattr(change, name) is not None]
    what = f"with a new {', '.join(names)}" if names else "without a change"
    return f"Forked at {shared} {what}. Already made: {count_of(stored, 'chunk')}."
