"""Bytes handed out by torch's allocator, as seen by torch's profiler; includes kernels' scratch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def allocator_peak(run: Callable[[], object]) -> int:
    """Return the most bytes of main memory that `run` held at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as log, torch.no_grad():
        run()
    results = log.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
