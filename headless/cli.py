"""The command line: run, batch, inspect, doctor, bench.

Exit codes: 0 done, 1 failed (one line says why; --debug adds the traceback), 2 usage,
130 interrupted (says how to go on).
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from ..errors import BadInput, LongtakeError
from . import batch as batches
from . import doctor
from . import inspect as inspection
from .events import Made
from .overrides import Override, parse_override
from .progress import summary
from .runner import Job, prepare_folder
from .session import Session, session

INTERRUPTED = 130
FILE = click.Path(path_type=Path)

Command = Callable[..., None]


def comfy_option(command: Command) -> Command:
    """--comfy DIR."""
    return click.option(
        "--comfy",
        type=FILE,
        envvar="COMFYUI_PATH",
        metavar="DIR",
        help="Use the real ComfyUI checkout in DIR (default: $COMFYUI_PATH, else the stand-in).",
    )(command)


def common_options(command: Command) -> Command:
    """Options of the commands that run workflows."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of a failure."),
        click.option(
            "--out",
            type=FILE,
            default=Path("output"),
            metavar="DIR",
            help="Folder for files (default: output).",
        ),
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="NODE.INPUT=VALUE",
            help="Change an input; NODE is an id, title or type.",
        ),
    ):
        command = option(command)
    return comfy_option(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Longtake: streaming autoregressive video, without a browser."""


@main.command()
@click.argument("workflow", type=FILE)
@click.option("--report", type=FILE, metavar="FILE", help="Also write the report (JSON) to FILE.")
@common_options
def run(
    workflow: Path,
    changes: tuple[str, ...],
    out: Path,
    report: Path | None,
    comfy: Path | None,
    debug: bool,
) -> None:
    """Run one workflow in API format."""
    console = Console(soft_wrap=True)
    made = Made()
    with reported(console, made, debug=debug):
        if report is not None:
            prepare_folder(report.resolve().parent)
        job = Job(workflow, _parse(changes), out)
        with session(console, comfy, out) as live:
            seconds = live.run(job, made)
        _print_files(console, made, seconds)
        if report is not None:
            _copy_report(made, report)


@main.command()
@click.argument("workflows", type=FILE, nargs=-1, required=True)
@common_options
def batch(
    workflows: tuple[Path, ...],
    changes: tuple[str, ...],
    out: Path,
    comfy: Path | None,
    debug: bool,
) -> None:
    """Run several workflows, or a grid: repeat --set on one input to give it several values.

    A failing run does not stop the others; OUT/batch.json says how each ended.
    """
    console = Console(soft_wrap=True)
    results: list[batches.Result] = []
    with reported(console, Made(), debug=debug):
        jobs = list(batches.jobs(workflows, _parse(changes), out))
        with session(console, comfy, out) as live:
            for number, job in enumerate(jobs, 1):
                console.print(escape(f"[{number}/{len(jobs)}] {job}"), highlight=False)
                results.append(_run_one(console, live, job, debug=debug))
                batches.write_summary(results, out / "batch.json")
        failed = sum(result.error is not None for result in results)
        console.print(
            escape(f"{len(jobs) - failed} done, {failed} failed; see {out / 'batch.json'}"),
            highlight=False,
        )
    if failed:
        raise SystemExit(1)


@main.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print everything known as JSON.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def inspect(file: Path, as_json: bool, debug: bool) -> None:
    """Say what a weights file is, how it runs and what it needs, from its header.

    Exit code 1 when Longtake cannot run it.
    """
    console = Console(soft_wrap=True)
    with reported(console, Made(), debug=debug):
        found = inspection.inspect(file)
        if as_json:
            click.echo(json.dumps(found, indent=1))
        else:
            for line in inspection.lines(found):
                console.print(escape(line), highlight=False)
    if "refusal" in found:
        raise SystemExit(1)


@main.command(name="doctor")
@click.option(
    "--out", type=FILE, default=Path("output"), metavar="DIR", help="Output folder to examine."
)
@comfy_option
def doctor_command(out: Path, comfy: Path | None) -> None:
    """Examine this machine and installation."""
    console = Console(soft_wrap=True)
    findings = doctor.examine(out, comfy)
    for finding in findings:
        colour = {"ok": "green", "note": "yellow", "bad": "red"}[finding.state]
        line = f"[{colour}]{finding.state:4}[/] {finding.subject:12} {escape(finding.text)}"
        console.print(line, highlight=False)
    if any(finding.state == "bad" for finding in findings):
        raise SystemExit(1)


@main.command()
@click.argument("suite")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write the results to FILE.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def bench(suite: str, json_file: Path | None, debug: bool) -> None:
    """Run a benchmark suite."""
    console = Console(soft_wrap=True)
    with reported(console, Made(), debug=debug):
        suites = _suites()
        if suite not in suites:
            raise BadInput(
                f"there is no benchmark suite {suite!r}; choose one of {', '.join(suites)}."
            )
        importlib.import_module(f"..benchmarks.{suite}", __package__).main(json_file)


@contextmanager
def reported(console: Console, made: Made, *, debug: bool) -> Iterator[None]:
    """Turn what goes wrong inside into a line and an exit code."""
    try:
        yield
    except KeyboardInterrupt as stop:
        console.print(escape(_interrupted(made)), highlight=False)
        raise SystemExit(INTERRUPTED) from stop
    except Exception as error:
        _print_failure(console, error, debug=debug)
        raise SystemExit(1) from error


def _run_one(console: Console, live: Session, job: Job, *, debug: bool) -> batches.Result:
    made, started, problem = Made(), time.monotonic(), None
    try:
        live.run(job, made)
    except Exception as error:
        problem = _print_failure(console, error, debug=debug)
    seconds = time.monotonic() - started
    if problem is None:
        _print_files(console, made, seconds)
    return batches.Result(job, tuple(file.path for file in made.files), seconds, problem)


def _print_failure(console: Console, error: Exception, *, debug: bool) -> str:
    known = isinstance(error, LongtakeError)
    line = (
        str(error)
        if known
        else f"internal error, {type(error).__name__}: {error} (--debug shows where)"
    )
    if debug:
        console.print(escape("".join(traceback.format_exception(error))), highlight=False)
    console.print(f"[red]Failed:[/] {escape(line)}", highlight=False)
    return line


def _interrupted(made: Made) -> str:
    where = f" after chunk {made.last.chunk + 1}" if made.last else ""
    videos = ", ".join(str(path) for path in made.paths("video"))
    playable = f" {videos} is playable up to there." if videos else ""
    resume = "Run the same command again to go on from the last whole chunk."
    return f"Interrupted{where}.{playable} {resume}"


def _print_files(console: Console, made: Made, seconds: float) -> None:
    names = {
        "video": "video",
        "contact_sheet": "contact sheet",
        "report": "report",
        "frames": "picture",
    }
    told = f": {summary(made.last)}" if made.last else ""
    console.print(f"Done in {seconds:.1f} s{told}.", highlight=False)
    for file in made.files:
        console.print(
            f"{names.get(file.role, file.role):14} {escape(str(file.path))}", highlight=False
        )


def _copy_report(made: Made, target: Path) -> None:
    reports = made.paths("report")
    if not reports:
        raise BadInput("--report: this workflow makes no report; add a Save Video (Stream) node.")
    shutil.copyfile(reports[-1], target)


def _parse(changes: tuple[str, ...]) -> tuple[Override, ...]:
    return tuple(parse_override(change) for change in changes)


def _suites() -> list[str]:
    package: Any = importlib.import_module("..benchmarks", __package__)
    return sorted(
        found.name
        for found in pkgutil.iter_modules(package.__path__)
        if not found.name.startswith("_")
    )


if __name__ == "__main__":
    main()
