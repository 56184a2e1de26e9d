"""How many CPU threads torch computes with on a thread of ours.

By default every Python thread that computes has a team of as many threads as the machine has cores.
OpenMP counts the threads of all teams. Once they are more than the cores, a team's threads sleep
whenever they wait for each other: with two cores, a pass of the demo then takes twice as long.
So threads that help the one that makes a shot compute alone.
"""

from __future__ import annotations

import threading

import torch


def compute_alone() -> None:
    """Compute with one thread on this thread."""
    compute_with(1)


def compute_with(count: int) -> None:
    """Compute with `count` threads on this thread, and change no other thread's number.

    torch keeps one number for the process as well, which threads take over when they first compute.
    A setting changes both, so a short thread sets the process's back.
    """
    process = torch.get_num_threads()  # a thread that has not asked yet takes the process's over
    torch.set_num_threads(count)
    setter = threading.Thread(target=torch.set_num_threads, args=(process,))
    setter.start()
    setter.join()
