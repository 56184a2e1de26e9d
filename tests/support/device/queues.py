"""Streams and events of a stand-in for CUDA: who has waited for whom, and what waits for that.

Work is computed at once, yet counts as done only when somebody waits for the stream. Every stream
counts its work and knows how much of every other stream's comes before it: a vector clock.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[3]) + os.sep
OWN = str(Path(__file__).resolve().parent)
Times = dict[int, int]
"""The work of each stream, by its number, that comes before something."""


@dataclass
class Accesses:
    """When streams wrote and read some memory of the device; `home` is the allocator's stream."""

    home: Stream
    bytes: int = 0
    write: tuple[int, int] | None = None
    reads: Times = field(default_factory=dict)
    recorded: set[int] = field(default_factory=set)
    place: str = ""


@dataclass
class Pending:
    """What happens once the host has waited for a stream's work up to `time`."""

    stream: int
    time: int
    act: Callable[[], None]


class Device:
    """All streams of all stand-ins, what is pending, and the `faults` seen.

    Each device has `capacity_bytes` of memory. `held` counts the bytes of its tensors, by device.
    """

    def __init__(self) -> None:
        self.capacity_bytes = 8 << 30
        self.has_float64 = True
        self.held = Counter[int]()
        self.peak = Counter[int]()
        self.lock = threading.RLock()
        self.faults: list[str] = []
        self.pending: list[Pending] = []
        self.late = True
        self.host_times: Times = {}
        self._streams: list[Stream] = []
        self._defaults: dict[int, Stream] = {}
        self._current = threading.local()

    def add(self, stream: Stream) -> int:
        """A number for a new stream."""
        with self.lock:
            self._streams.append(stream)
            return len(self._streams)

    def current(self, index: int = 0) -> Stream:
        """The calling thread's stream of a device."""
        chosen: Stream | None = getattr(self._current, str(index), None)
        with self.lock:
            if chosen is None and index not in self._defaults:
                self._defaults[index] = Stream(index)
            return chosen or self._defaults[index]

    @contextmanager
    def use(self, stream: Stream | None) -> Iterator[None]:
        """Queue on a stream; None changes nothing."""
        if stream is None:
            yield
            return
        name = str(stream.index)
        before = getattr(self._current, name, None)
        setattr(self._current, name, stream)
        try:
            yield
        finally:
            setattr(self._current, name, before)

    def wait(self, times: Times) -> None:
        """The host waits for work; what is pending there happens."""
        with self.lock:
            merge(self.host_times, times)
            ready = [x for x in self.pending if times.get(x.stream, 0) >= x.time]
            self.pending = [x for x in self.pending if x not in ready]
            for pending in ready:
                pending.act()

    def wait_for_all(self) -> None:
        """The host waits for everything."""
        self.wait({stream.number: stream.time for stream in self._streams})

    def later(self, stream: Stream, act: Callable[[], None]) -> None:
        """Do something once the host has waited for what is queued."""
        self.pending.append(Pending(stream.number, stream.time, act))

    def hold(self, index: int, count: int) -> None:
        """Take memory of a device; as CUDA, refuse where there is none left."""
        with self.lock:
            if self.held[index] + count > self.capacity_bytes:
                raise_out_of_memory(count)
            self.held[index] += count
            self.peak[index] = max(self.peak[index], self.held[index])

    def fault(self, text: str) -> None:
        """Note a fault, with the place in our code."""
        self.faults.append(f"{text} at {place()}")


class Stream:
    """As `torch.cuda.Stream`."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        index = device if isinstance(device, int) else getattr(device, "index", None)
        self.index: int = index or 0
        self.time = 0
        self.number = DEVICE.add(self)
        self.before: Times = {}

    @property
    def device(self) -> Any:
        import torch

        return torch.device("cuda", self.index)

    def queue(self, reads: list[Accesses], writes: list[Accesses]) -> None:
        """Add work that reads and writes memory; two streams must not meet there unordered."""
        with DEVICE.lock:
            merge(self.before, DEVICE.host_times)
            self.time += 1
            self.before[self.number] = self.time
            for accesses in reads:
                self._check(accesses, [accesses.write], "reads what another stream writes")
                accesses.reads[self.number] = self.time
            for accesses in writes:
                others = [accesses.write, *accesses.reads.items()]
                self._check(accesses, others, "writes what another stream still uses")
                accesses.write, accesses.reads = (self.number, self.time), {}
                accesses.place = place()

    def _check(self, own: Accesses, others: list[tuple[int, int] | None], what: str) -> None:
        for other in others:
            if other is not None and not self.follows(other):
                DEVICE.fault(f"a stream {what} ({own.place})")

    def follows(self, other: tuple[int, int]) -> bool:
        """Whether work queued now comes after other work."""
        return self.before.get(other[0], 0) >= other[1]

    def wait_stream(self, other: Stream) -> None:
        merge(self.before, other.before)

    def wait_event(self, event: Event) -> None:
        merge(self.before, event.before)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.before = dict(self.before)
        return event

    def synchronize(self) -> None:
        DEVICE.wait(self.before)

    def query(self) -> bool:
        return not any(x.stream == self.number for x in DEVICE.pending)

    def __enter__(self) -> Stream:
        self._context = DEVICE.use(self)
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)


class Event:
    """As `torch.cuda.Event`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.before: Times = {}

    def record(self, stream: Stream | None = None) -> None:
        (stream or DEVICE.current()).record_event(self)

    def wait(self, stream: Stream | None = None) -> None:
        (stream or DEVICE.current()).wait_event(self)

    def synchronize(self) -> None:
        DEVICE.wait(self.before)

    def query(self) -> bool:
        return all(DEVICE.host_times.get(number, 0) >= time for number, time in self.before.items())

    def elapsed_time(self, _: Event) -> float:
        return 1.0


def raise_out_of_memory(count: int) -> None:
    """Fail as torch does."""
    import torch

    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {count} bytes.")


def freed(accesses: Accesses) -> None:
    """Memory goes back to the stream it came from: what other streams do there must be over."""
    DEVICE.held[accesses.home.index] -= accesses.bytes
    home, own = accesses.home, accesses.home.before
    uses = [*accesses.reads.items(), *([accesses.write] if accesses.write else [])]
    for number, time in uses:
        waited = max(own.get(number, 0), DEVICE.host_times.get(number, 0))
        if number != home.number and number not in accesses.recorded and waited < time:
            DEVICE.fault(f"memory is freed while another stream uses it ({accesses.place})")


def merge(times: Times, others: Times) -> None:
    """Let all that comes before `others` come before `times` too."""
    for number, time in others.items():
        times[number] = max(times.get(number, 0), time)


def place() -> str:
    """The innermost line of our own code, outside of this tool."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if is_ours(file):
            return f"{file[len(ROOT) :]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "no line of ours"


@cache
def is_ours(file: str) -> bool:
    """Whether a file is of this checkout, and not of this tool."""
    return file.startswith(ROOT) and not file.startswith(OWN) and ".venv" not in file


DEVICE = Device()
