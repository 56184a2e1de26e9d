"""A video that Cancel cuts short, behind one shot or several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from longtake.headless.events import ChunkDone, Event, FileSaved
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.tests.support.node_bench import Bench

SPLICE, COMPARE = "LongtakeSpliceRollouts", "LongtakeCompareRollouts"


def join(bench: Bench, node: str, first: Any, second: Any, **inputs: Any) -> Any:
    names = ("first", "second") if node == SPLICE else ("frames_a", "frames_b")
    return bench.run(node, **dict(zip(names, (first, second), strict=True)), **inputs)[0]


def save(bench: Bench, frames: Any, *more: tuple[str, dict[str, Any]], **inputs: Any) -> Path:
    """Write the video beside other outputs."""
    call = ("LongtakeSaveVideo", {"frames": frames, "format": "mkv (lossless)", **inputs})
    asyncio.run(bench.side_by_side(call, *more))
    return [e.path for e in bench.events if isinstance(e, FileSaved) and e.role == "video"][-1]


def at_chunk(bench: Bench, count: int, act: Callable[[], object]) -> None:
    """Call `act` when so many chunks of any shot are decoded."""
    tell, left = bench.state.listener, [count]

    def listen(event: Event) -> None:
        tell(event)
        left[0] -= isinstance(event, ChunkDone)
        if isinstance(event, ChunkDone) and left[0] == 0:
            act()

    bench.state.listener = listen


def cancelled(bench: Bench, frames: Any, chunks: int, *more: tuple[str, dict[str, Any]]) -> None:
    """A run that Cancel ends after so many chunks of any shot."""
    tell = bench.state.listener
    at_chunk(bench, chunks, bench.state.interrupt)
    with pytest.raises(InterruptProcessingException):
        save(bench, frames, *more)
    bench.state.listener = tell
    bench.state.start_prompt()


def pieces(bench: Bench) -> int:
    """How many pieces the unfinished video has."""
    logs = list(bench.state.folders["output"].rglob(".*.pieces"))
    return sum(len(log.read_text().splitlines()) - 1 for log in logs)


def pictures(path: Path) -> list[Any]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
