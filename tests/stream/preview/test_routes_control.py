"""The preview's control route: what it obeys and what it refuses without an effect."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from longtake.stream.preview.messages import Ending
from longtake.tests.support.stream.take_site import JSON, Site, served


def test_each_op_reaches_the_controls(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert await site.control({"op": "pause", "rev": 1}) == (
            200, {"state": "paused", "control_rev": 1},
        )  # fmt: skip
        assert (await site.control({"op": "resume", "rev": 2}))[1]["state"] == "running"
        assert (await site.control({"op": "prompt", "rev": 3, "text": "雪 \n☃"}))[0] == 200
        assert (await site.control({"op": "guidance", "rev": 9, "guidance": 2}))[0] == 200
        assert (await site.control({"op": "lora", "rev": 10, "lora": -0.5}))[0] == 200
        assert (await site.control({"op": "strength", "rev": 11, "strength": 0.25}))[0] == 200
        assert (await site.control({"op": "level", "rev": 12, "level": 0.6}))[0] == 200
        wishes = [(e.text, e.guidance, e.lora, e.strength, e.level) for e in site.controls.edits]
        assert wishes == [("雪 ☃", 2, -0.5, 0.25, 0.6)]
        assert (await site.control({"op": "stop", "rev": 13}))[1]["state"] == "stopping"

    served(tmp_path, test)


def test_an_edit_of_several_parts_is_one_edit(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.controls.set_number("level", 0.5)  # is queued, so that both are one
        parts = {"text": "a blue  ball", "guidance": 2, "lora": 0.5, "strength": 0}
        assert (await site.control({"op": "edit", "rev": 1, **parts}))[0] == 200
        [edit] = site.controls.edits
        assert (edit.text, edit.guidance, edit.lora) == ("a blue ball", 2, 0.5)
        assert (edit.strength, edit.level) == (0, 0.5)

    served(tmp_path, test)


def test_a_prompt_blends_in_and_a_later_one_without_a_blend_begins_at_once(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.control({"op": "edit", "rev": 1, "text": "a blue ball", "over": 2, "lora": 0.5})
        assert [(e.text, e.over_s) for e in site.controls.edits] == [("a blue ball", 2.0)]
        await site.control({"op": "prompt", "rev": 2, "text": "a red ball", "over": 600})
        await site.control({"op": "guidance", "rev": 3, "guidance": 2})  # leaves the blend
        [edit] = site.controls.edits
        assert (edit.text, edit.over_s, edit.lora, edit.guidance) == ("a red ball", 600, 0.5, 2)
        await site.control({"op": "prompt", "rev": 4, "text": "a green ball"})
        assert [(e.text, e.over_s) for e in site.controls.edits] == [("a green ball", None)]

    served(tmp_path, test)


@pytest.mark.parametrize("op", ["edit", "prompt"])
@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("(over 2): a cat", ("a cat", 2.0, None, None)),
        ("(Guidance 3, over 1.5 s) : a cat", ("a cat", 1.5, 3.0, None)),
        ("（lora -0.5，over 2）： 一只猫", ("一只猫", 2.0, None, -0.5)),
        ("(lora 0): a cat: and a dog", ("a cat: and a dog", None, None, 0.0)),
        ("(cinematic): a cat", ("(cinematic): a cat", None, None, None)),
        ("(overcast sky:1.2) a cat", ("(overcast sky:1.2) a cat", None, None, None)),
        ("a cat (over 2): jumps", ("a cat (over 2): jumps", None, None, None)),
        ("3 cats: one black", ("3 cats: one black", None, None, None)),
        ("a clock at 5: late", ("a clock at 5: late", None, None, None)),
    ],
)
def test_brackets_before_a_prompt_are_those_of_a_timelines_line(
    tmp_path: Path, op: str, text: str, wish: tuple[object, ...]
) -> None:
    async def test(site: Site) -> None:
        assert (await site.control({"op": op, "rev": 1, "text": text}))[0] == 200
        assert [(e.text, e.over_s, e.guidance, e.lora) for e in site.controls.edits] == [wish]

    served(tmp_path, test)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": "(over 2) a cat"}, "cannot be read"),
        ({"text": "(over): a cat"}, "cannot be read"),
        ({"text": "(over 2, over 3): a cat"}, "cannot be read"),
        ({"text": "(over 2, fast): a cat"}, "cannot be read"),
        ({"text": "(over 2):  "}, "cannot be read"),
        ({"text": "(over 2): a cat", "over": 3}, "over is given in brackets and beside them"),
        ({"text": "(guidance 31): a cat"}, "guidance must be a number from 0 to 30"),
        ({"text": "(over 601): a cat"}, "over must be a number from 0 to 600"),
        ({"text": "5: a cat"}, "has the time `5:`, but a live prompt begins with the next chunk"),
        ({"text": "1:30 (over 2): a cat"}, "has the time `1:30 (over 2):`"),
        ({"text": "2.5 s： 一只猫"}, "has the time `2.5 s：`"),
    ],
)
def test_brackets_that_cannot_be_read_change_nothing(
    tmp_path: Path, fields: dict[str, object], words: str
) -> None:
    async def test(site: Site) -> None:
        status, answer = await site.control({"op": "edit", "rev": 1, **fields})
        assert status == 400
        assert words in str(answer)
        assert not site.controls.edits

    served(tmp_path, test)


def test_replayed_and_out_of_order_requests_change_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.control({"op": "pause", "rev": 5})
        for rev in (5, 4, 1):
            status, answer = await site.control({"op": "resume", "rev": rev})
            assert status == 409 and answer["state"] == "paused" and answer["control_rev"] == 5
        site.take.finish(Ending("done"))
        site.take.join()
        status, answer = await site.control({"op": "resume", "rev": 6})
        assert (status, answer["state"], answer["control_rev"]) == (409, "done", 5)
        assert site.controls.state == "paused"

    served(tmp_path, test)


BAD_BODIES: list[object] = [
    b"", b"{", b"null", b"[]", b"1", b'"pause"', b"\xff\xfe", b"[" * 60_000, b'{"a":' * 9_000,
    b'{"op":"pause","rev":' + b"9" * 5000 + b"}", {}, {"op": "pause"}, {"rev": 1},
    {"op": "pause", "rev": True}, {"op": "pause", "rev": 1.0}, {"op": "pause", "rev": "1"},
    {"op": "pause", "rev": 0}, {"op": "pause", "rev": -1}, {"op": "pause", "rev": 2**53},
    {"op": "Pause", "rev": 1}, {"op": "__class__", "rev": 1}, {"op": ["pause"], "rev": 1},
    {"op": None, "rev": 1}, {"op": "pause", "rev": 1, "path": "/etc"}, {"op": "prompt", "rev": 1},
    {"op": "prompt", "rev": 1, "text": ""}, {"op": "prompt", "rev": 1, "text": " \n"},
    {"op": "prompt", "rev": 1, "text": "x" * 8193}, {"op": "prompt", "rev": 1, "text": ["x"]},
    b'{"op":"prompt","rev":1,"text":"\\ud800"}', {"op": "guidance", "rev": 1},
    {"op": "guidance", "rev": 1, "guidance": 30.1}, {"op": "guidance", "rev": 1, "guidance": -1},
    {"op": "guidance", "rev": 1, "guidance": "2"}, {"op": "guidance", "rev": 1, "guidance": True},
    {"op": "lora", "rev": 1}, {"op": "lora", "rev": 1, "lora": 20.1},
    {"op": "strength", "rev": 1, "strength": -0.1}, {"op": "level", "rev": 1, "level": 0.04},
    {"op": "strength", "rev": 1, "level": 0.5}, {"op": "level", "rev": 1, "level": None},
    {"op": "lora", "rev": 1, "lora": "1"}, b'{"op":"lora","rev":1,"lora":NaN}',
    b'{"op":"guidance","rev":1,"guidance":NaN}', b'{"op":"guidance","rev":1,"guidance":1e999}',
    b'{"op":"guidance","rev":1,"guidance":1' + b"0" * 400 + b"}", {"op": "edit", "rev": 1},
    {"op": "edit", "rev": 1, "text": "a blue ball", "guidance": 1e9},
    {"op": "edit", "rev": 1, "text": "a blue ball", "guidance": None},
    {"op": "edit", "rev": 1, "lora": 1, "over": 2}, {"op": "prompt", "rev": 1, "over": 2},
    {"op": "prompt", "rev": 1, "text": "a ball", "over": 600.1},
    {"op": "edit", "rev": 1, "text": "a ball", "over": -1},
    {"op": "edit", "rev": 1, "text": "a ball", "over": None},
    {"op": "edit", "rev": 1, "text": "", "lora": 1}, {"op": "edit", "rev": 1, "fork_seed": 1},
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: str(body)[:40])
def test_a_bad_body_is_400_with_one_sentence_and_no_effect(tmp_path: Path, body: object) -> None:
    async def test(site: Site) -> None:
        status, answer = await site.control(body)
        assert status == 400 and answer["error"].endswith(".")
        assert site.controls.edits == () and site.controls.state == "running"
        assert site.take.controls.rev == 0

    served(tmp_path, test)


def test_a_body_too_large_is_413_however_its_size_is_declared(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert (await site.control(b" " * 65_537))[0] == 413

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 10_000

        async with site.page.post(f"{site.path}/control", data=pieces(), headers=JSON) as answer:
            assert answer.status == 413

    served(tmp_path, test)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/json-seq"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "nonsense"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[half"}, 403),
        ({"Origin": "HOST", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "HOST", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://shown.example", "Host": "shown.example:443"}, 200),
        ({"Origin": "http://shown.example", "Host": "Shown.example:80"}, 200),
        ({"Origin": "https://shown.example", "Host": "shown.example:80"}, 403),
        ({"Origin": "https://shown.example", "Host": "shown.example:8443"}, 403),
        ({"Origin": "https://shown.example", "Host": "other.example:443"}, 403),
        ({"Origin": "https://shown.example", "Host": "inner:8188"}, 403),
        ({"Origin": "https://shown.example", "Host": "inner:8188", "Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://a.example", "Host": "inner", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_only_json_from_our_own_pages_is_accepted(
    tmp_path: Path, headers: dict[str, str], expected: int
) -> None:
    async def test(site: Site) -> None:
        own = str(site.page.make_url("/")).rstrip("/")
        sent = {name: own if value == "HOST" else value for name, value in headers.items()}
        status, _ = await site.control({"op": "pause", "rev": 1}, **sent)
        assert status == expected
        assert (site.controls.state == "paused") == (expected == 200)

    served(tmp_path, test)


def test_compressed_bodies_are_refused(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        bomb = gzip.compress(b" " * 10_000_000)
        assert (await site.control(bomb, **{"Content-Encoding": "gzip"}))[0] == 415

    served(tmp_path, test)


def test_a_page_that_closes_while_it_sends_leaves_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(site: Site) -> None:
        url = site.page.make_url(f"{site.path}/control")
        _, writer = await asyncio.open_connection(url.host, url.port)
        head = f"POST {url.path} HTTP/1.1\r\nHost: {url.authority}\r\nContent-Length: 90\r\n"
        writer.write(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
        await asyncio.sleep(0.2)
        writer.transport.abort()
        await asyncio.sleep(0.2)

    served(tmp_path, test)
    assert caplog.records == []
