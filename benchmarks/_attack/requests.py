"""Fuzzed requests to the player page of `longtake run --watch`, over plain sockets.

No answer may be a 5xx, none may fail to come, and the program may print no traceback. Afterwards
the page must be there and Ctrl-C must end the run.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from .package import ROOT, folder_of_package
from .tally import Tally

WORKFLOW = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"
SMALL = (
    "LongtakePromptTimeline.text=0: a red ball", "LongtakeSchedule.steps=1",
    "LongtakeSampler.width=64", "LongtakeSampler.height=64", "LongtakeSampler.length=2",
)  # fmt: skip
START_LIMIT_S, ANSWER_LIMIT_S, END_LIMIT_S = 300.0, 30.0, 120.0
NAP_S = 0.1
AT_ONCE = 8

METHODS = (
    "GET",
    "GET",
    "GET",
    "POST",
    "POST",
    "HEAD",
    "PUT",
    "OPTIONS",
    "DELETE",
    "PATCH",
    "X" * 90,
)
PATHS = (
    "/", "/ws", "/view", "/web/", "/web/page.mjs", "/longtake/attach", "/longtake/takes/TOKEN",
    "/longtake/takes/TOKEN/chunks/0", "/longtake/takes/TOKEN/chunks/999999",
    "/longtake/takes/TOKEN/control", "/api/longtake/takes/TOKEN/control", "/api/longtake/attach",
    "/longtake/takes/nobody", "/prompt", "/queue", "/upload/image",
)  # fmt: skip
PARTS = (
    "..", "%2e%2e", "%00", "%ed%a0%80", "%ff", "a" * 5000, "TOKEN", "chunks", "control", "%2F",
    "web",
    "longtake", "\u00e9", "~", ";", "%", "%zz", "0", "-1", "9" * 40, "CON", "C:", "//", "?", "#",
)  # fmt: skip
QUERIES = (
    "clientId=KEY", "clientId=", "clientId=KEY&filename=x&subfolder=..&type=output",
    "clientId=KEY&filename=%00&type=temp", "filename=" + "a" * 9000, "a=%ff&b=%ed%a0%80", "&&&=",
)  # fmt: skip
HEADERS = {
    "Origin": ("http://evil.example", "null", "http://HOST", ""),
    "Host": ("evil.example", "[::1]", "127.0.0.1:99999", "a" * 3000, ""),
    "Content-Type": ("application/json", "text/plain", "multipart/form-data; boundary=x", "x"),
    "Range": ("bytes=0-1", "bytes=5-1", "bytes=-", "bytes=" + "9" * 30 + "-", "x"),
    "If-None-Match": ('"x"', "*", '"' * 100),
    "If-Modified-Since": ("Sun, 22 Nov 2026 00:00:00 GMT", "yesterday", "0"),
    "Sec-Fetch-Site": ("same-origin", "cross-site", "none"),
    "Cookie": ("a=b; c", "=" * 500),
    "Accept-Encoding": ("gzip, deflate, br", "identity;q=0", "\u00ff"),
    "Upgrade": ("websocket", "h2c"),
    "Connection": ("Upgrade", "keep-alive", "close"),
    "Sec-WebSocket-Key": ("dGhlIHNhbXBsZSBub25jZQ==", "x"),
    "Sec-WebSocket-Version": ("13", "99", "x"),
    "Expect": ("100-continue", "x"),
}  # fmt: skip
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**53,
    10**400,
    1e308,
    "",
    "x" * 9000,
    "\ud800",
    [],
    {},
    [[[]]],
)
OPERATIONS = ("pause", "resume", "stop", "prompt", "guidance", "lora", "edit", "", 5)


@dataclass(frozen=True, slots=True)
class Page:
    """Where the page is, its key, and the token of the take that it shows."""

    host: str
    port: int
    key: str
    token: str

    def fill_in(self, text: str) -> str:
        """Replace the placeholders of a request."""
        own = f"{self.host}:{self.port}"
        return text.replace("TOKEN", self.token).replace("KEY", self.key).replace("HOST", own)


def attack(count: int, seed: int, report: Callable[[str], None]) -> Tally:
    """Send `count` requests; `report` gets each that did harm."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, _watched(Path(folder)) as (page, log, process):
        dice = random.Random(f"{seed} requests")
        sent = [_request(page, dice) for _ in range(count)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            problems = pool.map(lambda request: _ask(page, request[1], cut=request[2]), sent)
            for (kind, content, _), problem in zip(sent, problems, strict=True):
                tally.add(kind)
                if problem:
                    tally.fail(problem)
                    report(f"request {content[:120]!r}: {problem}")
        for problem in _end(page, log, process):
            tally.fail(problem)
            report(problem)
    return tally


@contextmanager
def _watched(folder: Path) -> Iterator[tuple[Page, Path, subprocess.Popen[bytes]]]:
    """A run of an example with its page, finished and waiting for Ctrl-C."""
    log = folder / "log"
    changes = [part for change in SMALL for part in ("--set", change)]
    with folder_of_package() as package, log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "longtake.headless.cli", "run", str(WORKFLOW), *changes,
             "--out", str(folder / "out"), "--watch"],
            cwd=package, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"}, preexec_fn=_hear_interrupts,
        )  # fmt: skip
        try:
            yield _wait_for_page(log, process), log, process
        finally:
            process.kill()
            process.wait()


def _hear_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and so do their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_for_page(log: Path, process: subprocess.Popen[bytes]) -> Page:
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until and process.poll() is None:
        text = log.read_text("utf-8", errors="replace")
        known = re.search(r"The player stays at (http://[^/]+)/#(\S+)", text)
        if known:
            address = urlsplit(known[1])
            assert address.hostname is not None and address.port is not None
            token = _token(known[1], known[2])
            return Page(address.hostname, address.port, known[2], token)
        time.sleep(0.2)
    raise RuntimeError(
        f"the page of `longtake run --watch` did not come: {log.read_text()[-2000:]}"
    )


def _token(root: str, key: str) -> str:
    """The token of the take that the page shows."""
    request = urllib.request.Request(
        f"{root}/longtake/attach", json.dumps({"client_id": key}).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
        [take] = json.loads(answer.read())["takes"]
    return str(take["take"])


def _request(page: Page, dice: random.Random) -> tuple[str, bytes, bool]:
    """A request: its kind, its bytes, and whether our side ends the connection after them."""
    roll = dice.random()
    if roll < 0.1:
        return "not HTTP", dice.randbytes(dice.randint(1, 400)) + b"\r\n\r\n", True
    body = _body(dice)
    length: object = len(body)
    cut = roll < 0.2
    if cut:
        length = dice.choice((len(body) + 5, 10**10, -1, "x", "", "5, 6"))
    lines = [f"{dice.choice(METHODS)} {_path(dice)} HTTP/1.1", f"Content-Length: {length}"]
    names = dice.sample(sorted(HEADERS), dice.randint(0, 4))
    lines += [f"{name}: {dice.choice(HEADERS[name])}" for name in names]
    if "Host" not in names:
        lines.append("Host: HOST")
    if dice.random() < 0.05:
        lines.append("Transfer-Encoding: chunked")
        cut = True
    head = page.fill_in("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogatepass")
    return "a wrong length" if cut else "well-formed", head + body, cut


def _path(dice: random.Random) -> str:
    if dice.random() < 0.6:
        path = dice.choice(PATHS)
    else:
        path = "/" + "/".join(dice.choice(PARTS) for _ in range(dice.randint(1, 5)))
    if dice.random() < 0.5:
        path = quote(path, safe="/%?#=&;~")
    return f"{path}?{dice.choice(QUERIES)}" if dice.random() < 0.3 else path.replace(" ", "%20")


def _body(dice: random.Random) -> bytes:
    roll = dice.random()
    if roll < 0.3:
        return b""
    if roll < 0.4:
        return dice.randbytes(dice.randint(1, 300))
    if roll < 0.45:
        return b"[" * 50_000
    if roll < 0.5:
        return b'{"client_id": "' + b"x" * 80_000
    fields = {name: dice.choice(VALUES) for name in ("text", "guidance", "lora", "client_id")}
    chosen = {name: fields[name] for name in dice.sample(sorted(fields), dice.randint(0, 2))}
    revision = dice.choice((*VALUES, dice.randint(1, 10**6)))
    return json.dumps({"op": dice.choice(OPERATIONS), "rev": revision, **chosen}).encode()


def _ask(page: Page, content: bytes, *, cut: bool) -> str | None:
    """Send one request and read the status of its answer; the problem, if there is one."""
    try:
        with socket.create_connection((page.host, page.port), ANSWER_LIMIT_S) as connection:
            connection.sendall(content)
            if cut:
                connection.shutdown(socket.SHUT_WR)
            head = connection.recv(4096)
    except TimeoutError:
        return f"no answer after {ANSWER_LIMIT_S:g} s"
    except ConnectionError:  # closed by the server in the middle of our bytes: a refusal
        return None
    if not head:
        return None if cut else "closed without an answer"
    status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if status is None:
        return f"the answer is not HTTP: {head[:80]!r}"
    return f"status {int(status[1])}" if int(status[1]) >= 500 else None


def _end(page: Page, log: Path, process: subprocess.Popen[bytes]) -> Iterator[str]:
    """What the attack left behind: the page, the program's output and its end."""
    with urllib.request.urlopen(f"http://{page.host}:{page.port}/", timeout=60) as answer:
        if answer.status != 200:
            yield f"the page is gone: status {answer.status}"
    process.send_signal(signal.SIGINT)
    if not _ends(process):
        yield f"Ctrl-C did not end the run within {END_LIMIT_S:g} s: {_where(log, process)}"
    text = log.read_text("utf-8", errors="replace")
    if "Traceback" in text:
        yield f"the program printed a traceback: {text[text.index('Traceback') :][:800]}"


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether the program ends in time: in awake seconds, since a whole machine may be paused."""
    for _ in range(max(1, round(END_LIMIT_S / NAP_S))):
        if process.poll() is not None:
            return True
        time.sleep(NAP_S)
    return False


def _where(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where each thread of the program is, as Python's fault handler prints them."""
    before = log.stat().st_size
    process.send_signal(signal.SIGABRT)
    process.wait()
    return log.read_bytes()[before:].decode("utf-8", errors="replace")
