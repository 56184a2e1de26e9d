"""Lines of camera moves as users type them, and the path that they give."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BadInput
from ...samplers.camera.moves import CameraMotion, read_motion
from ...samplers.camera.path import CameraPath, Lens
from ...samplers.camera.script import TimedMotion, path_of_motions
from ...timed_lines import MAX_OVER_S, check_starts, read_change, timed_lines
from ..length import MAX_SECONDS, latent_frame_at

EXAMPLES = "`4: forward` or `1:30 (over 2): pan left 20`"


@dataclass(frozen=True, slots=True)
class TimedMoves:
    """A motion from `start_s` seconds on, reached over `over_s` seconds, evenly or `smooth`ly."""

    start_s: float
    motion: CameraMotion
    over_s: float = 0.0
    smooth: bool = False


def read_moves(text: str) -> tuple[TimedMoves, ...]:
    """Read `SECONDS: moves` lines, in any order; before the first line the camera stands still.

    After the time, `(over SECONDS)` changes the speed evenly and `(smooth SECONDS)` slowly at both
    ends. BadInput names two lines for one time, or a line that cannot be read.
    """
    lines = timed_lines(text, EXAMPLES)
    check_starts(lines)
    return tuple(
        TimedMoves(
            _checked_start(line.start_s, line.number),
            read_motion(line.text, line.number),
            *_option(line.option, line.number),
        )
        for line in lines
    )


def path_of_lines(moves: tuple[TimedMoves, ...], fps: float, frame_s: float) -> CameraPath:
    """The path of moves at `fps` frames a second, with latent frames of `frame_s` seconds.

    A move begins with the nearest latent frame; of two for one frame the lower line counts.
    """
    timed = [
        TimedMotion(
            round(latent_frame_at(line.start_s, fps)),
            line.motion,
            round(line.over_s / frame_s),
            line.smooth,
        )
        for line in moves
    ]
    return path_of_motions(timed, frame_s, Lens())


def drive_start_s(drive: str) -> float:
    """The first time of a drive's lines."""
    return min(line.start_s for line in timed_lines(drive, EXAMPLES))


def with_drive(text: str, drive: str) -> str:
    """The lines of a camera, replaced by those of a drive from its first time on."""
    start_s = drive_start_s(drive)
    lines, entries = text.splitlines(), timed_lines(text, EXAMPLES)
    stops = [entry.number - 1 for entry in entries[1:]]
    before = [
        "\n".join(lines[entry.number - 1 : stop]).rstrip()
        for entry, stop in zip(entries, [*stops, len(lines)], strict=False)
        if entry.start_s < start_s
    ]
    return "\n".join([*before, drive])


def _checked_start(start_s: float, line: int) -> float:
    if start_s > MAX_SECONDS:
        raise BadInput(f"Line {line} starts at {start_s:g} s; a shot is at most {MAX_SECONDS} s.")
    return start_s


def _option(text: str | None, line: int) -> tuple[float, bool]:
    """Read the seconds of a change of speed, and whether it is smooth, from a line's brackets."""
    if text is None:
        return 0.0, False
    change = read_change(text, ("over", "smooth"))
    if change is None:
        raise BadInput(
            f"Line {line} has ({text}) before its colon; write (over 2) or (smooth 2) with the "
            f"seconds in which the speed changes, at most {MAX_OVER_S:g}, or nothing."
        )
    kind, seconds = change
    return seconds, kind == "smooth"
