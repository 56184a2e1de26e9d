"""results.html: the rows of a batch with pictures, in one file without scripts.

All text is escaped. Pictures are embedded in the page; files are linked.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import av
from PIL import Image, UnidentifiedImageError

from ...stream.timecode import time_label
from ...stream.video.opening import open_to_read
from .record import DONE, FAILED, Record
from .tables import columns

PICTURE_PIXELS = 320
PICTURE_ROLES = ("contact_sheet", "frames", "video")  # best first
FRAMES_LINKED = 3
STYLE = """
:root{color-scheme:light dark}body{font:14px/1.4 system-ui,sans-serif;margin:2em}
table{border-collapse:collapse}th,td{padding:.4em .8em;text-align:left;vertical-align:top;
border-bottom:1px solid #8884}img{max-width:320px;display:block}td{max-width:28em;
overflow-wrap:anywhere}.failed{color:#c33}thead th{position:sticky;top:0;background:Canvas}
"""


def page_parts(records: Sequence[Record], out: Path) -> Iterator[str]:
    """Yield the page, a row at a time; the records' files are relative to `out`.

    Where rows are of several workflows, each names its own.
    """
    names, title = columns(records), escape(out.resolve().name)
    has_several = len({record.workflow for record in records}) > 1
    first = ["workflow"] if has_several else []
    head = ["row", "", *first, *names, "state", "time", "frames", "frames/s", "server", "files"]
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    yield (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{title}: {_counts(records)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{title}</h1><p>{_counts(records)}</p>\n"
        f"<table><thead><tr>{cells}</tr></thead><tbody>\n"
    )
    for record in records:
        texts = [Path(record.workflow).stem] if has_several else []
        yield f"{_row(record, texts, names, out)}\n"
    yield "</tbody></table></body></html>\n"


def _counts(records: Sequence[Record]) -> str:
    states = [record.state for record in records]
    done, failed = states.count(DONE), states.count(FAILED)
    left = len(states) - done - failed
    waiting = f", {left} not run yet" if left else ""
    return f"{done} of {len(states)} done, {failed} failed{waiting}"


def _row(record: Record, first: Sequence[str], names: Sequence[str], out: Path) -> str:
    rate = record.report.get("frames_per_s")
    texts = [
        *first,
        *(record.values.get(name, "") for name in names),
        record.state,
        time_label(record.seconds, tenths=False) if record.seconds is not None else "",
        record.report.get("frames") or "",
        f"{rate:.1f}" if isinstance(rate, float) else "",
        record.server or "",
    ]
    cells = "".join(f"<td>{escape(str(text))}</td>" for text in texts)
    problem = f'<div class="failed">{escape(record.error)}</div>' if record.error else ""
    links = "<br>".join(_links(record))
    return (
        f"<tr><td>{record.number}</td><td>{_picture(record, out)}</td>"
        f"{cells}<td>{problem}{links}</td></tr>"
    )


def _links(record: Record) -> Iterator[str]:
    frames = [file for file in record.files if file.role == "frames"]
    for file in [*(file for file in record.files if file not in frames), *frames[:FRAMES_LINKED]]:
        name = escape(file.path.rpartition("/")[2])
        yield f'<a href="{escape(quote(file.path))}">{name}</a>'
    if len(frames) > FRAMES_LINKED:
        yield f"and {len(frames) - FRAMES_LINKED} more frames"


def _picture(record: Record, out: Path) -> str:
    """Return the row's picture as an image tag with embedded data, or an empty string."""
    for role in PICTURE_ROLES:
        for file in record.files:
            if file.role != role:
                continue
            image = _open(out / file.path)
            if image is not None:
                return f'<img alt="row {record.number}" src="{_embed(image)}">'
    return ""


def _open(path: Path) -> Image.Image | None:
    """Return the picture in a file, or a video's first picture, or None."""
    try:
        if path.suffix.lower() in (".mp4", ".mov", ".mkv", ".webm"):
            with open_to_read(str(path)) as container:
                image: Image.Image = next(container.decode(video=0)).to_image()
                return image
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, av.FFmpegError, IndexError, StopIteration):
        return None


def _embed(image: Image.Image) -> str:
    image.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
