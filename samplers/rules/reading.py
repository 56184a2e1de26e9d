"""Rules on which frames of the history a pass reads, and how strongly.

A rule gives each latent frame of the history a log weight, -inf where the frame is not read. The
weights of several rules add up. A rule only sees distances, layers and steps, so that a replay, a
fork and a snapshot read the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...errors import BadInput

NOT_READ = -math.inf
MAX_CHUNK_FRAMES, MAX_WEIGHED_CHUNKS = 8, 64
ROUNDING = 1e-9
BIAS_CHUNK_FRAMES = 3  # the chunk of the models that the recency bias was measured on


@dataclass(frozen=True, slots=True)
class ReadingMoment:
    """What reads the history: the active frames of one chunk, in one step.

    A chunk has `chunk_frames`, but the last may have fewer. This one has done `step` of its
    `steps`. `own_frames` counts the latent frames from the beginning of its prompt to the chunk;
    None before the first change of prompt.
    """

    chunk_frames: int
    step: int
    steps: int
    own_frames: int | None = None


@dataclass(frozen=True, slots=True)
class FramePlace:
    """A frame of the history: its `age` is 1 just before the chunk that reads; `layer` of `layers`.

    Frames of the sink are marked.
    """

    age: int
    in_sink: bool
    layer: int
    layers: int


class ReadingRule(Protocol):
    """How strongly frames of the history are read."""

    @property
    def horizon(self) -> int:
        """Frames at least this old, except the sink's, all have the same weight."""

    def log_weight(self, place: FramePlace, moment: ReadingMoment) -> float:
        """The log weight of one frame; 0 reads it as it is, -inf leaves it out."""


@dataclass(frozen=True, slots=True)
class NewestFrames:
    """Only the newest `frames` of the history, and not the sink (Commit Forcing's commit pass).

    None is all of them but the sink.
    """

    frames: int | None = None

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 0:
            raise BadInput(f"A commit sees 0 latent frames or more; got {self.frames}.")

    @property
    def horizon(self) -> int:
        return 1 + (self.frames or 0)

    def log_weight(self, place: FramePlace, moment: ReadingMoment) -> float:
        """0 for the newest frames, -inf for all others and for the sink."""
        is_new = self.frames is None or place.age <= self.frames
        return 0.0 if is_new and not place.in_sink else NOT_READ


@dataclass(frozen=True, slots=True)
class RecencyBias:
    """Read older frames less while denoising, most of all in early steps (arXiv 2609.19729, TRB).

    The log weight is -depth dt^gamma: dt = clip((d - 1) / 4, 0, 1) for a frame that is d chunks
    away, gamma = 0.1 2^t in step t of 4. Of other numbers of steps, t counts quarters done, from 1.
    Beyond the newest chunk, which is one away, a chunk is three latent frames.
    """

    depth: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.depth < math.inf:
            raise BadInput(f"The depth of a recency bias must be above 0; got {self.depth}.")

    @property
    def horizon(self) -> int:
        return MAX_CHUNK_FRAMES + 4 * BIAS_CHUNK_FRAMES

    def log_weight(self, place: FramePlace, moment: ReadingMoment) -> float:
        """0 for the sink and the newest chunk, falling to -depth at the fifth chunk."""
        if place.in_sink:
            return 0.0
        beyond = max(0, place.age - moment.chunk_frames)  # frames before the newest chunk
        dt = min(1.0, math.ceil(beyond / BIAS_CHUNK_FRAMES) / 4)
        gamma = 0.1 * math.pow(2, 1 + 4 * moment.step / moment.steps)
        return -self.depth * math.pow(dt, gamma)


@dataclass(frozen=True, slots=True)
class FarReading:
    """Read frames beyond the newest `near_frames` only in the last steps and the last layers.

    There most of the far past's use is (arXiv 2609.19729: the last of 4 steps, the last third of
    the layers). The sink is always read. `last_steps` 0 never reads the far past while denoising;
    `last_layers` is a share of all layers, and every `layer_stride`-th of them reads, from the last
    back. A pass reads the `share` of the far frames that its queries attend to most.
    """

    near_frames: int
    last_steps: int = 1
    last_layers: float = 1 / 3
    layer_stride: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.near_frames < 1 or self.last_steps < 0:
            raise BadInput(
                "The near past needs 1 latent frame or more and the far past 0 steps or more; got "
                f"{self.near_frames} and {self.last_steps}."
            )
        if not 0 < self.last_layers <= 1:
            raise BadInput(
                "The share of layers that read the far past must be above 0 and at most 1; got "
                f"{self.last_layers}."
            )
        if self.layer_stride < 1 or not 0 < self.share <= 1:
            raise BadInput(
                "Every first or later layer can read the far past, and a share of it above 0 and "
                f"at most 1; got {self.layer_stride} and {self.share}."
            )

    @property
    def horizon(self) -> int:
        return self.near_frames + 1

    def log_weight(self, place: FramePlace, moment: ReadingMoment) -> float:
        """0 where the frame is read, else -inf."""
        if place.in_sink or place.age <= self.near_frames:
            return 0.0
        late = moment.step >= moment.steps - self.last_steps
        return 0.0 if late and place.layer in self.reading_layers(place.layers) else NOT_READ

    def reading_layers(self, layers: int) -> range:
        """The layers, of `layers` in all, that read the far past, from the last one back."""
        first = layers - math.ceil(self.last_layers * layers - ROUNDING)
        return range(layers - 1, first - 1, -self.layer_stride)


@dataclass(frozen=True, slots=True)
class PastWeight:
    """Weigh the attention to what came before a change of prompt, so that a new subject can appear.

    Holds for the first `chunks` chunks under the new prompt; everything before it, the sink too,
    counts `weight` times: 1 as it is, 0 not at all.
    """

    weight: float
    chunks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise BadInput(f"The weight of the past must be 0 or more; got {self.weight}.")
        if not 1 <= self.chunks <= MAX_WEIGHED_CHUNKS:
            raise BadInput(
                f"The past can be weighed for 1 to {MAX_WEIGHED_CHUNKS} chunks after a change of "
                f"prompt; got {self.chunks}."
            )

    @property
    def horizon(self) -> int:
        return MAX_CHUNK_FRAMES * self.chunks

    def log_weight(self, place: FramePlace, moment: ReadingMoment) -> float:
        """Log of the weight for frames before the prompt, 0 for others and in later chunks."""
        own = moment.own_frames
        if own is None or own >= self.chunks * moment.chunk_frames or place.age <= own:
            return 0.0
        return math.log(self.weight) if self.weight else NOT_READ


@dataclass(frozen=True, slots=True)
class RuledFrames:
    """The log weights of a history's frames for one moment, by all `rules` together.

    The history ends before frame `next_frame`, where the reading chunk begins.
    """

    rules: Sequence[ReadingRule]
    moment: ReadingMoment
    next_frame: int
    sink_frames: int
    layers: int

    @property
    def horizon(self) -> int:
        """Frames at least this far before `next_frame`, except the sink's, weigh the same."""
        return max(rule.horizon for rule in self.rules)

    def log_weight(self, layer: int, frame: int) -> float:
        """The sum of all rules' log weights of latent frame `frame` in `layer`."""
        age = max(1, self.next_frame - frame)
        place = FramePlace(age, frame < self.sink_frames, layer, self.layers)
        return sum(rule.log_weight(place, self.moment) for rule in self.rules)

    def retrieved_share(self, frame: int) -> float:
        """The share of the far frames that is read; 1 for the sink and near frames."""
        age = self.next_frame - frame
        shares = [
            rule.share
            for rule in self.rules
            if isinstance(rule, FarReading) and age > rule.near_frames
        ]
        return 1.0 if frame < self.sink_frames else min(shares, default=1.0)
