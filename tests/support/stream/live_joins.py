"""Let viewers join a broadcast and leave it, and print the process's memory as JSON:

    python -m longtake.tests.support.stream.live_joins     (in the folder above)

One viewer stays. Nothing else goes on, so memory that grows belongs to the viewers who left. Cycles
are not collected: a viewer who leaves must be free at once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
from pathlib import Path

from longtake.benchmarks._shared.process_memory import resident_bytes
from longtake.stream.live.broadcast import Broadcast
from longtake.stream.live.routes import VIEWERS
from longtake.stream.live.viewers import ByteQueue
from longtake.tests.support.stream.live_shot import LiveShot

JOINS, TICKS, FPS = 60, 3, 16.0


async def measure(shot: LiveShot, ending: str) -> list[float]:
    """MiB after each of four times `JOINS` viewers."""
    broadcast, now, memory = Broadcast(shot.newest, shot.take.shot), 0.0, []
    lasting = VIEWERS["ts"](ByteQueue())
    broadcast.join(lasting)
    for _ in range(4):
        for _ in range(JOINS):
            viewer = VIEWERS[ending](ByteQueue())
            broadcast.join(viewer)
            for _ in range(TICKS):
                broadcast.tick(now)
                now += 1 / FPS
            broadcast.leave(viewer)
            await viewer.queue.read()
            await lasting.queue.read()
        memory.append(round(resident_bytes() / 2**20, 1))
    broadcast.close()
    return memory


async def main() -> None:
    """Measure each format and print the result."""
    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        shot = LiveShot(Path(folder), FPS)
        shot.add(40)
        result = {ending: await measure(shot, ending) for ending in VIEWERS}
        shot.takes.reset()
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
