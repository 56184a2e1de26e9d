"""One flipped bit in a file of the journal, while two shots are half made.

The damaged file must be noticed and made again, and the other shot must not suffer.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ...stream.journal.journal import Journal
from ...stream.journal.records import read_records
from ...stream.journal.snapshots import ENDING
from .._long.kill import Outcome, run_once
from .tally import Tally

SHOTS = (("causal", "snapshot"), ("rolling", "replay"), ("pyramid", "snapshot"))
HALF_MADE = 6  # journals, each killed at other points
CHUNK, RECORD = ".safetensors", ".rollout"


def attack(count: int, seed: int, report: Callable[[str], None]) -> Tally:
    """Flip `count` bits, one at a time; `report` gets each that did harm."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        whole = {shot: run_once(root / "-".join(shot), *shot, None) for shot in SHOTS}
        sources = [_make_half(root / str(i), whole, seed + i) for i in range(HALF_MADE)]
        for number in range(count):
            dice = random.Random(f"{seed} flip {number}")
            copy = root / "copy"
            shutil.copytree(dice.choice(sources), copy)
            kind, where = _flip(copy / "journal", dice)
            tally.add(kind)
            problem = _run_again(copy, whole)
            if problem:
                tally.fail(problem)
                report(f"flip {number} in a {kind}, {where}: {problem}")
            shutil.rmtree(copy)
    return tally


def _make_half(folder: Path, whole: Mapping[tuple[str, str], Outcome], seed: int) -> Path:
    """A journal of all shots, each killed at a point of its own."""
    dice = random.Random(f"{seed} half made")
    for shot, outcome in whole.items():
        run_once(folder, *shot, dice.randint(outcome.points // 2, outcome.points))
    return folder


def _flip(journal: Path, dice: random.Random) -> tuple[str, str]:
    """Flip one bit; chunks, snapshots and records are equally likely."""
    files: dict[str, list[Path]] = {"chunk": [], "snapshot": [], "record": []}
    for path in sorted(journal.iterdir()):
        if path.name.endswith(ENDING):
            files["snapshot"].append(path)
        elif path.suffix == CHUNK:
            files["chunk"].append(path)
        elif path.suffix == RECORD:
            files["record"].append(path)
    kind = dice.choice([name for name, paths in files.items() if any(map(_size, paths))])
    path = dice.choice([path for path in files[kind] if _size(path)])
    content = bytearray(path.read_bytes())
    at = dice.randrange(len(content))
    content[at] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    return kind, f"byte {at} of {len(content)}"


def _run_again(folder: Path, whole: Mapping[tuple[str, str], Outcome]) -> str | None:
    """Run all shots to their ends; the problem, if there is one."""
    usable, _ = read_records(Journal(folder / "journal"))
    if len(usable) < len(whole) - 1:
        return f"{len(whole) - len(usable)} of {len(whole)} records cannot be read"
    for shot, expected in whole.items():
        outcome = run_once(folder, *shot, None)
        if (outcome.latents, outcome.frames) != (expected.latents, expected.frames):
            return f"{' by '.join(shot)} has other latents or frames"
    usable, unusable = read_records(Journal(folder / "journal"))
    if unusable or len(usable) != len(whole):
        return f"afterwards {len(usable)} records of {len(whole)} can be read"
    return None


def _size(path: Path) -> int:
    return path.stat().st_size
