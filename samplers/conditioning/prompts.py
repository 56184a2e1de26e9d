"""Timed prompts: which text embedding is in force for which latent frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from torch import Tensor

from ...errors import BadInput
from ..camera.implied import implied_motion
from .blend import Blend
from .embedding import Embedding, digest_of, mix, values_of


@dataclass(frozen=True)
class TimedPrompt:
    """A prompt from latent frame `start_frame` on.

    `embedding` is (l, text_dim), padded with zeros. In-flight chunks use the prompt only while the
    leading latent frame is in [active_from, active_until). A fork sets these, so that chunks before
    the fork never see the new prompt. With `blend` it takes the place of the prompt before slowly.
    """

    start_frame: int
    embedding: Embedding
    text: str = ""
    active_from: int = 0
    active_until: int | None = None
    blend: Blend | None = None

    @cached_property
    def digest(self) -> str:
        """A short hash of the embedding, which every chunk's address has; taken once."""
        return digest_of(self.embedding)

    @property
    def values(self) -> Tensor:
        """The numbers of the embedding, computed anew for a mixture."""
        return values_of(self.embedding)

    def may_apply(self, leading: int) -> bool:
        """Whether the prompt may be in force while latent frame `leading` leads."""
        return self.active_from <= leading and (
            self.active_until is None or leading < self.active_until
        )

    def continues(self, other: TimedPrompt) -> bool:
        """Whether both give the model the same embedding, and the camera the same words.

        By the hashes that addresses have: no device is asked for values.
        """
        return self is other or (self._moves_as(other) and self.digest == other.digest)

    def _moves_as(self, other: TimedPrompt) -> bool:
        """Whether both have the same words for the camera."""
        return implied_motion(self.text) == implied_motion(other.text)

    def blend_steps(self, before: TimedPrompt, stop: int | None) -> Sequence[TimedPrompt]:
        """The prompts that lead from `before` to this one, up to the next one at `stop`.

        They are made once: each live edit asks for those of the whole shot again.
        """
        blend, first = self.blend, self.start_frame
        if blend is None:
            return [self]
        end = None if stop is None or blend.end(first) < stop else stop
        newest = self._newest_steps
        if newest.before is not before or newest.end != end:
            newest.steps = self._steps_from(before, blend, end)
            newest.before, newest.end = before, end
        return newest.steps

    def _steps_from(self, before: TimedPrompt, blend: Blend, stop: int | None) -> list[TimedPrompt]:
        first = self.start_frame
        steps = [
            replace(
                self, start_frame=start, blend=None,
                embedding=mix(before.embedding, self.embedding, part / (blend.parts + 1)),
            )
            for part, start in enumerate(blend.starts(first, stop), 1)
        ]  # fmt: skip
        if stop is None:
            steps.append(replace(self, start_frame=blend.end(first), blend=None))
        return steps

    @cached_property
    def _newest_steps(self) -> _BlendSteps:
        """The steps that were made last; none at first."""
        return _BlendSteps()


@dataclass(slots=True)
class _BlendSteps:
    """The `steps` that lead from the prompt `before`, up to another one at frame `end`, if any."""

    before: TimedPrompt | None = None
    end: int | None = None
    steps: Sequence[TimedPrompt] = ()


@dataclass(frozen=True, slots=True)
class PromptMix:
    """A second prompt (l, text_dim) inside all others: its `shares`, 0 to 1, from latent frames on.

    The frames increase.
    """

    embedding: Embedding
    shares: tuple[tuple[int, float], ...]

    def into(self, prompts: Sequence[TimedPrompt]) -> list[TimedPrompt]:
        """The prompts, in order of time, with the second one in each by its share."""
        starts = sorted({prompt.start_frame for prompt in prompts} | {at for at, _ in self.shares})
        return [
            self._mixture(_latest(prompts, start), self._share_at(start), start) for start in starts
        ]

    def _share_at(self, frame: int) -> float:
        number = bisect_right(self.shares, frame, key=lambda share: share[0])
        return self.shares[number - 1][1] if number else 0.0

    def _mixture(self, prompt: TimedPrompt, share: float, start: int) -> TimedPrompt:
        if share == 0:
            return replace(prompt, start_frame=start)
        mixed = mix(prompt.embedding, self.embedding, share)
        text = f"{prompt.text} (mixed {share:.0%})"
        return replace(prompt, start_frame=start, embedding=mixed, text=text)


@dataclass(frozen=True)
class PromptTimeline:
    """Prompts in order of time, the first from latent frame 0.

    `lines` are the prompts as users give them, `mix` is mixed into all. `negative` is the negative
    prompt's embedding (l, text_dim).
    """

    lines: tuple[TimedPrompt, ...]
    negative: Tensor
    mix: PromptMix | None = None

    def __post_init__(self) -> None:
        starts = [line.start_frame for line in self._lasting]
        if not starts or starts[0] != 0:
            raise BadInput("The first prompt must hold from the start; give a line with time 0.")
        if any(b <= a for a, b in pairwise(starts)):
            raise BadInput(f"Prompt times must increase; got latent frames {starts}.")

    @property
    def _lasting(self) -> list[TimedPrompt]:
        """The lines that no fork has ended."""
        return [line for line in self.lines if line.active_until is None]

    @cached_property
    def entries(self) -> tuple[TimedPrompt, ...]:
        """The prompts in force in turn: each step of a blend and each share of the mix is one.

        A prompt that says the same as the one before goes on: nothing changes there.
        """
        lines = self._lasting
        stops = [*(line.start_frame for line in lines[1:]), None]
        steps = [lines[0]]
        for line, stop in zip(lines[1:], stops[1:], strict=True):
            steps += line.blend_steps(steps[-1], stop)
        entries = _without_repeats(steps if self.mix is None else self.mix.into(steps))
        ended = (line for line in self.lines if line.active_until is not None)
        return tuple(sorted([*ended, *entries], key=_start_frame))

    @property
    def step_count(self) -> int:
        """How many embeddings blends and the mix add to those of the lines."""
        lines = self._lasting
        stops = [*(line.start_frame for line in lines[1:]), None]
        steps = (
            len(line.blend.starts(line.start_frame, stop))
            for line, stop in zip(lines, stops, strict=True)
            if line.blend is not None
        )
        return sum(steps) + (0 if self.mix is None else len(self.mix.shares))

    def at(self, latent_frame: int, leading: int | None = None) -> TimedPrompt:
        """The prompt in force at `latent_frame`.

        `leading` is the first unfinished latent frame; the default is `latent_frame` itself.
        """
        at = latent_frame if leading is None else leading
        past = (entry for entry in self.entries if entry.start_frame <= latent_frame)
        return [entry for entry in past if entry.may_apply(at)][-1]

    def complete_line(self, latent_frame: int) -> TimedPrompt | None:
        """The line in force at `latent_frame`; None while it blends in."""
        line = _latest(self._lasting, latent_frame)
        blends = line.blend is not None and latent_frame < line.blend.end(line.start_frame)
        return None if blends else line

    def with_prompt(self, prompt: TimedPrompt, seen_until: int = 0) -> PromptTimeline:
        """Add a line, replacing one that starts at the same frame; a blend ends where it starts.

        Earlier chunks have seen frames up to `seen_until`, and keep the prompts of these.
        """
        at = prompt.start_frame
        later = (
            replace(line, active_from=max(at, line.active_from))
            if line.start_frame < seen_until
            else line
            for line in self._lasting
            if line.start_frame > at
        )
        return self._with(prompt, seen_until, later)

    def with_last_prompt(self, prompt: TimedPrompt, seen_until: int) -> PromptTimeline:
        """As `with_prompt`, but the line replaces all later ones too."""
        return self._with(prompt, seen_until, ())

    def _with(
        self, prompt: TimedPrompt, seen_until: int, later: Iterable[TimedPrompt]
    ) -> PromptTimeline:
        at = prompt.start_frame
        before = (line for line in self.lines if line.start_frame < at)
        seen = (
            replace(entry, active_until=min(at, entry.active_until or at))
            for entry in self.entries
            if at <= entry.start_frame < seen_until and at > entry.active_from
        )
        lines = sorted([*before, *seen, prompt, *later], key=_start_frame)
        return replace(self, lines=tuple(lines))


def _start_frame(prompt: TimedPrompt) -> int:
    return prompt.start_frame


def _without_repeats(prompts: Iterable[TimedPrompt]) -> list[TimedPrompt]:
    """The prompts without those that say the same as the one before."""
    changes = list[TimedPrompt]()
    for prompt in prompts:
        if not changes or not prompt.continues(changes[-1]):
            changes.append(prompt)
    return changes


def _latest(prompts: Sequence[TimedPrompt], frame: int) -> TimedPrompt:
    """The last of `prompts`, in order of time, that has started at a latent frame."""
    return prompts[bisect_right(prompts, frame, key=_start_frame) - 1]


@dataclass(frozen=True, slots=True)
class ActivePrompts:
    """Prompts in force together, in order of time.

    Each comes with the first latent frame of the chunk from which it holds.
    """

    prompts: tuple[tuple[int, TimedPrompt], ...]

    @property
    def front(self) -> TimedPrompt:
        """The prompt of the earliest frames."""
        return self.prompts[0][1]

    def text_of(self, frame: int) -> int:
        """The index of a latent frame's prompt; 0 before all of them."""
        return max(0, bisect_right(self.prompts, frame, key=lambda entry: entry[0]) - 1)

    def frames_since_change(self, frame: int) -> int | None:
        """Latent frames from the beginning of a frame's prompt to it; None for the first prompt."""
        start, prompt = self.prompts[self.text_of(frame)]
        return frame - start if prompt.start_frame > 0 else None

    def same(self, other: ActivePrompts) -> bool:
        """Whether both hold the same prompt objects at the same frames."""
        pairs = zip(self.prompts, other.prompts, strict=False)
        same = all(a == b and entry is two for (a, entry), (b, two) in pairs)
        return same and len(self.prompts) == len(other.prompts)


def chunk_start(latent_frame: float, chunk_frames: int, chunk_base: int = 0) -> int:
    """The chunk boundary nearest to a fractional latent frame; prompts change between chunks.

    Boundaries are whole chunks after `chunk_base`. The start of the rollout is a boundary too.
    """
    first = chunk_base % chunk_frames
    if latent_frame < first / 2:
        return 0
    return first + max(0, round((latent_frame - first) / chunk_frames)) * chunk_frames
