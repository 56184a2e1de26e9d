"""The prompt timeline: the lines that users type, and the value that the sampler takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ...errors import BadInput
from ...stream.rollout.live.controls import STRENGTH_DIGITS
from ...stream.rollout.live.edit_queue import RANGES
from ...stream.rollout.spec import Prompter
from ...timed_lines import MAX_SECONDS, match_time, read_options, timed_lines
from .timed_numbers import TimedNumber

_RANGES = {"guidance": RANGES["guidance"], "lora": RANGES["lora"], "over": (0.0, MAX_SECONDS)}
EXAMPLES = "`5.5: a red ball` or `1:30: a blue ball`"


@dataclass(frozen=True, slots=True)
class TimedText:
    """A prompt as text with its start time and blend time.

    `guidance` is a new strength if any, `lora` a new factor on the strength of all LoRAs.
    """

    start_s: float
    text: str
    guidance: float | None = None
    over_s: float = 0.0
    lora: float | None = None


@dataclass(frozen=True, slots=True)
class TimedEmbedding:
    """A `TimedText` with the embedding (l, c) of its prompt."""

    start_s: float
    embedding: Tensor
    text: str
    guidance: float | None = None
    over_s: float = 0.0
    lora: float | None = None


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
    `(guidance STRENGTH)` and `(lora FACTOR)` hold until another line changes them, and `(over
    SECONDS)` blends the prompt in; they may stand together with commas between.
    """
    entries = [
        TimedText(line.start_s, line.text, **_options(line.option, line.number))
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
    options += [] if entry.lora is None else [f"lora {_short(entry.lora)}"]
    options += [f"over {_short(entry.over_s)}"] if entry.over_s else []
    start = _short(entry.start_s)
    rest = f" ({', '.join(options)}): {entry.text}" if options else f": {entry.text}"
    read = match_time(f"{start}{rest}")
    return f"{start}{rest}" if read and read["time"] == start else f"{start} s{rest}"


def _short(value: float) -> str:
    """Round to the digits of a guidance strength, which is finer than a frame's time."""
    return f"{value:.{STRENGTH_DIGITS}f}".rstrip("0").rstrip(".")


def _options(text: str | None, line: int) -> dict[str, float]:
    """Read guidance strength, LoRA factor and blend time from the brackets of a line."""
    options = {} if text is None else read_options(text, _RANGES)
    if options is None or not all(_in_range(name, value) for name, value in options.items()):
        raise BadInput(
            f"Line {line} has ({text}) before its colon; write (guidance 3) with a "
            f"strength from 0 to {RANGES['guidance'][1]:g}, (lora 0.5) with a factor from "
            f"{RANGES['lora'][0]:g} to {RANGES['lora'][1]:g}, (over 2) with seconds to blend "
            "over, several of these with commas between, or nothing."
        )
    over_s = options.pop("over", 0.0)
    return {**options, "over_s": over_s}


def _in_range(name: str, value: float) -> bool:
    least, most = _RANGES[name]
    return least <= value <= most
