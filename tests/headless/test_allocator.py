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
def work():
    for _ in range({passes}):
        torch.cat([torch.ones(2**18), torch.ones(2**20), torch.ones(2**21)])
for run in (work, threading.Thread(target=work).run):
    run()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
def test_tensors_that_follow_one_another_share_pages_on_every_thread() -> None:
    def faults(passes: int, *, keep: bool) -> int:
        program = COUNT_FAULTS.format(keep=keep, passes=passes)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    more = {keep: faults(60, keep=keep) - faults(20, keep=keep) for keep in (True, False)}
    assert more[True] < 2000 < 20_000 < more[False]
