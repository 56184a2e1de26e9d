"""Laws of the thread that sends to a store."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from concurrent.futures import thread as futures_thread
from pathlib import Path

import pytest

from longtake.stream.store.work_thread import WorkThread

WAIT_S = 60.0


def test_calls_run_in_their_order_and_answer() -> None:
    done: list[int] = []
    thread = WorkThread("a test")
    futures = [thread.start(lambda i=i: done.append(i) or i) for i in range(5)]
    assert [future.result(WAIT_S) for future in futures] == done == list(range(5))
    failed = thread.start(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(WAIT_S)
    last = thread.start(lambda: "still running")
    thread.close()
    assert last.done() and last.result() == "still running"
    with pytest.raises(RuntimeError, match="is closed"):
        thread.start(lambda: None)


def test_a_finalizer_may_start_a_call_while_this_thread_starts_another() -> None:
    """The collector closes an abandoned shot wherever it runs, such as inside `Executor.submit`."""
    thread = WorkThread("a test")
    started = threading.Event()

    def start_inside() -> None:
        with futures_thread._global_shutdown_lock:
            thread.start(lambda: None)
            started.set()

    threading.Thread(target=start_inside, daemon=True).start()
    assert started.wait(WAIT_S)
    thread.close()


def test_the_thread_ends_with_its_owner() -> None:
    thread = WorkThread("a test that ends")
    thread.start(lambda: None).result(WAIT_S)
    inner = thread._thread
    del thread
    gc.collect()
    inner.join(WAIT_S)
    assert not inner.is_alive()


def test_a_process_that_ends_finishes_its_calls(tmp_path: Path) -> None:
    script = (
        "import time\nfrom pathlib import Path\n"
        "from longtake.stream.store.work_thread import WorkThread\n"
        "thread = WorkThread('a test')\nthread.start(lambda: time.sleep(0.5))\n"
        f"thread.start(lambda: Path({str(tmp_path / 'done')!r}).touch())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600)
    assert (tmp_path / "done").exists()
