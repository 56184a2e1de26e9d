"""The prompt timeline: the lines that users type, and the value that the sampler takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from torch import Tensor

from ...errors import BadInput
from ...stream.rollout.live.controls import STRENGTH_DIGITS
from ...stream.rollout.live.edit_queue import MAX_GUIDANCE
from ...stream.rollout.spec import Prompter
from .timed_lines import MAX_SECONDS, match_time, timed_lines
from .timed_numbers import TimedNumber

_OPTION = re.compile(
    r"\s*(?P<name>guidance|over)\s+(?P<value>\d+(?:\.\d*)?)\s*s?\s*", re.IGNORECASE
)
EXAMPLES = "`5.5: a red ball` or `1:30: a blue ball`"


@dataclass(frozen=True, slots=True)
class TimedText:
    """A prompt as text with its start time, a new guidance strength if any, and its blend time."""

    start_s: float
    text: str
    guidance: float | None = None
    over_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TimedEmbedding:
    """A `TimedText` with the embedding (l, c) of its prompt."""

    start_s: float
    embedding: Tensor
    text: str
    guidance: float | None = None
    over_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SecondPrompt:
    """An embedding (l, c) that is mixed into all prompts, and its share from 0 to 1 over time."""

    embedding: Tensor
    shares: tuple[TimedNumber, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Prompts in written order, and the embedding (l, c) of the negative prompt.

    One prompt starts at 0. Of several prompts for one chunk, the last one counts. `prompter`
    encodes live edits. `strengths` are of the guidance, in place of those of the prompts.
    """

    entries: tuple[TimedEmbedding, ...]
    negative: Tensor
    prompter: Prompter | None = None
    strengths: tuple[TimedNumber, ...] = ()
    second: SecondPrompt | None = None

    def without_words(self) -> Timeline:
        """The same times for a model that reads no prompt: embeddings of no width."""
        entries = tuple(
            replace(entry, embedding=entry.embedding[:1, :0], over_s=0.0) for entry in self.entries
        )
        return replace(self, entries=entries, negative=self.negative[:1, :0], second=None)


def parse(text: str) -> list[TimedText]:
    """Read `SECONDS: prompt` lines, also of minutes and hours (`1:00:05: prompt`), in any order.

    A line without a time continues the prompt above, or starts at second 0. After the time,
    `(guidance STRENGTH)` holds until another line changes it, and `(over SECONDS)` blends the
    prompt in; both may stand together with a comma between.
    """
    entries = [
        TimedText(line.start_s, line.text, *_options(line.option, line.number))
        for line in timed_lines(text, EXAMPLES)
    ]
    first = min((entry.start_s for entry in entries), default=0.0)
    if first != 0:
        raise BadInput(f"The first prompt starts at {first:g} s; add a line that starts at 0.")
    return entries or [TimedText(0.0, "")]


def format_line(entry: TimedText) -> str:
    """Write the line that `parse` reads as `entry`; its text must have no line breaks.

    The time gets a unit where the text, such as `:`, would otherwise be read as part of it.
    """
    options = [] if entry.guidance is None else [f"guidance {_short(entry.guidance)}"]
    options += [f"over {_short(entry.over_s)}"] if entry.over_s else []
    start = _short(entry.start_s)
    rest = f" ({', '.join(options)}): {entry.text}" if options else f": {entry.text}"
    read = match_time(f"{start}{rest}")
    return f"{start}{rest}" if read and read["time"] == start else f"{start} s{rest}"


def _short(value: float) -> str:
    """Round to the digits of a guidance strength, which is finer than a frame's time."""
    return f"{value:.{STRENGTH_DIGITS}f}".rstrip("0").rstrip(".")


def _options(text: str | None, line: int) -> tuple[float | None, float]:
    """Read the guidance strength and the blend time from the brackets of a line."""
    options: dict[str, float] = {}
    for part in text.split(",") if text is not None else ():
        match = _OPTION.fullmatch(part)
        name, value = (match["name"].lower(), float(match["value"])) if match else ("", -1.0)
        largest = {"guidance": MAX_GUIDANCE, "over": MAX_SECONDS}.get(name, -1.0)
        if not 0 <= value <= largest or name in options:
            raise BadInput(
                f"Line {line} has ({text}) before its colon; write (guidance 3) with a "
                f"strength from 0 to {MAX_GUIDANCE:g}, (over 2) with seconds to blend over, "
                "(guidance 3, over 2), or nothing."
            )
        options[name] = value
    return options.get("guidance"), options.get("over", 0.0)
