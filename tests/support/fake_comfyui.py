"""A ComfyUI server in miniature for tests of `longtake batch`: queue, history, files, no websocket.

Rows run one after another in a thread; it can be killed, come back with or without its past, and be
told to hang, fail or refuse.
"""

from __future__ import annotations

import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from longtake.benchmarks._attack.instant_comfyui import NODES
from longtake.tests.support.server_process import free_port


class FakeComfyUI:
    """`received` are all prompts ever queued, over all lives; `refuse` and `fail` are texts whose
    rows are refused or fail; `hold` keeps rows running until it is set, `stuck` those of its seeds.
    """

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.finished: dict[str, dict[str, Any]] = {}
        self.pending: list[dict[str, Any]] = []
        self.running: dict[str, Any] | None = None
        self.dropped: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.stuck: set[int] = set()
        self.die_at: int | None = None
        self.views = 0
        self.lock = threading.RLock()
        self.life = threading.Lock()  # it is up or down, and nothing between for who starts it
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        """The address, the same in every life."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen and work."""
        with self.life:
            handler = type("Handler", (_Handler,), {"fake": self})
            self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
            self.server.daemon_threads = True
            self.alive = True
            self.threads = [
                threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True),
                threading.Thread(target=self._work, daemon=True),
            ]
            for thread in self.threads:
                thread.start()

    def stop(self, *, forget: bool = True) -> None:
        """Die without history or queue, as a process does; else only out of reach for a while."""
        with self.life:
            self.alive = False
            self.server.shutdown()
            self.server.server_close()
            for thread in self.threads:
                thread.join()
            with self.lock:
                if forget:
                    self.pending, self.finished = [], {}
                elif self.running is not None:
                    self.pending.insert(0, self.running)
                self.running = None

    def seeds(self) -> list[int]:
        """The seeds of all prompts queued so far."""
        return [_seed(body) for body in self.received]

    def _work(self) -> None:
        while self.alive:
            with self.lock:
                if self.running is None and self.pending:
                    self.running = self.pending.pop(0)
            job = self.running
            if job is None or not self.hold.is_set() or _seed(job) in self.stuck:
                time.sleep(0.005)
                continue
            if self.die_at is not None and len(self.received) >= self.die_at:
                self.die_at = None
                threading.Thread(target=self.stop, daemon=True).start()
                return
            with self.lock:
                self.running = None
                self.finished[job["prompt_id"]] = _entry(job)


def _seed(job: dict[str, Any]) -> int:
    seed: int = job["prompt"]["1"]["inputs"]["seed"]
    return seed


def _entry(job: dict[str, Any]) -> dict[str, Any]:
    inputs = job["prompt"]["1"]["inputs"]
    messages: list[list[Any]] = [["execution_start", {"timestamp": 1000}]]
    if inputs["text"] == "fail":
        error = {
            "node_id": "1",
            "node_type": "Count",
            "exception_type": "ValueError",
            "exception_message": "no such\nthing",
            "timestamp": 1500,
        }
        status = {"status_str": "error", "messages": [*messages, ["execution_error", error]]}
        return {"outputs": {}, "status": status}
    name = f"pic_{inputs['seed']}.png"
    images = [
        {"filename": name, "subfolder": "sub", "type": "output"},
        {"filename": "preview.png", "subfolder": "", "type": "temp"},
    ]
    report = json.dumps({"frames": 33, "frames_per_s": 6.5, "first_frame_s": None})
    messages.append(["execution_success", {"timestamp": 3500}])
    return {
        "outputs": {"2": {"images": images, "longtake_report": [report]}},
        "status": {"status_str": "success", "messages": messages},
    }


class _Handler(BaseHTTPRequestHandler):
    fake: FakeComfyUI

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        """Status, node types, queue, history, files."""
        url = urlsplit(self.path)
        fake, path = self.fake, url.path.strip("/").split("/")
        with fake.lock:
            match path:
                case ["system_stats"]:
                    self._answer({"system": {"comfyui_version": "0.33.0"}})
                case ["object_info", name]:
                    self._answer({name: NODES[name]} if name in NODES else {})
                case ["history", prompt_id]:
                    found = fake.finished.get(prompt_id)
                    self._answer({prompt_id: found} if found else {})
                case ["queue"]:
                    running = [fake.running] if fake.running else []
                    self._answer(
                        {
                            "queue_running": [[0, one["prompt_id"]] for one in running],
                            "queue_pending": [[0, one["prompt_id"]] for one in fake.pending],
                        }
                    )
                case ["view"]:
                    fake.views += 1
                    self._picture(parse_qs(url.query))
                case _:
                    self._answer({}, 404)

    def do_POST(self) -> None:
        """Prompts, and taking them back."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake = self.fake
        with fake.lock:
            match self.path:
                case "/prompt" if body["prompt"]["1"]["inputs"]["text"] == "refuse":
                    fault = {"message": "Value not in list", "details": "kind: 'x' not in [up]"}
                    self._answer(
                        {
                            "error": {"message": "Prompt outputs failed validation"},
                            "node_errors": {"1": {"class_type": "Count", "errors": [fault]}},
                        },
                        400,
                    )
                case "/prompt":
                    fake.received.append(body)
                    fake.pending.append(body)
                    answer = {"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}}
                    if body["prompt"]["1"]["inputs"]["text"] == "refuse a part":
                        fault = {"message": "Value not in list", "details": "of one output"}
                        answer["node_errors"] = {"1": {"class_type": "Count", "errors": [fault]}}
                    self._answer(answer)
                case "/queue":
                    fake.dropped += body["delete"]
                    fake.pending = [
                        one for one in fake.pending if one["prompt_id"] not in body["delete"]
                    ]
                    self._answer({})
                case "/interrupt":
                    if fake.running and fake.running["prompt_id"] == body["prompt_id"]:
                        fake.running = None
                    self._answer({})

    def _picture(self, query: dict[str, list[str]]) -> None:
        seed = int(query["filename"][0].removeprefix("pic_").removesuffix(".png"))
        content = io.BytesIO()
        Image.new("RGB", (640, 480), (seed, 0, 0)).save(content, format="PNG")
        self._send(200, content.getvalue())

    def _answer(self, content: object, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
