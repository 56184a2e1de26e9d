"""`python bootstrap.py demo | test`: make `.venv` beside this file, install Longtake into it, run.

Standard library only. A second run installs nothing unless pyproject.toml or the choice of torch
has changed. See `python bootstrap.py --help` for the options.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Run = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parent
MIN_PYTHON = (3, 10)
MIN_TORCH = (2, 5)
DEFAULT_TORCH = "torch==2.13.0"
WORKFLOW = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"

HELP = """\
demo: run example_workflows/api/1_text_to_stream.json; options after it go to `longtake run`.
test: run the tests; options after it go to pytest.

--torch chooses the torch to install:
  --torch auto          torch of this Python if it has one, else torch==2.13.0 (the default)
  --torch torch==2.12   anything pip understands, options too:
  --torch "torch==2.13.0 --index-url URL"   for the CPU build, URL from PyTorch's install page
"""


class Failed(Exception):
    """A stage failed; the message is the one reason."""


@dataclass(frozen=True)
class Environment:
    """The virtual environment beside this file."""

    folder: Path

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.bin / ("python.exe" if os.name == "nt" else "python")

    @property
    def stamp(self) -> Path:
        """What was installed into it, as JSON."""
        return self.folder / "longtake.json"

    def program(self, name: str) -> str:
        """The path of an installed program."""
        return str(self.bin / (f"{name}.exe" if os.name == "nt" else name))


@dataclass(frozen=True)
class Wanted:
    """What the environment must hold."""

    torch: str
    extras: tuple[str, ...]
    project: str
    python: str

    def is_met_by(self, stamp: dict[str, object]) -> bool:
        """Whether an installation with this stamp will do."""
        extras = stamp.get("extras", [])
        same = all(
            stamp.get(name) == getattr(self, name) for name in ("torch", "project", "python")
        )
        return same and isinstance(extras, list) and set(self.extras) <= set(extras)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, install, run; gives the exit code."""
    if sys.version_info < MIN_PYTHON:
        needed, have = ".".join(map(str, MIN_PYTHON)), ".".join(map(str, sys.version_info[:3]))
        return fail(
            f"Longtake needs Python {needed} or newer, and this is {have}; "
            "run bootstrap.py with a newer one."
        )
    parser = argparse.ArgumentParser(
        description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("task", choices=("demo", "test"))
    parser.add_argument("--torch", default=os.environ.get("LONGTAKE_TORCH", "auto"), metavar="SPEC")
    parser.add_argument(
        "--out", default=str(ROOT / "output"), metavar="DIR", help="where the demo writes"
    )
    options, rest = parser.parse_known_args(arguments)
    environment = Environment(ROOT / ".venv")
    extras = ("test",) if options.task == "test" else ()
    try:
        prepare(environment, wanted(options.torch, extras), run_quietly)
    except Failed as reason:
        return fail(str(reason))
    except KeyboardInterrupt:
        return 130
    if options.task == "test":
        return run_visibly([environment.program("pytest"), *rest])
    return run_visibly(
        [environment.program("longtake"), "run", str(WORKFLOW), "--out", options.out, *rest]
    )


def fail(reason: str) -> int:
    """Say why on stderr; gives the exit code."""
    sys.stderr.write(f"bootstrap: {reason}\n")
    return 1


def say(text: str) -> None:
    """One line for one stage."""
    sys.stdout.write(f"bootstrap: {text}\n")
    sys.stdout.flush()


def wanted(torch: str, extras: tuple[str, ...]) -> Wanted:
    """What to install: the project as it is now, with this torch and these extras."""
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return Wanted(
        torch, extras, project, f"{sys.version_info[0]}.{sys.version_info[1]} {sys.base_prefix}"
    )


def prepare(environment: Environment, want: Wanted, run: Run) -> None:
    """Bring the environment to what is wanted, doing nothing when it is so already."""
    stamp = read_stamp(environment)
    if stamp and works(environment, run) and want.is_met_by(stamp):
        return
    if not stamp or stamp.get("python") != want.python or not works(environment, run):
        create(environment, system_packages=want.torch == "auto" and base_has_torch(), run=run)
        stamp = {"extras": []}
    install_torch(environment, want.torch, run)
    old = stamp.get("extras", [])
    extras = sorted({*want.extras, *(old if isinstance(old, list) else [])})
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    say(
        "installing Longtake and what it needs" + (" with the tools of the tests" if extras else "")
    )
    pip(environment, ["--editable", target], run)
    record = {"torch": want.torch, "extras": extras, "project": want.project, "python": want.python}
    environment.stamp.write_text(json.dumps(record))


def read_stamp(environment: Environment) -> dict[str, object]:
    """What a former run noted, or nothing."""
    try:
        record = json.loads(environment.stamp.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def works(environment: Environment, run: Run) -> bool:
    """Whether the environment's Python and pip start."""
    if not environment.python.exists():
        return False
    return run([str(environment.python), "-c", "import pip"]).returncode == 0


def create(environment: Environment, *, system_packages: bool, run: Run) -> None:
    """Make the environment anew; a folder of that name that is no environment is left alone."""
    folder = environment.folder
    if folder.exists() and not (folder / "pyvenv.cfg").exists():
        raise Failed(
            f"{folder} exists and is not a virtual environment; move it away and try again."
        )
    if importlib.util.find_spec("ensurepip") is None:
        raise Failed(
            "this Python cannot make virtual environments (no ensurepip); "
            "on Debian: apt install python3-venv."
        )
    say(f"making {folder}" + (", with the torch of this Python" if system_packages else ""))
    try:
        if folder.exists():
            shutil.rmtree(folder)
        venv.create(folder, with_pip=True, system_site_packages=system_packages)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed(f"cannot make {folder}: {error}.") from error
    if not works(environment, run):
        raise Failed(f"the new environment in {folder} does not start; is the disk full?")


def base_has_torch() -> bool:
    """Whether the Python that runs this file has a torch new enough, where `.venv` will see it."""
    import importlib.metadata  # not in the old Pythons that `main` turns away

    if sys.prefix != sys.base_prefix:
        return False
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in version.split(".")[:2]) >= MIN_TORCH


def install_torch(environment: Environment, choice: str, run: Run) -> None:
    """Install the chosen torch, unless the environment has one and the choice was left open."""
    if choice == "auto":
        if run([str(environment.python), "-c", "import torch"]).returncode == 0:
            return
        announce_needless_cuda(environment, run)
    packages = [DEFAULT_TORCH] if choice == "auto" else shlex.split(choice)
    say(f"installing {packages[0]} (the largest part, some minutes)")
    pip(environment, packages, run)


def announce_needless_cuda(environment: Environment, run: Run) -> None:
    """On Linux the usual index holds the CUDA build, several GB: say so where no NVIDIA GPU is."""
    if not sys.platform.startswith("linux") or has_nvidia_gpu():
        return
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip(environment, ["--dry-run", "--report", str(report), DEFAULT_TORCH], run)
        planned = [item["metadata"]["name"] for item in json.loads(report.read_text())["install"]]
    cuda = [name for name in planned if name.startswith(("nvidia-", "cuda-"))]
    if cuda:
        say(
            f"this machine has no NVIDIA GPU, but your package index has the CUDA build of torch "
            f"({len(cuda)} NVIDIA packages, several GB); to take the small CPU build, stop with "
            f'Ctrl-C and add --torch "{DEFAULT_TORCH} --index-url URL" with the URL of the CPU '
            "builds from PyTorch's install page"
        )


def has_nvidia_gpu() -> bool:
    """Whether a driver is there."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def pip(environment: Environment, arguments: Sequence[str], run: Run) -> None:
    """`pip install`; a failure becomes pip's own last error line."""
    done = run(
        [
            str(environment.python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *arguments,
        ]
    )
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in lines if line.startswith("ERROR:")),
            lines[-1] if lines else "no reason given",
        )
        raise Failed(f"pip could not install {arguments[-1]}: {reason.removeprefix('ERROR: ')}")


def run_quietly(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run with the output kept."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_visibly(command: Sequence[str]) -> int:
    """Run in our terminal. Ctrl-C reaches the program too and it decides how to end: wait."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


if __name__ == "__main__":
    sys.exit(main())
