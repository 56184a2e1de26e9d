"""The command line: run, batch, worker, push, osc, rollouts, inspect, convert, schedule, doctor and
bench.

Exit codes: 0 done, 1 failed (with a one-line reason; --debug adds the traceback), 2 wrong usage,
130 interrupted (with a hint how to resume), 143 the same by SIGTERM.
"""

from __future__ import annotations

if __name__ == "__main__":  # before torch is loaded below
    import os

    from .allocator import keep_freed_memory
    from .garbage import collect_rarely
    from .processor import choose_threads

    choose_threads(os.environ)
    keep_freed_memory(os.environ)
    collect_rarely()

import json
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from ..core.checkout import ComfyCore
from ..errors import BadInput, StorageError
from ..machine.temporary_files import write_whole
from ..model.checkpoint import open_checkpoint
from ..model.families.recognise import AUTO, EMA, RAW
from ..versions import pack_version
from .commands import convert as converting
from .commands import doctor
from .commands import inspect as inspection
from .commands.batch import batch
from .commands.bench import bench
from .commands.push import push
from .commands.rollouts import rollouts
from .commands.schedule import schedule
from .commands.watch import check_watchable, watch_run
from .commands.worker import worker
from .console.bar import progress_bar
from .console.interrupt import raise_from_now_on
from .console.options import common_options, watch_options
from .console.reporting import print_files, report_failures
from .console.values import FILE, OUTPUT_FILE, TEXT
from .events import RunFiles
from .osc.command import osc
from .player.access import Access
from .runner import Job, check_file
from .session import session
from .workflow.graph import load
from .workflow.overrides import Override, doubled


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pack_version(), prog_name="Longtake")
def main() -> None:
    """Longtake: streaming autoregressive video generation without a browser."""
    raise_from_now_on()


@main.command()
@click.argument("workflow", type=FILE)
@click.option(
    "--report", type=OUTPUT_FILE, metavar="FILE", help="Write the report (JSON) to FILE too."
)
@click.option(
    "--camera",
    type=FILE,
    metavar="FILE",
    help="Move the camera as FILE says: lines of a drive (.txt), or poses (.json, .npy, .npz, "
    ".txt).",
)
@watch_options
@common_options
def run(  # noqa: PLR0913
    workflow: Path,
    changes: tuple[Override, ...],
    out: Path,
    report: Path | None,
    camera: Path | None,
    watch: Access | None,
    comfy: ComfyCore | None,
    store: str | None,
    disable_metadata: bool,
    debug: bool,
) -> None:
    """Run a workflow in ComfyUI's API format."""
    console = Console(soft_wrap=True)
    run_files = RunFiles()
    with report_failures(console, run_files, debug=debug):
        if report is not None:
            check_file(report, "--report", "r.json")
        _check_doubled(workflow, changes)
        job = Job(workflow, changes, out, camera)
        if watch is not None:
            check_watchable(workflow)
        with (
            session(console, comfy, out, disable_metadata=disable_metadata, store=store) as live,
            watch_run(live.host, watch, console) if watch else nullcontext(),
        ):
            seconds = live.run(job, run_files)
            print_files(console, run_files, seconds)
            if report is not None:
                _write_report(run_files, report)


main.add_command(batch)
main.add_command(worker)
main.add_command(push)
main.add_command(osc)
main.add_command(rollouts)
main.add_command(schedule)
main.add_command(bench)


@main.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print all details as JSON.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def inspect(file: Path, as_json: bool, debug: bool) -> None:
    """Show what a weights file is, how it runs and what it needs.

    Reads the file's header only. The exit code is 1 if Longtake cannot run the model.
    """
    console = Console(soft_wrap=True)
    with report_failures(console, RunFiles(), debug=debug):
        findings = inspection.inspect(file)
        if as_json:
            click.echo(json.dumps(findings, indent=1))
        else:
            for line in inspection.lines(findings):
                console.print(escape(line), highlight=False)
    if "refusal" in findings:
        raise SystemExit(1)


@main.command()
@click.argument("file", type=FILE)
@click.argument("out", type=OUTPUT_FILE)
@click.option(
    "--dtype",
    type=click.Choice(list(converting.DTYPES)),
    default=converting.KEEP,
    show_default=True,
    help="Convert unquantised floats to this type; quantised weights stay as they are.",
)
@click.option(
    "--family",
    type=TEXT,
    default=AUTO,
    show_default=True,
    help="Model family, or auto to detect it.",
)
@click.option(
    "--weights",
    type=click.Choice([AUTO, EMA, RAW]),
    default=AUTO,
    show_default=True,
    help="The copy to write, if the file has two.",
)
@click.option(
    "--fps", type=click.Choice(["16", "24"]), help="Frame rate, for SkyReels-V2 DF 1.3B only."
)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def convert(  # noqa: PLR0913
    file: Path, out: Path, dtype: str, family: str, weights: str, fps: str | None, debug: bool
) -> None:
    """Write any weights file as one clean OUT.safetensors.

    OUT has one copy of the weights, official names, and a header that ComfyUI and Longtake
    understand.
    """
    console = Console(soft_wrap=True)
    with report_failures(console, RunFiles(), debug=debug):
        converting.check_arguments(out, family)
        checkpoint = open_checkpoint(file, family, weights)
        how = converting.Conversion(dtype, None if fps is None else float(fps))
        with progress_bar(console, "tensors") as advance:
            size = converting.convert(checkpoint, out, how, advance)
        title = escape(checkpoint.recognition.family.title)
        console.print(f"{title}: {escape(str(out))} ({size / 1e6:,.1f} MB)", highlight=False)
        for remark in converting.remarks(checkpoint, weights):
            console.print(escape(remark), highlight=False)


@main.command(name="doctor")
@click.option(
    "--out",
    type=FILE,
    default=Path("output"),
    metavar="DIR",
    help="Output folder to check (default: output).",
)
@click.option(
    "--comfy",
    type=FILE,
    envvar="COMFYUI_PATH",
    metavar="DIR",
    help="ComfyUI checkout to check too (default: $COMFYUI_PATH).",
)
def doctor_command(out: Path, comfy: Path | None) -> None:
    """Check this machine and installation for problems.

    The exit code is 1 if one of them would make a run fail.
    """
    console = Console(soft_wrap=True)
    findings = doctor.examine(out, comfy)
    for finding in findings:
        colour = {"ok": "green", "note": "yellow", "bad": "red"}[finding.state]
        line = f"[{colour}]{finding.state:4}[/] {finding.subject:12} {escape(finding.text)}"
        console.print(line, highlight=False)
    if any(finding.state == "bad" for finding in findings):
        raise SystemExit(1)


def _check_doubled(workflow: Path, changes: tuple[Override, ...]) -> None:
    """Refuse two values for one input: the first would have no effect."""
    if len(changes) > 1 and (names := doubled(load(workflow), changes)):
        raise click.UsageError(
            f"--set gives {' and '.join(names)} two values, and a run takes one; keep one, or try "
            "both with `longtake batch`."
        )


def _write_report(run_files: RunFiles, target: Path) -> None:
    """Copy the report beside the video; write that which was only shown, where none is there."""
    saved = run_files.paths("report")
    if not saved and run_files.report is None:
        raise BadInput(
            "--report: this run made no report; add a Save Video (Stream) node, and leave a dry "
            "run out."
        )
    own = f", and its report is {saved[-1]}" if saved else ""
    try:
        if saved and target.exists() and target.samefile(saved[-1]):
            return  # the node has written it there
        shown = json.dumps(run_files.report, indent=2) + "\n"
        write_whole(target, saved[-1].read_bytes() if saved else shown)
    except OSError as error:
        raise StorageError(
            f"--report {target} cannot be written ({error.strerror}); the run is done{own}."
        ) from error


if __name__ == "__main__":
    main()
