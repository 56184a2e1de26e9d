"""Timed prompts: which text embedding is in force for which latent frame."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import BadInput


@dataclass(frozen=True)
class TimedPrompt:
    """A prompt from latent frame `start_frame` on.

    `embedding` is (l, text_dim), padded with zeros. In-flight chunks use the prompt only while the
    leading latent frame is in [active_from, active_until). A fork sets these, so that chunks before
    the fork never see the new prompt.
    """

    start_frame: int
    embedding: Tensor
    text: str = ""
    active_from: int = 0
    active_until: int | None = None

    @cached_property
    def digest(self) -> str:
        """A short hash of the embedding, which every chunk's address has; taken once."""
        return embedding_digest(self.embedding)

    def may_apply(self, leading: int) -> bool:
        """Whether the prompt may be in force while latent frame `leading` leads."""
        return self.active_from <= leading and (
            self.active_until is None or leading < self.active_until
        )


@dataclass(frozen=True, slots=True)
class PromptTimeline:
    """Prompts in order of time, the first from latent frame 0.

    `negative` is the negative prompt's embedding (l, text_dim).
    """

    entries: tuple[TimedPrompt, ...]
    negative: Tensor

    def __post_init__(self) -> None:
        starts = [entry.start_frame for entry in self.entries if entry.active_until is None]
        if not starts or starts[0] != 0:
            raise BadInput("the first prompt must hold from the start; give a line with time 0.")
        if any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
            raise BadInput(f"prompt times must increase; got latent frames {starts}.")

    def at(self, latent_frame: int, leading: int | None = None) -> TimedPrompt:
        """The prompt in force at `latent_frame`.

        `leading` is the first unfinished latent frame; the default is `latent_frame` itself.
        """
        at = latent_frame if leading is None else leading
        past = (entry for entry in self.entries if entry.start_frame <= latent_frame)
        return [entry for entry in past if entry.may_apply(at)][-1]

    def blend(self, prompt: TimedPrompt, starts: range, step_count: int) -> PromptTimeline:
        """Blend `prompt`, an entry of this timeline, with the entry before it.

        Its share grows by equal steps at each of `starts` and is complete at their end, unless the
        next entry begins earlier. Only the first `step_count` steps are added.
        """
        number = next(i for i, entry in enumerate(self.entries) if entry is prompt)
        before, following = self.entries[number - 1], self.entries[number + 1 :]
        steps = []
        for i, at in enumerate(starts[:step_count], 1):
            mixed = before.embedding.lerp(prompt.embedding, i / (len(starts) + 1))
            steps.append(replace(prompt, start_frame=at, embedding=mixed))
        if not following or starts.stop < following[0].start_frame:
            steps.append(replace(prompt, start_frame=starts.stop))
        return PromptTimeline((*self.entries[:number], *steps, *following), self.negative)

    def with_prompt(self, prompt: TimedPrompt) -> PromptTimeline:
        """Add `prompt`, replacing an entry that starts at the same frame."""
        others = (entry for entry in self.entries if entry.start_frame != prompt.start_frame)
        entries = sorted([*others, prompt], key=lambda entry: entry.start_frame)
        return PromptTimeline(tuple(entries), self.negative)


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


def fit_length(embedding: Tensor, text_len: int) -> Tensor:
    """Pad (l, text_dim) with zeros, or cut it, to the family's text length.

    A longer one first loses its rows of zeros: joined prompts hold the padding of each.
    """
    if len(embedding) > text_len:
        embedding = embedding[embedding.any(-1)][:text_len]
    return F.pad(embedding, (0, 0, 0, text_len - len(embedding)))


def chunk_start(latent_frame: float, chunk_frames: int, origin: int = 0) -> int:
    """The chunk boundary nearest to a fractional latent frame; prompts change between chunks.

    Boundaries are counted from `origin`. The start of the rollout is a boundary too.
    """
    first = origin % chunk_frames
    if latent_frame < first / 2:
        return 0
    return first + max(0, round((latent_frame - first) / chunk_frames)) * chunk_frames


def embedding_digest(embedding: Tensor) -> str:
    """A short hash of an embedding's values, for chunk addresses."""
    values = embedding.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    return hashlib.sha256(values).hexdigest()[:16]
