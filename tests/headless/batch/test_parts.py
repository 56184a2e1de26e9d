"""The parts of a batch without a server, or with a websocket only: tables, page, bars, state."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType, web
from PIL import Image
from rich.console import Console

from longtake.errors import BadInput
from longtake.headless.batch.display import Display
from longtake.headless.batch.page import page_parts
from longtake.headless.batch.params import read_table
from longtake.headless.batch.record import DONE, FAILED, QUEUED, Record, Records, SavedFile
from longtake.headless.batch.row import BatchSpec, Row, build_rows
from longtake.headless.batch.servers.address import server_url
from longtake.headless.batch.servers.client import Client
from longtake.headless.batch.servers.outputs import fetch
from longtake.headless.batch.servers.watch import ProgressWatch
from longtake.headless.batch.tables import to_csv
from longtake.headless.workflow.graph import parse
from longtake.headless.workflow.node_spec import NodeSpec
from longtake.headless.workflow.overrides import parse_override


def record(number: int = 1, **known: Any) -> Record:
    values = {"1.text": "a"}
    return Record(number, f"key{number}", "w.json", values, f"00{number}-w", **known)


def test_a_row_is_named_on_one_line_whatever_its_text() -> None:
    row = Record(2, "key2", "w.json", {"2.text": "0: a ball\n5: a cube"}, "002-w")
    assert row.label == "row 2 (2.text=0: a ball / 5: a cube)"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", '5.seed,2.text\n7,"a, ""b""\n"\n\n,c\n'),
        ("t.csv", '\ufeff5.seed;2.text;;\r\n7;"a, ""b""\n";;\r\n;c;;\r\n'),
        ("t.tsv", '5.seed\t2.text\n7\t"a, ""b""\n"\n\tc\n'),
        ("t.json", '[{"5.seed": 7, "2.text": "a, \\"b\\"\\n"}, {"5.seed": null, "2.text": "c"}]'),
        ("t.jsonl", '{"5.seed": 7, "2.text": "a, \\"b\\"\\n"}\n\n{"2.text": "c"}\n'),
    ],
)
def test_every_kind_of_table_gives_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    table = read_table(tmp_path / name)
    assert table.columns == (("5", "seed"), ("2", "text"))
    found = [[(cell.target, str(cell.value)) for cell in row] for row in table.rows]
    assert found == [[("5.seed", "7"), ("2.text", 'a, "b"\n')], [("2.text", "c")]]


def test_an_empty_text_of_json_is_a_value_and_null_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"5.seed": 1, "2.text": ""}, {"2.text": null}]')
    rows = read_table(tmp_path / "t.json").rows
    assert [[(cell.target, cell.value) for cell in row] for row in rows] == [
        [("5.seed", 1), ("2.text", "")],
        [],
    ]


def test_a_text_of_json_lines_may_hold_the_line_breaks_of_unicode(tmp_path: Path) -> None:
    text = "0: a ball\u2028over\x85hills"
    lines = [json.dumps({"2.text": text, "5.seed": seed}, ensure_ascii=False) for seed in (1, 2)]
    (tmp_path / "rows.jsonl").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    rows = read_table(tmp_path / "rows.jsonl").rows
    assert [[override.value for override in row] for row in rows] == [[text, 1], [text, 2]]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("t.xlsx", "", "use a .csv, .tsv, .json or .jsonl file"),
        ("t.json", "{}", "must be a list of objects"),
        ("t.json", "[3]", "row 1 must be an object"),
        ("t.json", "[{}]", "names no input"),
        ("t.json", '[{"1.a": [1]}]', "row 1, 1.a: must be text, a number, true or false; got a"),
        ("t.jsonl", "{", "is not valid JSON"),
        ("t.csv", "\xff", "is not UTF-8 text; save it anew in UTF-8"),
        ("t.json", "[" * 200_000, "is not valid JSON .it is nested too deep"),
        ("t.jsonl", '{"1.a": "a \\ud800"}', "has half .*, 'a .ud800'; type that text anew"),
        ("t.jsonl", '{"1.\\uDFFF": 1}', "t.jsonl has half a character .a lone surrogate.,"),
    ],
)
def test_another_file_is_rejected_in_one_sentence(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=sentence):
        read_table(tmp_path / name)


class Tags(HTMLParser):
    """Collect every tag of a page with its attributes, and the page's text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_text_of_a_row_becomes_a_tag_of_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>"
    bad = record(state=FAILED, error=evil, server=evil)
    bad.values = {evil: evil}
    bad.files = [SavedFile("frames", f"001-w/{evil}")]
    bad.report = {"frames": evil}
    page = Tags("".join(page_parts([bad], tmp_path)))
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "p", "table", "thead", "tbody",
        "tr", "th", "td", "div", "a",
    }  # fmt: skip
    assert page.text.count("alert(1)") >= 4
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_page_shows_the_contact_sheet_and_links_every_file(tmp_path: Path) -> None:
    (tmp_path / "001-w").mkdir()
    Image.new("RGB", (900, 600), "red").save(tmp_path / "001-w" / "a sheet.png")
    (tmp_path / "001-w" / "clip.mp4").write_bytes(b"not a video")
    done = record(state=DONE)
    done.files = [
        SavedFile("video", "001-w/clip.mp4"),
        SavedFile("contact_sheet", "001-w/a sheet.png"),
    ]
    page = Tags("".join(page_parts([done], tmp_path)))
    [picture] = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert picture is not None and picture.startswith("data:image/jpeg;base64,")
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["001-w/clip.mp4", "001-w/a%20sheet.png"]
    (tmp_path / "001-w" / "a sheet.png").unlink()
    page_of_links = "".join(page_parts([done], tmp_path))
    assert "<img" not in page_of_links  # a file that is no picture is only linked


def test_a_spreadsheet_runs_no_cell_as_a_formula() -> None:
    row = record()
    row.values = {"1.a": "=HYPERLINK(1)", "1.b": "-2.5", "1.c": "@x", "1.d": "-x"}
    cells = to_csv([row]).splitlines()[1].split(",")[2:6]
    assert cells == ["'=HYPERLINK(1)", "-2.5", "'@x", "'-x"]


@pytest.mark.parametrize(
    "evil", ["=x", "\t=x", "\r=x", "\n=x", " +x", "\0@x", "\ufeff=x", "\uff1dx"]
)
def test_no_value_of_a_server_or_file_is_a_formula(evil: str) -> None:
    row = record(state=FAILED, server=evil, error=evil)
    row.workflow, row.values = evil, {evil: evil}
    row.report = dict.fromkeys(("frames", "first_frame_s", "kv_bytes"), evil)
    row.files = [SavedFile("video", evil)]
    cells = [cell for line in csv.reader(io.StringIO(to_csv([row]), newline="")) for cell in line]
    shown = evil.replace("\0", "")  # Python 3.10 can neither write nor read it
    assert cells.count(f"'{shown}") == 9 and shown not in cells


def test_the_state_file_is_never_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(tmp_path)
    records.start([record()])
    before = (tmp_path / "batch.jsonl").read_bytes()

    def fail(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("longtake.headless.batch.record.os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        records.start([record(state=QUEUED)])
    assert (tmp_path / "batch.jsonl").read_bytes() == before
    again = Records(tmp_path)
    again.resume()
    assert again.batch_id == records.batch_id and again.rows == [record()]


def test_a_change_is_one_line_and_a_torn_one_costs_only_itself(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.start([record(1), record(2)])
    before = (tmp_path / "batch.jsonl").stat().st_size
    records.rows[1].files = [SavedFile("video", "002-w/a.mp4")]
    records.rows[1].state = DONE
    records.save(records.rows[1])
    with (tmp_path / "batch.jsonl").open("ab") as file:
        assert file.tell() - before < 300
        file.write(b'{"key": "key2", "state": "wai')
    again = Records(tmp_path)
    again.resume()
    assert again.rows == records.rows and again.batch_id == records.batch_id


def test_a_line_that_a_full_disk_cut_off_does_not_swallow_the_next(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.start([record(1), record(2)])
    with (tmp_path / "batch.jsonl").open("ab") as file:
        file.write(b'{"key": "key1", "sta')
    records.save(record(2, state=DONE))
    records.save(record(1, state=FAILED, error="why"))
    later = Records(tmp_path)
    later.resume()
    assert [row.state for row in later.rows] == [FAILED, DONE]


def test_a_change_costs_the_same_in_a_long_batch(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.start(record(number) for number in range(10_000))
    before = (tmp_path / "batch.jsonl").stat().st_size
    began = time.thread_time()
    for row in records.rows[:100]:
        records.save(row)
    assert time.thread_time() - began < 5  # whole files took 10 s here
    assert (tmp_path / "batch.jsonl").stat().st_size - before < 100 * 300


HEAD = '{"batch_id": "0b3d5ab0-3c0e-4c12-a4b7-3d1d47a0a1de"}\n'


@pytest.mark.parametrize("text", ["", "[]", '{"rows": []}', '{"batch_id": "x"}', f"{HEAD}[3]"])
def test_a_foreign_state_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "batch.jsonl").write_text(text)
    with pytest.raises(BadInput, match="was not written by `longtake batch`; move it away"):
        Records(tmp_path).resume()


def test_the_time_left_comes_from_the_rate_of_the_chunks() -> None:
    now = [100.0]
    display = Display(Console(file=None, quiet=True), [record(1), record(2)], lambda: now[0])
    row = Row(display.records[0], dict)
    display.set_progress(row, 1, 6)
    now[0] = 104.0
    display.set_progress(row, 3, 6)
    assert display.lanes[1].eta_s(now[0]) == 6.0
    row.record.state, row.record.seconds = DONE, 4.0
    display.finish(row.record)
    assert display.summary() == "1 of 2 done, about 0:04 left" and not display.lanes


@pytest.mark.parametrize("width", [60, 80, 120])
def test_values_that_differ_between_rows_fit_a_narrow_terminal(width: int) -> None:
    """Texts with a common beginning come last and are cut; each row is one line."""
    console = Console(width=width, force_terminal=True, color_system=None)
    rows = [record(number, state=QUEUED, server="http://gpu-1.org:8188") for number in range(3)]
    for one in rows:
        text = "a red ball " * 9 + str(one.number)
        one.values = {"Timeline.text": text, "VAE.name": "x", "Sampler.seed": 70 + one.number}
    display = Display(console, rows)
    for one in rows:
        display.set_progress(Row(one, dict), 3, 40)
    with console.capture() as shown:
        console.print(display.render())
    lines = shown.get().splitlines()
    assert len(lines) == 4 and all(len(line) <= width for line in lines)
    for number, line in enumerate(lines[:3]):
        assert all(part in line for part in (f"row {number} ", f"seed={70 + number}", "3/40"))
        assert "gpu-1.org" in line and "name=x" not in line


@pytest.mark.parametrize("text", ["127.0.0.1:8188", "http://127.0.0.1:8188/#y"])
def test_addresses_are_taken_as_users_write_them(text: str) -> None:
    assert str(server_url(text)).rstrip("/") == "http://127.0.0.1:8188"


async def served(routes: list[web.RouteDef]) -> tuple[web.AppRunner, str]:
    """Yield a server of one test, and its address."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def progress(prompt_id: str, **nodes: tuple[int, int]) -> str:
    listed = {
        name: {"value": value, "max": total, "state": "running"}
        for name, (value, total) in nodes.items()
    }
    return json.dumps({"type": "progress_state", "data": {"prompt_id": prompt_id, "nodes": listed}})


async def watched(prompt: dict[str, Any], messages: list[str | bytes]) -> list[tuple[int, int]]:
    """Return the bars of prompt `p` from a server that sends these messages and then its end."""

    async def socket(request: web.Request) -> web.WebSocketResponse:
        assert request.query["clientId"] == "me"
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        for message in messages:
            await (answer.send_str if isinstance(message, str) else answer.send_bytes)(message)
        await answer.send_str('{"type": "execution_success", "data": {"prompt_id": "p"}}')
        async for message in answer:
            assert message.type == WSMsgType.TEXT
        return answer

    runner, url = await served([web.get("/ws", socket)])
    bars: list[tuple[int, int]] = []
    async with ClientSession() as session:
        watch = ProgressWatch(Client(session, server_url(url), "me"))
        watch.follow("p", prompt, lambda done, total: bars.append((done, total)))
        listener = asyncio.create_task(watch.run())
        await asyncio.wait_for(watch.wait("p"), 60)
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
    await runner.cleanup()
    return bars


def test_the_samplers_chunks_are_the_bar_whatever_else_moves() -> None:
    prompt = {"5": {"class_type": "LongtakeSampler"}, "8": {"class_type": "LongtakeSaveVideo"}}
    messages = [
        b"\0\0\0\1 a picture",
        "no json",
        '{"type": "progress_state", "data": {"prompt_id": [1]}}',
        '{"type": "progress_state", "data": {"prompt_id": "p", "nodes": [1]}}',
        '{"type": "progress_state", "data": {"prompt_id": "p", "nodes": {"5": 3, "8": {}}}}',
        '{"type": "progress_state", "data": [1]}',
        progress("p", **{"5": (-1, 10**400)}),
        '{"type": "status", "data": {}}',
        progress("other", **{"5": (9, 9)}),
        progress("p", **{"8": (4, 6), "5": (1, 6)}),
        progress("p", **{"5": (2, 6)}),
        progress("p", **{"8": (1, 1)}),
    ]
    assert asyncio.run(watched(prompt, messages)) == [(1, 6), (2, 6)]
    alone = {"3": {"class_type": "KSampler"}}
    assert asyncio.run(watched(alone, [progress("p", **{"3": (7, 20)})])) == [(7, 20)]


def test_no_file_of_a_server_lands_outside_the_rows_folder(tmp_path: Path) -> None:
    """A server's file names may climb folders, repeat, or list a folder of frames."""

    async def view(request: web.Request) -> web.Response:
        return web.Response(text=request.query["filename"])

    names = ["../../evil.png", "a/b.png", "c\\b.png", "..", "/etc/passwd"]
    listed: list[dict[str, object]] = [
        {"filename": name, "subfolder": "", "type": "output"} for name in names
    ]
    frames = {"type": "output", "subfolder": "x/../y_frames", "pattern": "f_%02d.png", "count": 2}
    entry = {"outputs": {"2": {"images": listed, "longtake_frames": [frames]}}}

    async def main() -> list[SavedFile]:
        runner, url = await served([web.get("/view", view)])
        async with ClientSession() as session:
            client = Client(session, server_url(url), "me")
            files = await fetch(client, entry, tmp_path / "out", "001-w")
        await runner.cleanup()
        return files

    files = [file.path for file in asyncio.run(main())]
    assert files == [
        "001-w/evil.png", "001-w/b.png", "001-w/b-2.png", "001-w/file", "001-w/passwd",
        "001-w/y_frames/f_00.png", "001-w/y_frames/f_01.png",
    ]  # fmt: skip
    there = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {tmp_path / "out" / file for file in files}


@pytest.mark.parametrize("stem", ["w" * 250, "雪" * 83, "a"])
def test_a_row_of_a_workflow_with_a_long_name_has_a_folder(tmp_path: Path, stem: str) -> None:
    workflow = parse({"1": {"class_type": "Save"}}, str(tmp_path / f"{stem}.json"))
    specs = {"Save": NodeSpec("Save", is_output=True)}
    [row] = build_rows([workflow], BatchSpec((), (), None), specs)
    (tmp_path / row.record.folder).mkdir()
    assert row.record.folder.startswith(f"001-{stem[:40]}")


@pytest.mark.parametrize(
    ("changes", "columns", "sentence"),
    [
        ((), "5.seed,Sampler.seed\n1,2\n", "t.csv: 5.seed and Sampler.seed are one input of w"),
        (("5.seed=1", "Sampler.seed=2"), "5.length\n1\n", "--set: 5.seed and Sampler.seed are one"),
        (("5.seed=1", "5.seed=2"), "Sampler.seed\n1\n", "--set Sampler.seed is repeated, and t"),
        (("5.seed=1",), "5.seed,5.length\n7,\n", None),
        (("5.seed=1", "5.seed=2"), "5.length\n1\n", None),
    ],
)
def test_a_row_that_sets_an_input_twice_is_refused(
    tmp_path: Path, changes: tuple[str, ...], columns: str, sentence: str | None
) -> None:
    (tmp_path / "t.csv").write_text(columns)
    workflow = parse({"5": {"class_type": "Count", "_meta": {"title": "Sampler"}}}, "w")
    spec = BatchSpec((), tuple(map(parse_override, changes)), read_table(tmp_path / "t.csv"))
    with pytest.raises(BadInput, match=sentence or "'Count' is not a known node type"):
        list(build_rows([workflow], spec, {}))
