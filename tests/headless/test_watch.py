"""`longtake run --watch`: the player's page over a run of the stand-in."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from click.testing import CliRunner
from rich.console import Console

from longtake.errors import BadInput
from longtake.headless import cli
from longtake.headless.commands import watch
from longtake.headless.events import Event
from longtake.headless.player.access import Access
from longtake.headless.runner import Job, open_host, run_workflow
from longtake.headless.workflow.overrides import parse_override
from longtake.stream.preview.frame_encoder import FrameEncoder

EXAMPLE = Path(__file__).parents[2] / "example_workflows" / "api" / "1_text_to_stream.json"
SMALL = tuple(
    parse_override(text)
    for text in (
        "LongtakePromptTimeline.text=0: a red ball",
        "LongtakeSchedule.steps=1",
        "LongtakeSampler.width=32",
        "LongtakeSampler.height=32",
        "LongtakeSampler.length=2",
    )
)


class Page:
    """What a page at an address gets with a key."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        self.root = f"{parts.scheme}://{parts.netloc}"
        self.key = parts.fragment if key is None else key

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.root}{path}", timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def takes(self) -> list[dict[str, Any]]:
        request = urllib.request.Request(
            f"{self.root}/longtake/attach",
            json.dumps({"client_id": self.key}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            named = json.loads(answer.read())["takes"]
        return [json.loads(self.get(f"/longtake/takes/{one['take']}")) for one in named]

    def saved(self, file: dict[str, str]) -> bytes:
        return self.get(f"/view?{urlencode({**file, 'clientId': self.key})}")


@pytest.fixture
def watched_run(
    tmp_path: Path, tiny_demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Path]]:
    """Yield the address of a page over a finished run, and the folder of its files."""
    events: list[Event] = []
    with open_host(None, tmp_path / "o", events.append) as host:
        from longtake.nodes.models import load_demo

        monkeypatch.setattr(load_demo, "DEMO_FOLDER", tiny_demo_folder)
        with host.serve_player() as url:
            run_workflow(host, Job(EXAMPLE, SMALL, tmp_path / "o"))
            yield url, tmp_path / "o"
            page = Page(url)
        with pytest.raises(urllib.error.URLError):
            page.get("/")


def test_who_has_the_key_gets_the_page_the_frames_and_the_saved_file(
    watched_run: tuple[str, Path],
) -> None:
    url, out = watched_run
    page = Page(url)
    assert b"player/page.mjs" in page.get("/") and urlsplit(url).hostname == "127.0.0.1"
    [take] = page.takes()
    assert take["state"] == "done" and take["frames"] == take["total_frames"] == 33
    for chunk in take["chunks"]:
        got = page.get(f"/longtake/takes/{take['take']}/chunks/{chunk['seq']}")
        assert len(got) == chunk["bytes"]
    [video] = [file for file in take["files"] if file["filename"].endswith(".mp4")]
    assert page.saved(video) == (out / video["subfolder"] / video["filename"]).read_bytes()


def test_without_the_key_there_is_nothing_and_with_it_only_what_was_saved(
    watched_run: tuple[str, Path],
) -> None:
    url, out = watched_run
    (out / "secret.txt").write_text("x")
    [take] = Page(url).takes()
    stranger = Page(url, key="")
    assert Page(url, key="x").takes() == []
    for page, file in (
        (stranger, take["files"][0]),
        (Page(url), {"filename": "secret.txt", "subfolder": "", "type": "output"}),
        (Page(url), {**take["files"][0], "subfolder": "../o/longtake"}),
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            page.saved(file)


@pytest.mark.parametrize("is_watched", [False, True])
def test_pictures_are_encoded_for_a_page_alone(
    tmp_path: Path, tiny_demo_folder: Path, monkeypatch: pytest.MonkeyPatch, is_watched: bool
) -> None:
    encoded = list[int]()
    put = FrameEncoder.put

    def counted(self: FrameEncoder, frames: Any, deliver: Any) -> None:
        encoded.append(len(frames))
        put(self, frames, deliver)

    monkeypatch.setattr(FrameEncoder, "put", counted)
    with open_host(None, tmp_path / "o", lambda _: None) as host:
        from longtake.nodes.models import load_demo

        monkeypatch.setattr(load_demo, "DEMO_FOLDER", tiny_demo_folder)
        with host.serve_player() if is_watched else nullcontext():
            run_workflow(host, Job(EXAMPLE, SMALL, tmp_path / "o"))
    assert sum(encoded) == (33 if is_watched else 0)
    assert [*(tmp_path / "o").rglob("*.mp4")]


def test_a_workflow_that_shows_nothing_is_refused_before_the_run(tmp_path: Path) -> None:
    content = json.loads(EXAMPLE.read_text())
    kept = {name: node for name, node in content.items() if node["class_type"] != watch.PREVIEW}
    (tmp_path / "w.json").write_text(json.dumps(kept))
    arguments = ["run", str(tmp_path / "w.json"), "--watch", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 1
    assert "--watch: w.json has no preview; connect a Streaming Preview node" in result.output


class Host:
    """A host whose player is always there."""

    def serve_player(self, access: Access) -> Any:
        return nullcontext("http://here")


def test_ctrl_c_may_come_as_soon_as_the_player_says_that_it_stays() -> None:
    class Pressed(Console):
        def print(self, *objects: Any, **how: Any) -> None:
            if "stays" in objects[0]:
                raise KeyboardInterrupt

    try:
        with watch.watch_run(Host(), Access(), Pressed()):  # type: ignore[arg-type]
            pass
    except KeyboardInterrupt:  # which would end all tests
        pytest.fail("a finished run was called interrupted")


def test_the_player_stays_until_ctrl_c_unless_the_run_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ctrl_c(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", ctrl_c)
    console = Console(record=True)
    with watch.watch_run(Host(), Access(), console):  # type: ignore[arg-type]
        pass
    said = console.export_text()
    assert "Watch it at http://here" in said and "stays at http://here until Ctrl-C" in said
    with pytest.raises(ValueError), watch.watch_run(Host(), Access(), console):  # type: ignore[arg-type]
        raise ValueError
    assert "stays" not in console.export_text()


def test_an_address_of_ipv6_is_printed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    url, console = "http://[fd00::5]:8080/#key", Console(record=True)
    monkeypatch.setattr(Host, "serve_player", lambda *_: nullcontext(url))

    def ctrl_c(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", ctrl_c)
    with watch.watch_run(Host(), Access(), console):  # type: ignore[arg-type]
        pass
    assert console.export_text().count(url) == 2


def test_where_the_player_cannot_listen_is_one_sentence(tmp_path: Path) -> None:
    with (
        open_host(None, tmp_path, lambda event: None) as host,
        pytest.raises(BadInput, match="--listen 203.0.113.7: the player cannot listen there"),
        host.serve_player(Access("203.0.113.7")),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--allow-host", "x.example"], "--listen and --allow-host need --watch"),
        (["--watch", "--allow-host", "http://x"], "--allow-host 'http://x' is not the name"),
    ],
)
def test_options_of_the_player_that_make_no_sense_are_wrong_usage(
    options: list[str], reason: str
) -> None:
    result = CliRunner().invoke(cli.main, ["run", str(EXAMPLE), *options])
    assert result.exit_code == 2 and reason in " ".join(result.output.split())


@pytest.mark.parametrize(
    "request_line", [b"GET /?" + b"a" * 9000 + b" HTTP/1.1", b"\x00\xff", b"GET / HTTP/9.z"]
)
def test_a_request_that_is_not_http_prints_nothing(
    watched_run: tuple[str, Path], caplog: pytest.LogCaptureFixture, request_line: bytes
) -> None:
    address = urlsplit(watched_run[0])
    with socket.create_connection((address.hostname, address.port), 60) as connection:
        connection.sendall(request_line + b"\r\nHost: localhost\r\n\r\n")
        assert b" 400 " in connection.recv(4096)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
