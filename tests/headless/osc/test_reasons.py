"""Why a run cannot be reached is said in plain words."""

from __future__ import annotations

import errno
import io
import json
import os
from email.message import Message
from http.client import IncompleteRead
from urllib.error import HTTPError, URLError

import pytest

from longtake.errors import BadInput, LongtakeError
from longtake.headless.osc import remote

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (URLError(REFUSED), os.strerror(errno.ECONNREFUSED)),
        (URLError(TimeoutError("timed out")), "it says nothing for 10 s"),
        (TimeoutError("timed out"), "it says nothing for 10 s"),
        (IncompleteRead(b"{", 90), "its answer breaks off"),
        (json.JSONDecodeError("Expecting value", "", 0), "its answer is no JSON"),
    ],
)
def test_a_reason_is_no_text_of_a_library(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(remote, "urlopen", fail)
    with pytest.raises(LongtakeError) as said:
        remote.RemoteRun("http://127.0.0.1:1/#key").send({"op": "stop"})
    assert str(said.value) == f"http://127.0.0.1:1 does not answer ({reason})."


@pytest.mark.parametrize("key", ["", "#key"])
@pytest.mark.parametrize(
    "answer",
    [
        {}, [], "up", None, {"queue_running": None, "takes": 3}, {"queue_running": {}, "takes": {}},
        {"takes": ["a"], "queue_running": "a"},
    ],
)  # fmt: skip
def test_other_json_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, key: str, answer: object
) -> None:
    monkeypatch.setattr(remote, "urlopen", lambda *_, **__: io.BytesIO(json.dumps(answer).encode()))
    said = remote.RemoteRun(f"http://127.0.0.1:1/{key}").lack()
    assert said == (
        "http://127.0.0.1:1 answers, but not as a ComfyUI with Longtake does; check the address."
    )


def test_entries_that_no_page_queued_are_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"queue_running": [[1], "entry", [0, "id", {}, {}], [0, "id", {}, None]]}
    monkeypatch.setattr(
        remote, "urlopen", lambda *_, **__: io.BytesIO(json.dumps(content).encode())
    )
    assert remote.RemoteRun("http://127.0.0.1:1").lack().startswith(remote.NOBODY)


def test_an_address_without_its_key_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise HTTPError("", 404, "Not Found", Message(), io.BytesIO(b"404: Not Found"))

    monkeypatch.setattr(remote, "urlopen", fail)
    with pytest.raises(BadInput, match="copy the whole address that it prints, with what follows"):
        remote.RemoteRun("http://127.0.0.1:1/").lack()
