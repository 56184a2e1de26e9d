"""Measures how the cost of a chunk grows, and judges that it does not grow faster than the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._shared.demo import demo_weights
from .._shared.demo_shot import CHUNK
from .._shared.paired import Interval, median_interval, ratio_interval
from .._shared.process_memory import peak_bytes, resident_bytes
from .._shared.report import Results
from .shots import Line, Studio, advance, chunk_seconds, memory_case, open_studio

LENGTH, SHOTS, BRANCHES = "length", "shots", "branches"
MARKS = (64, 128, 256, 512, 1024, 2048, 4096)
COUNTS = (1, 2, 3, 4)
VIEWS = (1, 2, 3, 4, 6, 8)
MAX_GROWTH = 1.05  # of a chunk's time, and of memory, over what the work explains


@dataclass(frozen=True, slots=True)
class GrowthPlan:
    """The rounds of every comparison, the marks in latent frames, and the parts to measure."""

    rounds: int = 41
    marks: tuple[int, ...] = MARKS
    parts: tuple[str, ...] = (LENGTH, SHOTS, BRANCHES)
    memory: bool = True


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    measure(GrowthPlan()).publish(json_path)


def measure(plan: GrowthPlan) -> Results:
    """Measure the parts that the plan names."""
    results = Results("growth", notes={"demo": ", ".join(demo_weights())})
    with open_studio() as studio:
        for part in plan.parts:
            PARTS[part](plan, studio, results)
    return results


def measure_length(plan: GrowthPlan, studio: Studio, results: Results) -> None:
    """Compare chunks at each mark of one long shot with chunks of a shot that has begun."""
    chunks = [mark // CHUNK for mark in plan.marks]
    line = studio.open(CHUNK * (chunks[-1] + plan.rounds * len(chunks) + 1))
    position = 0
    for mark, chunk in zip(plan.marks, chunks, strict=True):
        advance(line, max(0, chunk - position))
        early, late = _in_turns(studio.open_warm(plan.rounds + 1), line, plan.rounds)
        position = max(position, chunk) + plan.rounds
        name = labelled(LENGTH, mark)
        results.samples[f"{name}: a chunk's s"] = late
        results.figures[f"{name}: a chunk's s"] = median_interval(late)
        results.figures[f"{name}: over a chunk at the start"] = ratio_interval(late, early)
        results.bytes[f"{name}: resident"] = resident_bytes()
    judge_length(plan.marks, results)


def judge_length(marks: Sequence[int], results: Results) -> None:
    """Claim that neither time nor memory grows from the first mark to the last."""
    first, last = (labelled(LENGTH, mark) for mark in (marks[0], marks[-1]))
    growth = results.figures[f"{last}: over a chunk at the start"]
    text = f"{last}: a chunk takes no longer than at the start"
    results.at_most(text, growth.high, MAX_GROWTH)
    before, after = (results.bytes[f"{mark}: resident"] or 0 for mark in (first, last))
    results.at_most(f"{last}: resident memory over {marks[0]}", after / before, MAX_GROWTH)


def _in_turns(first: Line, second: Line, rounds: int) -> tuple[list[float], list[float]]:
    """Return seconds of chunks of two shots, each of which begins every other round."""
    seconds: tuple[list[float], list[float]] = [], []
    lines = first, second
    for turn in range(rounds):
        for number in (0, 1) if turn % 2 else (1, 0):
            seconds[number].append(chunk_seconds([lines[number]]))
    return seconds


def measure_shots(plan: GrowthPlan, studio: Studio, results: Results) -> None:
    """Time a chunk of each of several shots, which are decoded too."""
    groups = {count: [studio.open_warm(plan.rounds + 1) for _ in range(count)] for count in COUNTS}
    _compare(SHOTS, groups, plan, results)


def measure_branches(plan: GrowthPlan, studio: Studio, results: Results) -> None:
    """Time a chunk under more and more branches; decoding, which they share, is left out."""
    groups = {count: [studio.open_warm(plan.rounds + 1, count, decodes=False)] for count in VIEWS}
    _compare(BRANCHES, groups, plan, results)


def _compare(
    part: str, groups: Mapping[int, Sequence[Line]], plan: GrowthPlan, results: Results
) -> None:
    """Let the groups take turns, and judge each beside the first."""
    seconds: dict[int, list[float]] = {count: [] for count in groups}
    counts = [*groups]
    for turn in range(plan.rounds):
        first = turn % len(counts)
        for count in counts[first:] + counts[:first]:
            seconds[count].append(chunk_seconds(groups[count]))
    for count in counts:
        name = labelled(part, count)
        results.samples[f"{name}: a chunk's s"] = seconds[count]
        results.figures[f"{name}: a chunk's s"] = median_interval(seconds[count])
        if plan.memory:
            results.bytes[f"{name}: peak"] = peak_bytes(memory_case, part, count)
        if count > 1:
            judge_count(part, count, ratio_interval(seconds[count], seconds[1]), results)


def judge_count(part: str, count: int, ratio: Interval, results: Results) -> None:
    """Claim that `count` of them cost no more than so many times one."""
    name = labelled(part, count)
    results.figures[f"{name}: times one"] = ratio
    share = ratio.high / count
    results.at_most(f"{name}: time grows no faster than linearly", share, MAX_GROWTH)
    peak, of_one = (results.bytes.get(f"{labelled(part, n)}: peak") for n in (count, 1))
    if peak and of_one:
        text = f"{name}: memory grows no faster than linearly"
        results.at_most(text, peak / of_one / count, MAX_GROWTH)


def labelled(part: str, count: int) -> str:
    """The label of a mark or a count."""
    return f"{part} {count}"


PARTS: Mapping[str, Callable[[GrowthPlan, Studio, Results], None]] = {
    LENGTH: measure_length, SHOTS: measure_shots, BRANCHES: measure_branches,
}  # fmt: skip
