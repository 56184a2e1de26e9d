"""`python bootstrap.py demo | test`: create `.venv` beside this file, install Longtake, run it.

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
PARALLEL = ("-n", "auto", "--maxprocesses", "16", "--dist", "worksteal")  # pytest-xdist
WORKFLOW = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"

HELP = """\
demo: run example_workflows/api/1_text_to_stream.json; further options go to `longtake run`.
test: run the tests; further options go to pytest.

--torch chooses the torch to install:
  --torch auto          this Python's torch if it has one, else torch==2.13.0 (the default);
                        a Python that is itself in a virtual environment cannot share its torch
  --torch torch==2.12   anything that pip accepts, also with options:
  --torch "torch==2.13.0 --index-url URL"   for the CPU build, URL from PyTorch's install page
"""


class SetupError(Exception):
    """A stage failed; the message gives the reason."""


@dataclass(frozen=True)
class Environment:
    """The virtual environment beside this file."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def python(self) -> Path:
        return self.bin / ("python.exe" if os.name == "nt" else "python")

    @property
    def stamp(self) -> Path:
        """The JSON file that describes what was installed."""
        return self.folder / "longtake.json"

    def program(self, name: str) -> str:
        return str(self.bin / (f"{name}.exe" if os.name == "nt" else name))


@dataclass(frozen=True)
class Requirements:
    """What the environment must contain."""

    torch: str
    extras: tuple[str, ...]
    project: str
    python: str

    def is_met_by(self, stamp: dict[str, object]) -> bool:
        """Return whether an installation with this stamp is sufficient."""
        extras = stamp.get("extras", [])
        same = all(
            stamp.get(name) == getattr(self, name) for name in ("torch", "project", "python")
        )
        return same and isinstance(extras, list) and set(self.extras) <= set(extras)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, install, run, and return the exit code."""
    if sys.version_info < MIN_PYTHON:
        needed, have = ".".join(map(str, MIN_PYTHON)), ".".join(map(str, sys.version_info[:3]))
        return fail(
            f"Longtake needs Python {needed} or newer, but this is {have}; "
            "run bootstrap.py with a newer Python."
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
        prepare(environment, requirements(options.torch, extras), run_quietly)
    except SetupError as reason:
        return fail(str(reason))
    except KeyboardInterrupt:
        return 130
    if options.task == "test":
        return run_visibly([environment.program("pytest"), *PARALLEL, *rest])
    return run_visibly(
        [environment.program("longtake"), "run", str(WORKFLOW), "--out", options.out, *rest]
    )


def fail(reason: str) -> int:
    """Print the reason on stderr and return the exit code."""
    sys.stderr.write(f"bootstrap: {reason}\n")
    return 1


def print_line(text: str) -> None:
    sys.stdout.write(f"bootstrap: {text}\n")
    sys.stdout.flush()


def requirements(torch: str, extras: tuple[str, ...]) -> Requirements:
    """Return the requirements of the current project with this torch and these extras."""
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return Requirements(
        torch, extras, project, f"{sys.version_info[0]}.{sys.version_info[1]} {sys.base_prefix}"
    )


def prepare(environment: Environment, needed: Requirements, run: Run) -> None:
    """Bring the environment to the required state; do nothing if it is there already."""
    stamp = read_stamp(environment)
    if stamp and works(environment, run) and needed.is_met_by(stamp):
        return
    if not stamp or stamp.get("python") != needed.python or not works(environment, run):
        create(environment, system_packages=needed.torch == "auto" and base_has_torch(), run=run)
        stamp = {"extras": []}
    install_torch(environment, needed.torch, run)
    old = stamp.get("extras", [])
    extras = sorted({*needed.extras, *(old if isinstance(old, list) else [])})
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    print_line(
        "installing Longtake and its dependencies" + (", with the test tools" if extras else "")
    )
    pip(environment, ["--editable", target], run)
    record = {
        "torch": needed.torch,
        "extras": extras,
        "project": needed.project,
        "python": needed.python,
    }
    environment.stamp.write_text(json.dumps(record))


def read_stamp(environment: Environment) -> dict[str, object]:
    """Return the stamp of an earlier run, or an empty dictionary."""
    try:
        record = json.loads(environment.stamp.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def works(environment: Environment, run: Run) -> bool:
    """Return whether the environment's Python and pip start."""
    if not environment.python.exists():
        return False
    return run([str(environment.python), "-c", "import pip"]).returncode == 0


def create(environment: Environment, *, system_packages: bool, run: Run) -> None:
    """Create the environment again; never replace a folder that is not an environment."""
    folder = environment.folder
    if folder.exists() and not (folder / "pyvenv.cfg").exists():
        raise SetupError(
            f"{folder} exists and is not a virtual environment; move it away and try again."
        )
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            "this Python cannot create virtual environments (no ensurepip); "
            "on Debian: apt install python3-venv."
        )
    print_line(f"creating {folder}" + (", with this Python's torch" if system_packages else ""))
    try:
        if folder.exists():
            shutil.rmtree(folder)
        venv.create(folder, with_pip=True, system_site_packages=system_packages)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"cannot create {folder}: {error}.") from error
    if not works(environment, run):
        raise SetupError(f"the new environment in {folder} does not start; is the disk full?")


def base_has_torch() -> bool:
    """Return whether this Python has a recent enough torch that `.venv` will see."""
    import importlib.metadata  # missing in old Pythons, which `main` rejects

    if sys.prefix != sys.base_prefix:
        return False
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in version.split(".")[:2]) >= MIN_TORCH


def install_torch(environment: Environment, choice: str, run: Run) -> None:
    """Install the chosen torch; with "auto", only if the environment has none."""
    if choice == "auto":
        if run([str(environment.python), "-c", "import torch"]).returncode == 0:
            return
        announce_needless_cuda(environment, run)
    packages = [DEFAULT_TORCH] if choice == "auto" else shlex.split(choice)
    print_line(f"installing {packages[0]} (the largest part, some minutes)")
    pip(environment, packages, run)


def announce_needless_cuda(environment: Environment, run: Run) -> None:
    """Warn on Linux without an NVIDIA GPU that the default index has the CUDA build, several GB."""
    if not sys.platform.startswith("linux") or has_nvidia_gpu():
        return
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip(environment, ["--dry-run", "--report", str(report), DEFAULT_TORCH], run)
        planned = [item["metadata"]["name"] for item in json.loads(report.read_text())["install"]]
    cuda = [name for name in planned if name.startswith(("nvidia-", "cuda-"))]
    if cuda:
        print_line(
            f"this machine has no NVIDIA GPU, but your package index has the CUDA build of torch "
            f"({len(cuda)} NVIDIA packages, several GB); for the small CPU build, stop with "
            f'Ctrl-C and add --torch "{DEFAULT_TORCH} --index-url URL" with the URL of the CPU '
            "builds from PyTorch's install page"
        )


def has_nvidia_gpu() -> bool:
    """Return whether an NVIDIA driver is installed."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def pip(environment: Environment, arguments: Sequence[str], run: Run) -> None:
    """Run `pip install`; a failure raises SetupError with pip's last error line."""
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
        raise SetupError(f"pip could not install {arguments[-1]}: {reason.removeprefix('ERROR: ')}")


def run_quietly(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command and capture its output."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_visibly(command: Sequence[str]) -> int:
    """Run in this terminal. Ctrl-C reaches the program too, so wait for it to end."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


if __name__ == "__main__":
    sys.exit(main())
