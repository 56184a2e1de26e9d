"""Watch a live address with ffmpeg for a long time, and print what was seen as JSON:

    python -m longtake.tests.support.stream.live_soak --minutes 30     (in the folder above)

One ffmpeg watches all the time. Another joins, leaves after some seconds and returns, in each
format. A real-time run of numbered frames goes on in a server of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from longtake.tests.browser.node import player_server
from longtake.tests.support.numbered_frames import number_in

WIDTH, HEIGHT, FPS = 192, 128, 16.0
RUN = {
    "client_id": "soak", "frames": 10**7, "endless": True, "fps": FPS, "width": WIDTH,
    "height": HEIGHT, "chunk_s": 0.7, "grain": 4,
}  # fmt: skip


@dataclass
class Tally:
    """What viewers have seen, and the server's memory without the player's own store."""

    pictures: int = 0
    held: int = 0  # pictures shown again, since the run was late
    lost: int = 0
    visits: int = 0
    server_mib: list[float] = field(default_factory=list)

    def count(self, pictures: list[int]) -> None:
        """Add the numbers that one viewer saw in one visit."""
        shown = [number for number in pictures if number]  # 0 is black
        steps = np.diff(shown)
        self.pictures += len(shown)
        self.held += int((steps == 0).sum())
        self.lost += int((steps > 1).sum() + (steps < 0).sum())
        self.visits += 1


def watch(url: str, ending: str, seconds: float) -> list[int]:
    """The numbers of the pictures that ffmpeg sees in `seconds` of video."""
    options = ["-f", "mpjpeg"] if ending == "mjpeg" else []
    command = [
        "ffmpeg", "-nostdin", "-v", "error", *options, "-i", f"{url}.{ending}",
        "-frames:v", str(round(seconds * FPS)),
        "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
    ]  # fmt: skip
    numbers = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while len(pixels := process.stdout.read(WIDTH * HEIGHT * 3)) == WIDTH * HEIGHT * 3:
            numbers.append(number_in(np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH, 3)))
    return numbers


def call(url: str, body: object = None) -> Any:
    """The JSON that the server answers."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"})) as answer:
        return json.load(answer)


def soak(server: str, minutes: float, visit_s: float) -> Tally:
    """Watch for some minutes."""
    tally, ends_at = Tally(), time.monotonic() + 60 * minutes
    token = call(f"{server}/fake/run", RUN)["take"]
    live = call(f"{server}/longtake/takes/{token}")["live"]
    url = f"{server}/longtake/live/{live}/live"
    lasting: list[int] = []
    stay = threading.Thread(target=lambda: lasting.extend(watch(url, "ts", 60 * minutes)))
    stay.start()
    for ending in cycle(("mp4", "ts", "mjpeg")):
        if time.monotonic() > ends_at:
            break
        tally.count(watch(url, ending, visit_s))
        memory = call(f"{server}/fake/store")
        apart = memory["resident_bytes"] - memory["ram_bytes"] - memory["waiting_bytes"]
        tally.server_mib.append(round(apart / 2**20, 1))
    stay.join()
    tally.count(lasting)
    return tally


def main() -> None:
    """Run the soak and print its tally."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--visit", type=float, default=20, help="seconds of each visit")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        player_server(Path(folder) / "log") as server,
    ):
        tally = soak(server, options.minutes, options.visit)
    sys.stdout.write(json.dumps({"minutes": options.minutes, **asdict(tally)}) + "\n")


if __name__ == "__main__":
    main()
