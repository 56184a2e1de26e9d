"""Controls the newest run of a server, by the player's own routes."""

from __future__ import annotations

import json
import secrets
from http.client import HTTPException, IncompleteRead
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ...errors import BadInput, LongtakeError

TIMEOUT_S = 10.0
NOT_FOUND = 404
ACTIVE = ("waiting", "running", "paused")
BROKEN = (OSError, HTTPException, ValueError)
"""What is raised where nobody answers, an answer breaks off, or it is no JSON."""
NOBODY = "No run with a preview goes on there"
NO_RUN = f"{NOBODY}; the message has no effect."


class NothingThere(LongtakeError):
    """The server has nothing below a path."""


class RemoteRun:
    """The run that a page of the server shows.

    `address` is what `longtake run --watch` prints, with its key, or that of a ComfyUI. In ComfyUI
    the run is the one that its queue says is running.
    """

    def __init__(self, address: str) -> None:
        try:
            parts = urlsplit(address)
            is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a bracket without its end, a port that is none
            is_usable = False
        if not is_usable:
            raise BadInput(f"{address} is no address; give one such as http://127.0.0.1:8188.")
        self._server = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._key = parts.fragment
        self._take: str | None = None
        self._rev = 0
        self._driver, self._number = secrets.token_hex(8), 0  # of messages that push the camera
        self._sticks: list[float] = []  # how the camera is pushed

    def lack(self) -> str:
        """Say in one sentence why a message would have no effect now; empty if it would have.

        BadInput where none ever will.
        """
        try:
            self._take = self._newest()
        except BadInput:
            raise
        except LongtakeError as error:
            return str(error).replace(NO_RUN, f"{NOBODY} yet.")
        return ""

    def send(self, request: dict[str, Any]) -> None:
        """Send a request of the control route; LongtakeError says in one sentence why not."""
        obeys = self._steers if request["op"] == "camera" else self._obeys
        if self._take is None or not obeys(self._take, request):
            self._take = self._newest()
            if not obeys(self._take, request):
                raise LongtakeError(NO_RUN)

    def repeat(self) -> None:
        """Say again how the camera is pushed: a run lets go of one that is silent."""
        sticks, self._sticks = self._sticks, []
        if any(sticks):
            self.send({"op": "camera", "sticks": sticks})

    def _steers(self, take: str, request: dict[str, Any]) -> bool:
        """Whether the run's camera is pushed now; LongtakeError if keys cannot."""
        self._number += 1
        push = {"driver": self._driver, "number": self._number, "take_over": True}
        answer = self._call(
            f"/longtake/takes/{take}/drive", {**push, "sticks": request["sticks"]}, (404,)
        )
        if answer.get("answer") in ("no camera", "several shots"):
            raise LongtakeError(str(answer.get("error", NO_RUN)))
        self._sticks = request["sticks"]
        return bool(answer.get("answer") == "drives")

    def _obeys(self, take: str, request: dict[str, Any]) -> bool:
        """Whether the run obeyed. A newer number of another page's request is followed once."""
        for _ in range(2):
            answer = self._call(
                f"/longtake/takes/{take}/control", {**request, "rev": self._rev + 1}, (404, 409)
            )
            behind = _rev_of(answer) > self._rev
            self._rev = max(self._rev, _rev_of(answer))
            if "error" not in answer:
                return True
            if not behind:
                break
        return False

    def _newest(self) -> str:
        for client in [self._key] if self._key else self._running_clients():
            for take in self._takes(client):
                state = self._call(f"/longtake/takes/{take}", None, (404,))
                if state.get("state") in ACTIVE:
                    self._rev = _rev_of(state)
                    return take
        raise LongtakeError(NO_RUN)

    def _takes(self, client: str) -> list[str]:
        """The takes that a page may see, the newest first."""
        match self._call("/longtake/attach", {"client_id": client}):
            case {"takes": [*takes]} if all(isinstance(take, dict) for take in takes):
                return [str(take.get("take")) for take in reversed(takes)]
        raise self._stranger()

    def _running_clients(self) -> list[str]:
        """The pages that queued what ComfyUI runs; BadInput for a page that lacks its key."""
        try:
            queue = self._call("/queue")
        except NothingThere as error:
            raise BadInput(
                f"{self._server} has no queue of ComfyUI; for a run with --watch copy the whole "
                "address that it prints, with what follows #."
            ) from error
        match queue:
            case {"queue_running": [*running]}:
                return [str(client) for client in map(_client_of, running) if client]
        raise self._stranger()

    def _stranger(self) -> LongtakeError:
        return LongtakeError(
            f"{self._server} answers, but not as a ComfyUI with Longtake does; check the address."
        )

    def _call(
        self, path: str, body: object = None, statuses: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """The JSON object that is answered, also where its status is one of `statuses`."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._server + path, data, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                content = json.load(answer)
        except HTTPError as error:
            content = _as_json(error)
            if error.code in statuses and content is not None:
                return content
            reason = (content or {}).get("error", f"status {error.code}.")
            kind = NothingThere if error.code == NOT_FOUND else LongtakeError
            raise kind(f"The server refuses: {reason}") from error
        except BROKEN as error:
            raise LongtakeError(f"{self._server} does not answer ({_reason(error)}).") from error
        if not isinstance(content, dict):
            raise self._stranger()
        return content


def _client_of(entry: object) -> object:
    """The page that queued an entry of ComfyUI's queue; None if it was no page."""
    match entry:
        case [_, _, _, {"client_id": client}, *_]:
            return client
    return None


def _rev_of(answer: dict[str, Any]) -> int:
    """The number of the newest request that a run has seen."""
    number = answer.get("control_rev")
    return number if isinstance(number, int) else 0


def _reason(error: Exception) -> str:
    """Why an answer did not come, in plain words and on one line."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"it says nothing for {TIMEOUT_S:g} s"
    if isinstance(cause, IncompleteRead):
        return "its answer breaks off"
    if isinstance(cause, ValueError):
        return "its answer is no JSON"
    text = getattr(cause, "strerror", None) or str(cause)
    return " ".join(text.split()) or type(cause).__name__


def _as_json(refusal: HTTPError) -> dict[str, Any] | None:
    try:
        answer = json.load(refusal)
    except BROKEN:
        return None
    return answer if isinstance(answer, dict) else None
