"""A performance by OSC on a real run: programs of their own, python-osc's client, the journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import records
from longtake.tests.support.headless.real_batches import ROOT, START, WORKFLOW
from longtake.tests.support.server_process import free_port, next_match
from longtake.tests.support.stream.live_servers import ffmpeg, wait_until
from longtake.tests.support.stream.live_site import needs_ffmpeg

udp_client = pytest.importorskip("pythonosc.udp_client", reason="needs python-osc")
ENDLESS = ("5.width=48", "5.height=32", "5.length=600", "4.steps=1")  # until it is stopped
PICTURES = ("-re", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-pix_fmt", "yuv420p")
STREAM = ("-c:v", "mpeg2video", "-g", "5", "-f", "mpegts")


def program(*arguments: str) -> subprocess.Popen[str]:
    """Start a command of ours."""
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    return subprocess.Popen(
        [sys.executable, "-u", "-c", START, *arguments], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def redrawing(folder: Path, url: str) -> Path:
    """The first example, with a live input that its frames begin from."""
    content = json.loads(WORKFLOW.read_text())
    inputs = {"source": "url", "url": url, "vae": ["1", 2], "level": 0.7, "take": 1, "stall": 30.0}
    content["90"] = {"class_type": "LongtakeLiveInput", "inputs": inputs}
    content["5"]["inputs"]["known_frames"] = ["90", 0]
    path = folder / "live.json"
    path.write_text(json.dumps(content))
    return path


@needs_ffmpeg
@pytest.mark.slow  # its parts have tests of their own
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.timeout(600)
def test_messages_to_a_real_run_are_its_edits_and_in_its_journal(tmp_path: Path) -> None:
    report, port, url = tmp_path / "report.json", free_port(), f"udp://127.0.0.1:{free_port()}"
    changes = [part for change in ENDLESS for part in ("--set", change)]
    with ffmpeg(*PICTURES, *STREAM, f"{url}?pkt_size=1316"):
        run = program(
            "run", str(redrawing(tmp_path, url)), "--out", str(tmp_path), "--report", str(report),
            "--watch", *changes,
        )  # fmt: skip
        programs = [run]
        try:
            page = next_match(run, r"Watch it at (http://127\.0\.0\.1:\d+/#\S+)")
            bridge = program("osc", page, "--port", str(port))
            programs.append(bridge)
            next_match(bridge, "(Listens for OSC)")
            with udp_client.SimpleUDPClient("127.0.0.1", port) as client:
                say(client, bridge, "pause", 1)
                for name, value in (("fork/seed", 7), ("prompt", "a blue ball"), ("level", 0.3)):
                    say(client, bridge, name, value)
                say(client, bridge, "resume", [])
                wait_until(lambda: any(len(keys) > 1 for keys in edited(tmp_path)), 120)
                say(client, bridge, "stop", [])
            next_match(run, "(The player stays at)")
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)
        finally:
            for each in programs:
                each.kill()
                each.communicate()
    [edit] = json.loads(report.read_text())["edits"]
    assert "a blue ball" in edit and edit.endswith("; level 0.3; seed 7")
    [keys] = edited(tmp_path)
    assert len(keys) > 1


def say(client: Any, bridge: subprocess.Popen[str], name: str, value: object) -> None:
    """Send a message, again while there is no run yet."""
    said = ""
    while not said.startswith("Sent: "):
        client.send_message(f"/longtake/{name}", value)
        said = next_match(bridge, r"(Sent: .*|No run with a preview.*)")


def edited(folder: Path) -> list[tuple[str, ...]]:
    """The addresses from the edit on of each shot in the journal that has the edit."""
    shots = []
    for record in records(Journal(folder / "longtake" / ".rollouts")):
        starts = [start for start, text in record.facts["prompts"] if text == "a blue ball"]
        if starts and [starts[0], 7] in record.facts["seeds"]:
            shots.append(record.keys[starts[0] // 3 :])
    return shots
