"""What torch's own allocator gave out, as it tells its profiler: kernels' scratch included."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def allocator_peak(run: Callable[[], object]) -> int:
    """The most bytes of main memory that torch had given out for `run` at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as made, torch.no_grad():
        run()
    results = made.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
