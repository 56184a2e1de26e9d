"""Prompts at times: which text embedding is in force for which latent frame."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import BadInput


@dataclass(frozen=True, slots=True)
class TimedPrompt:
    """A prompt that holds from latent frame `start_frame` on.

    `embedding` (l, text_dim), padded with zeros. Chunks in flight have it from the time when latent
    frame `since` leads them to that when `until` does: where a fork gives another prompt, what was
    made before must not know.
    """

    start_frame: int
    embedding: Tensor
    text: str = ""
    since: int = 0
    until: int | None = None

    def known(self, leading: int) -> bool:
        """Whether it may be in force while latent frame `leading` leads."""
        return self.since <= leading and (self.until is None or leading < self.until)


@dataclass(frozen=True, slots=True)
class PromptTimeline:
    """Prompts in order of time, the first from latent frame 0, and the negative prompt's embedding
    (l, text_dim).
    """

    entries: tuple[TimedPrompt, ...]
    negative: Tensor

    def __post_init__(self) -> None:
        starts = [entry.start_frame for entry in self.entries if entry.until is None]
        if not starts or starts[0] != 0:
            raise BadInput("the first prompt must hold from the start; give a line with time 0.")
        if any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
            raise BadInput(f"prompt times must increase; got latent frames {starts}.")

    def at(self, latent_frame: int, leading: int | None = None) -> TimedPrompt:
        """The prompt in force at `latent_frame` while `leading` is the first one that is not
        finished; the same one unless told.
        """
        at = latent_frame if leading is None else leading
        past = (entry for entry in self.entries if entry.start_frame <= latent_frame)
        return [entry for entry in past if entry.known(at)][-1]

    def blended(self, prompt: TimedPrompt, starts: range, made: int) -> PromptTimeline:
        """The timeline in which `prompt`, one of its own, takes over from the one before it.

        From each of `starts` on it is mixed in by one equal part more, and it is whole at their
        end, unless another prompt comes first. Of these steps the first `made` are in the timeline.
        """
        number = next(i for i, one in enumerate(self.entries) if one is prompt)
        before, following = self.entries[number - 1], self.entries[number + 1 :]
        steps = []
        for i, at in enumerate(starts[:made], 1):
            mixed = before.embedding.lerp(prompt.embedding, i / (len(starts) + 1))
            steps.append(replace(prompt, start_frame=at, embedding=mixed))
        if not following or starts.stop < following[0].start_frame:
            steps.append(replace(prompt, start_frame=starts.stop))
        return PromptTimeline((*self.entries[:number], *steps, *following), self.negative)

    def with_prompt(self, prompt: TimedPrompt) -> PromptTimeline:
        """The same timeline with `prompt` in it, in place of one that starts at the same frame."""
        others = (one for one in self.entries if one.start_frame != prompt.start_frame)
        entries = sorted([*others, prompt], key=lambda one: one.start_frame)
        return PromptTimeline(tuple(entries), self.negative)


@dataclass(frozen=True, slots=True)
class ActivePrompts:
    """Prompts that are in force together: each with the first latent frame of the chunk from which
    on it holds, in order of time.
    """

    prompts: tuple[tuple[int, TimedPrompt], ...]

    @property
    def front(self) -> TimedPrompt:
        """The earliest frames' prompt."""
        return self.prompts[0][1]

    def text_of(self, frame: int) -> int:
        """Which of them a latent frame has; the first one before all."""
        return max(0, bisect_right(self.prompts, frame, key=lambda one: one[0]) - 1)

    def same(self, other: ActivePrompts) -> bool:
        """Whether these are the very same prompts at the same frames."""
        pairs = zip(self.prompts, other.prompts, strict=False)
        same = all(a == b and one is two for (a, one), (b, two) in pairs)
        return same and len(self.prompts) == len(other.prompts)


def fit_length(embedding: Tensor, text_len: int) -> Tensor:
    """Pad (l, text_dim) with zeros, or cut it, to the family's text length."""
    missing = text_len - embedding.shape[0]
    return F.pad(embedding, (0, 0, 0, missing)) if missing >= 0 else embedding[:text_len]


def chunk_start(latent_frame: float, chunk_frames: int, origin: int = 0) -> int:
    """The chunk boundary nearest to a (fractional) latent frame: prompts change between chunks.

    One boundary is `origin`; where no other falls on it, the start is one too.
    """
    first = origin % chunk_frames
    if latent_frame < first / 2:
        return 0
    return first + max(0, round((latent_frame - first) / chunk_frames)) * chunk_frames


def embedding_digest(embedding: Tensor) -> str:
    """A short hash of an embedding's values, for the chain of chunk keys."""
    values = embedding.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    return hashlib.sha256(values).hexdigest()[:16]
