"""The command line keeps freed memory, so that the next tensor takes no new pages."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.headless.allocator import CHOSEN_BY_USER, keep_freed_memory

ROOT = Path(__file__).resolve().parents[2]
COUNT_FAULTS = """
import os, resource, runpy, threading
runpy.run_path("tests/conftest.py")
from longtake.headless.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory({{}})
import torch
torch.set_num_threads(1)
more = 0
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work(passes):
    for _ in range(passes):
        torch.cat([torch.ones(2**18), torch.ones(2**20), torch.ones(2**21)])
def count():
    global more
    work(20)
    before = faults()
    work(40)
    more += faults() - before
count()
thread = threading.Thread(target=count)
thread.start()
thread.join()
print(more)
"""


class Library:
    """A C library that notes the options; a glibc, or another one."""

    def __init__(self, *, glibc: bool = True, answer: int = 1) -> None:
        self.options: dict[int, int] = {}
        self._answer = answer
        if glibc:
            self.gnu_get_libc_version = lambda: b"2.36"

    def mallopt(self, option: int, value: int) -> int:
        self.options[option] = value
        return self._answer


def test_the_user_and_other_libraries_are_left_alone() -> None:
    for name in CHOSEN_BY_USER:
        library = Library()
        assert not keep_freed_memory({name: "1"}, library) and not library.options
    other = Library(glibc=False)
    assert not keep_freed_memory({}, other) and not other.options
    assert keep_freed_memory({}, Library()) and not keep_freed_memory({}, Library(answer=0))


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
def test_tensors_that_follow_one_another_share_pages_on_every_thread() -> None:
    def more_faults(*, keep: bool) -> int:
        """Page faults of 40 passes on each of two threads, once 20 passes are done there."""
        done = subprocess.run(
            [sys.executable, "-c", COUNT_FAULTS.format(keep=keep)],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stdout)

    assert more_faults(keep=True) < 2000 < 20_000 < more_faults(keep=False)
