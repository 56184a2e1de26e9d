"""`longtake batch --server` with servers that work, die, return and reject rows."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from longtake.benchmarks._attack.instant_comfyui import WORKFLOW
from longtake.headless import cli
from longtake.headless.batch.record import Records
from longtake.headless.batch.servers import remote, watch, worker
from longtake.tests.support.fake_comfyui import FakeComfyUI
from longtake.tests.support.stream.live_servers import wait_until

MAIN = f"""
import signal
import sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
import conftest
from longtake.headless import cli
from longtake.headless.batch.servers import watch
watch.POLL_S = 0.02
cli.main()
"""


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.02)
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(worker, "MAX_PAUSE_S", 0.05)
    monkeypatch.setattr(worker, "LOST_AFTER_S", 0.2)
    monkeypatch.setattr(remote, "GREETING_PAUSE_S", 0.01)
    monkeypatch.delenv("COMFYUI_PATH", raising=False)


@pytest.fixture
def servers() -> Iterator[Callable[[], FakeComfyUI]]:
    started: list[FakeComfyUI] = []

    def start() -> FakeComfyUI:
        started.append(FakeComfyUI())
        return started[-1]

    yield start
    for fake in started:
        if fake.alive:
            fake.stop()


@pytest.fixture
def server(servers: Callable[[], FakeComfyUI]) -> FakeComfyUI:
    return servers()


def arguments(folder: Path, *fakes: FakeComfyUI, table: str = "1.seed\n3\n4\n5\n") -> list[str]:
    (folder / "w.json").write_text(json.dumps(WORKFLOW))
    (folder / "rows.csv").write_text(table, encoding="utf-8")
    there = [part for fake in fakes for part in ("--server", fake.url)]
    files = ["--workflow", str(folder / "w.json"), "--params", str(folder / "rows.csv")]
    return ["batch", *files, *there, "--out", str(folder / "o"), "--patience", "120"]


def run(folder: Path, *fakes: FakeComfyUI, **options: Any) -> Result:
    return CliRunner().invoke(cli.main, arguments(folder, *fakes, **options))


def run_while(act: Callable[[], None], folder: Path, *fakes: FakeComfyUI, **options: Any) -> Result:
    """Run a batch while something happens to its servers; afterwards they hold no prompts."""

    def act_and_release() -> None:
        try:
            act()
        finally:
            for fake in fakes:
                fake.stuck = set()
                fake.hold.set()

    with ThreadPoolExecutor(1) as beside:
        happening = beside.submit(act_and_release)
        result = run(folder, *fakes, **options)
        happening.result()
    return result


def rows(folder: Path) -> list[dict[str, Any]]:
    records = Records(folder / "o")
    records.resume()
    return [asdict(row) for row in records.rows]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "o" / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def seed_of(body: dict[str, Any]) -> int:
    seed: int = body["prompt"]["1"]["inputs"]["seed"]
    return seed


def check_losses(folder: Path, lost: set[int]) -> None:
    """Check that each row was queued once more than it was lost, and that these seeds were lost
    once.
    """
    for row in rows(folder):
        assert row["attempt"] == row["losses"] + 1 <= 2
        assert row["losses"] == 1 or int(row["values"]["1.seed"]) not in lost


def test_rows_become_prompts_and_their_files_come_back(tmp_path: Path, server: FakeComfyUI) -> None:
    result = run(tmp_path, server, table="1.seed,Count.text,1.scale\n3,x y,2\n4,,\n")
    assert result.exit_code == 0, result.output
    inputs = [body["prompt"]["1"]["inputs"] for body in server.received]
    assert inputs[0] == {"seed": 3, "scale": 2.0, "text": "x y", "kind": "up"}
    assert inputs[1] == {"seed": 4, "scale": 1.0, "text": "a", "kind": "up"}
    assert [row["seconds"] for row in table(tmp_path)] == ["2.5", "2.5"]
    assert [row["frames"] for row in table(tmp_path)] == ["33", "33"]
    for number, row in zip((3, 4), rows(tmp_path), strict=True):
        [file] = row["files"]  # the preview in the temp folder is left there
        with Image.open(tmp_path / "o" / file["path"]) as image:
            assert image.getpixel((0, 0)) == (number, 0, 0)
    page = (tmp_path / "o" / "results.html").read_text()
    assert (
        page.count("data:image/jpeg;base64,") == 2 and rows(tmp_path)[0]["files"][0]["path"] in page
    )


def test_failing_and_refused_rows_are_one_line_each_and_stop_nobody(
    tmp_path: Path, server: FakeComfyUI
) -> None:
    result = run(tmp_path, server, table="1.text\nfail\nrefuse\nfine\n")
    assert result.exit_code == 1 and "1 done, 2 failed" in result.output
    lines = [line for line in result.output.splitlines() if " failed: " in line]
    ends = sorted(line.partition("] ")[2] for line in lines)
    assert ends == [
        "row 1 (1.text=fail) failed: Node 1 (Count) failed with ValueError: no such thing",
        f"row 2 (1.text=refuse) failed: {server.url} rejected the workflow: node 1 (Count): "
        "Value not in list: kind: 'x' not in [up].",
    ]
    assert [row["state"] for row in table(tmp_path)] == ["failed", "failed", "done"]
    again = run(tmp_path, server, table="1.text\nfail\nrefuse\nfine\n")
    assert again.exit_code == 1
    texts = [body["prompt"]["1"]["inputs"]["text"] for body in server.received]
    assert sorted(texts) == ["fail", "fail", "fine"]  # failed rows are tried again, done ones not


def test_a_row_with_one_wrong_output_is_refused_and_taken_back(
    tmp_path: Path, server: FakeComfyUI
) -> None:
    """The server would run the other outputs, and the row would be done without a file."""
    server.hold.clear()
    result = run(tmp_path, server, table="1.text\nrefuse a part\n")
    assert result.exit_code == 1 and "rejected the workflow: node 1 (Count)" in result.output
    assert server.dropped == [body["prompt_id"] for body in server.received]
    server.hold.set()


def test_two_servers_share_the_rows(tmp_path: Path, servers: Callable[[], FakeComfyUI]) -> None:
    one, two = servers(), servers()
    one.hold.clear()
    result = run_while(
        lambda: wait_until(lambda: len(two.received) >= 3),
        tmp_path,
        one,
        two,
        table="1.seed\n1\n2\n3\n4\n5\n6\n",
    )
    assert result.exit_code == 0, result.output
    assert sorted(one.seeds() + two.seeds()) == [1, 2, 3, 4, 5, 6]
    assert {row["server"] for row in table(tmp_path)} == {one.url, two.url}


def test_the_rows_of_a_server_that_dies_go_to_another(
    tmp_path: Path, servers: Callable[[], FakeComfyUI]
) -> None:
    dying, steady = servers(), servers()
    dying.die_at = 1
    result = run(tmp_path, dying, steady)
    assert result.exit_code == 0, result.output
    assert {row["server"] for row in table(tmp_path)} == {steady.url}
    assert sorted(steady.seeds()) == [3, 4, 5] and "does not answer" in result.output
    check_losses(tmp_path, {*dying.seeds()})


@pytest.mark.parametrize("forget", [False, True])
def test_a_server_that_comes_back_continues(
    tmp_path: Path, server: FakeComfyUI, forget: bool
) -> None:
    """With its queue (the network was down) nothing is queued twice; without it, the rows are."""
    server.hold.clear()

    def stumble() -> None:
        wait_until(lambda: len(server.received) == 2)
        server.stop(forget=forget)
        time.sleep(0.4)  # longer than LOST_AFTER_S
        server.hold.set()
        server.start()

    result = run_while(stumble, tmp_path, server)
    assert result.exit_code == 0, result.output
    assert sorted(server.seeds()) == ([3, 3, 4, 4, 5] if forget else [3, 4, 5])


@pytest.mark.parametrize("count", [1, 2])
def test_a_row_that_kills_its_server_every_time_fails_at_last(
    tmp_path: Path, servers: Callable[[], FakeComfyUI], count: int
) -> None:
    """Losses on all servers count together: the second server takes over the first one's row."""
    fakes = [servers() for _ in range(count)]
    stop = threading.Event()

    def revive() -> None:
        while not stop.is_set():
            tried = all(fake.received for fake in fakes)
            for fake in (fake for fake in fakes if tried and not fake.alive):
                time.sleep(0.1)
                fake.die_at = 0
                fake.start()
            time.sleep(0.01)

    for fake in fakes:
        fake.die_at = 0
    thread = threading.Thread(target=revive)
    thread.start()
    result = run(tmp_path, *fakes, table="1.seed\n7\n")
    stop.set()
    thread.join()
    assert result.exit_code == 1 and "lost with its server 3 times" in result.output
    assert [seed for fake in fakes for seed in fake.seeds()] == [7, 7, 7]


def test_a_server_that_stays_away_leaves_the_rest_to_the_next_run(
    tmp_path: Path, server: FakeComfyUI
) -> None:
    server.die_at = 1
    command = [*arguments(tmp_path, server)[:-1], "0.5"]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 1 and "3 left for the next run" in result.output
    wait_until(lambda: not server.alive)
    server.start()
    assert run(tmp_path, server).exit_code == 0


@pytest.mark.some_cases(1)
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_batch_resumes_without_queueing_anything_twice(
    tmp_path: Path, server: FakeComfyUI, how: signal.Signals
) -> None:
    server.hold.clear()
    command = [sys.executable, "-c", MAIN, *arguments(tmp_path, server)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: len(server.received) == 2)
            process.send_signal(how)
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    if how == signal.SIGINT:
        assert process.returncode == 130, output
        assert f"Rows queued on {server.url} continue there. Run the same" in output
    server.hold.set()
    wait_until(lambda: len(server.finished) == 2)  # the server worked on alone
    result = run(tmp_path, server)
    assert result.exit_code == 0 and sorted(server.seeds()) == [3, 4, 5], result.output
    assert [row["state"] for row in table(tmp_path)] == ["done"] * 3
    views = server.views
    assert run(tmp_path, server).exit_code == 0  # all is there: not even a file is asked for
    assert server.views == views == 3 and len(server.received) == 3


def test_a_lost_file_is_fetched_again_without_running_its_row(
    tmp_path: Path, server: FakeComfyUI
) -> None:
    assert run(tmp_path, server).exit_code == 0
    lost = tmp_path / "o" / rows(tmp_path)[1]["files"][0]["path"]
    lost.unlink()
    assert run(tmp_path, server).exit_code == 0
    assert lost.exists() and len(server.received) == 3


def test_new_rows_are_run_and_known_ones_keep_their_results(
    tmp_path: Path, server: FakeComfyUI
) -> None:
    assert run(tmp_path, server, table="1.seed\n3\n3\n").exit_code == 0
    assert run(tmp_path, server, table="1.seed\n8\n3\n3\n").exit_code == 0
    assert server.seeds() == [3, 3, 8]  # equal rows are two rows
    assert [row["values"]["1.seed"] for row in rows(tmp_path)] == ["8", "3", "3"]
    assert len({row["folder"] for row in rows(tmp_path)}) == 3


def test_prompts_taken_over_by_others_are_dropped_when_a_server_returns(
    tmp_path: Path, servers: Callable[[], FakeComfyUI]
) -> None:
    slow, other = servers(), servers()
    slow.hold.clear()
    other.hold.clear()

    def stumble() -> None:
        wait_until(lambda: slow.received and other.received)
        slow.stop(forget=False)
        other.stuck = {*slow.seeds()}  # the batch cannot end before the slow server is back
        other.hold.set()
        wait_until(lambda: other.stuck & {*other.seeds()})
        slow.start()
        wait_until(lambda: slow.dropped)

    seeds = "\n".join(map(str, range(1, 9)))
    result = run_while(stumble, tmp_path, slow, other, table=f"1.seed\n{seeds}\n")
    assert result.exit_code == 0, result.output
    taken_over = {*slow.seeds()} & {*other.seeds()}
    theirs = [one["prompt_id"] for one in slow.received if seed_of(one) in taken_over]
    assert theirs and {*theirs} <= {*slow.dropped}
    check_losses(tmp_path, taken_over)


def test_one_batch_at_a_time_writes_into_a_folder(tmp_path: Path, server: FakeComfyUI) -> None:
    from longtake.stream.journal.lock import ProcessLock

    (tmp_path / "o").mkdir()
    with ProcessLock(tmp_path / "o" / "batch.lock", "x"):
        result = run(tmp_path, server)
    assert result.exit_code == 1 and "is already running in process" in result.output
    assert "wait for it, stop it, or give another --out." in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no rows"),
        ("1.seed\n", "has no rows"),
        ("seed\n3\n", "column 'seed' is not NODE.INPUT"),
        ("9.seed\n3\n", "rows.csv, column 9.seed: no node is called '9'"),
        ("1.sed\n3\n", "rows.csv, column 1.sed: node 1 (Count) has no input 'sed', only seed,"),
        ("1.sed,1.seed\n,3\n", "rows.csv, column 1.sed: node 1 (Count) has no input 'sed'"),
        ("1.seed\nx\n", "rows.csv row 1, 1.seed=x: must be a number; got 'x'"),
        ("1.seed\n3\n100\n", "rows.csv row 2, 1.seed=100: must be at most 99; got 100."),
        ("1.kind\nsideways\n", "rows.csv row 1, 1.kind=sideways: 'sideways' is not one of its"),
        ("1.seed,1.text\n3\n", "row 1 has 1 cells, but the header has 2"),
        ("1.seed,1.seed\n3,4\n", "has two columns '1.seed'"),
        ('1.text\n"a\n', "is not valid CSV"),
    ],
)
def test_a_bad_table_is_one_sentence_and_queues_nothing(
    tmp_path: Path, server: FakeComfyUI, text: str, sentence: str
) -> None:
    result = run(tmp_path, server, table=text)
    assert result.exit_code == 1 and sentence in result.output, result.output
    assert not server.received and result.output.count("\n") == 1


def test_another_server_or_none_is_one_sentence(
    tmp_path: Path, server: FakeComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.tests.support import fake_comfyui

    server.stop()
    result = run(tmp_path, server)
    assert result.exit_code == 1 and f"No server answers: {server.url}" in result.output
    other = [*arguments(tmp_path), "--server", "ftp://x"]
    assert "is not an address such as" in CliRunner().invoke(cli.main, other).output
    monkeypatch.setattr(fake_comfyui._Handler, "do_GET", lambda self: self._send(200, b"<html>"))
    server.start()
    result = run(tmp_path, server)
    assert result.exit_code == 1
    assert f"{server.url} is not a ComfyUI server (its /system_stats answers 200" in result.output


def test_a_node_type_that_the_server_lacks_is_named(tmp_path: Path, server: FakeComfyUI) -> None:
    command = arguments(tmp_path, server)
    content = {**WORKFLOW, "3": {"class_type": "Other/Save", "inputs": {}}}
    (tmp_path / "w.json").write_text(json.dumps(content))
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 1
    assert "'Other/Save' is not a known node type; install its node pack" in result.output
