"""`longtake batch` beside a server that lies, refuses or hangs, and a sound one.

Every row must be done, on whichever server, without a traceback and in time.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from .instant_comfyui import WORKFLOW, InstantComfyUI
from .lying_servers import BAD_ENTRIES, LIES, ODD_ENTRIES, lying_server
from .package import folder_of_package
from .tally import Tally

KINDS = (*LIES, *BAD_ENTRIES, *ODD_ENTRIES)
ROWS, PATIENCE_S, LIMIT_S = 6, 2, 900
AT_ONCE = 6  # most of them wait


def attack(count: int, seed: int, report: Callable[[str], None]) -> Tally:
    """Meet `count` kinds of server; `report` gets each that did harm."""
    tally = Tally()
    kinds = random.Random(f"{seed} servers").sample(KINDS, min(count, len(KINDS)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for kind, problem in zip(kinds, pool.map(_meet, kinds), strict=True):
            tally.add(kind)
            if problem:
                tally.fail(problem)
                report(f"server {kind!r}: {problem}")
    return tally


def _meet(kind: str) -> str | None:
    """Run a batch beside a server of this kind; the problem, if there is one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        package = stack.enter_context(folder_of_package())
        sound = stack.enter_context(InstantComfyUI())
        liar = stack.enter_context(lying_server(kind))
        (folder / "workflow.json").write_text(json.dumps(WORKFLOW))
        rows = "".join(f'{{"1.seed": {row}}}\n' for row in range(ROWS))
        (folder / "rows.jsonl").write_text(rows)
        command = [
            sys.executable, "-m", "longtake.headless.cli", "batch",
            "--workflow", str(folder / "workflow.json"), "--params", str(folder / "rows.jsonl"),
            "--server", liar.url, "--server", sound.url, "--out", str(folder / "out"),
            "--patience", str(PATIENCE_S),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=package, capture_output=True, text=True, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return f"no end after {LIMIT_S} s"
        return _judge(done, folder / "out")


def _judge(done: subprocess.CompletedProcess[str], out: Path) -> str | None:
    output = done.stdout + done.stderr
    if "Traceback" in output:
        return f"a traceback: {output[-500:]}"
    if done.returncode:
        return f"exit code {done.returncode}: {output[-500:]}"
    states = dict[str, str]()
    for line in (out / "batch.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        if "key" in record:
            states[record["key"]] = record["state"]
    finished = sum(state == "done" for state in states.values())
    return None if finished == ROWS else f"{finished} of {ROWS} rows are done"
