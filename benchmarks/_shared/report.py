"""The results of a bench: samples, figures and claims, with everything needed to repeat it."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from PIL import Image
from rich.console import Console

from ...errors import StorageError
from ...machine.temporary_files import write_whole
from ...stream.metrics import versions
from .paired import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG = ".png"


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence, the bound it is judged on, its limit, and whether it holds."""

    text: str
    bound: float
    limit: float
    holds: bool


@dataclass(slots=True)
class Results:
    """Everything measured by one suite; samples are in seconds.

    `notes` are texts, such as arithmetic. `accelerator` names the GPU that was used, or is None.
    """

    suite: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, Interval] = field(default_factory=dict)
    bytes: dict[str, int | None] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    accelerator: str | None = None

    def at_most(self, text: str, bound: float, limit: float) -> None:
        """Claim that `bound` is `limit` or less."""
        self.claims.append(Claim(text, bound, limit, bound <= limit))

    def at_least(self, text: str, bound: float, limit: float) -> None:
        """Claim that `bound` is `limit` or more."""
        self.claims.append(Claim(text, bound, limit, bound >= limit))

    def publish(self, json_path: Path | None) -> None:
        """Show the results, and save them to `json_path` if given."""
        publish(self, json_path)

    def save(self, path: Path) -> None:
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        """Print every figure with its interval, then the claims."""
        for name, f in self.figures.items():
            interval = f"{f.median:10.4g}  95 % [{f.low:.4g}, {f.high:.4g}]  n={f.samples}"
            console.print(f"{name:52} {interval}", highlight=False)
        for name, count in self.bytes.items():
            text = "not measured" if count is None else f"{count / 2**20:10.1f} MiB"
            console.print(f"{name:52} {text}", highlight=False)
        for name, text in self.notes.items():
            console.print(f"{name}: {text}", highlight=False)
        for claim in self.claims:
            word = "[green]holds[/]" if claim.holds else "[red]FAILS[/]"
            console.print(
                f"{word} {claim.text}: {claim.bound:.4g} (limit {claim.limit:g})", highlight=False
            )


class Publishable(Protocol):
    """The results of a suite."""

    def show(self, console: Console) -> None:
        """Print all figures and whether the claims hold."""

    def save(self, path: Path) -> None:
        """Write all results and the environment as JSON."""


def publish(results: Publishable, json_path: Path | None) -> None:
    """Show the results, and save them to `json_path` if given."""
    results.show(Console(soft_wrap=True))
    if json_path is not None:
        results.save(json_path)


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a suite's results and its environment as JSON; older results stay until it is whole."""
    text = json.dumps({**content, **setting()}, indent=1, default=_plain) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise StorageError(
            f"The results cannot be written to {path} ({error.strerror}); choose another --json "
            "file."
        ) from error


def save_figure(figure: Figure, path: Path, **options: Any) -> None:
    """Write a figure in the format of the path's ending, PNG without one.

    `options` are those of `savefig`. ValueError for an ending that matplotlib does not know.
    """
    content = io.BytesIO()
    figure.savefig(content, format=(path.suffix or PNG)[1:].lower(), **options)
    write_whole(path, content.getvalue())


def save_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format of the path's ending, PNG where pillow knows none.

    `options` are those of `Image.save`. A picture of hours of work is not lost to a wrong name.
    """
    content = io.BytesIO()
    format = Image.registered_extensions().get(path.suffix.lower() or PNG, "PNG")
    picture.save(content, format=format, **options)
    write_whole(path, content.getvalue())


def setting() -> dict[str, Any]:
    """Return versions, device, commit, command and time."""
    return {
        "versions": versions(),
        "device": device_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "command": command(sys.argv),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def command(words: Sequence[str]) -> str:
    """Return a command line for publication: files by their names, without folders."""
    program, *arguments = words
    path = Path(program)
    stem = path.parent.name if path.stem == "__main__" else path.stem
    shown = stem if path.suffix != ".py" else f"python -m longtake.benchmarks.{stem}"
    return " ".join([shown, *(Path(word).name if "/" in word else word for word in arguments)])


def _plain(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


def device_name() -> str:
    """Return the processor's name as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Return this checkout's commit, marked if files differ; None outside a git checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-changed" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
