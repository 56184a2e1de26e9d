"""How a node that saves files tells the host and the browser of them."""

from __future__ import annotations

from ...stream.metrics import Report
from ...stream.video.spec import FRAME_NAME
from .. import host

FILE_EVENT = "longtake.file"


def tell(role: str, file: host.OutputFile) -> None:
    """Send word of a file, which may still grow."""
    host.emit(FILE_EVENT, entry(role, file))


def entry(role: str, file: host.OutputFile) -> dict[str, str]:
    """Describe a file in the output folder for the host's /view."""
    return {"role": role, "filename": file.name, "subfolder": file.subfolder, "type": "output"}


def playable(video: host.OutputFile) -> dict[str, object]:
    """List the video like the host's own nodes do, so that the browser plays it in the node."""
    return {"images": [entry("video", video)], "animated": (True,)}


def folder(frames: host.OutputFile, count: int) -> dict[str, object]:
    """List a folder of frames as one entry: an hour of video is 57,600 files."""
    path = f"{frames.subfolder}/{frames.name}".removeprefix("/")
    names = {"subfolder": path, "pattern": FRAME_NAME, "count": count}
    return {"longtake_frames": [{"role": "frames", "type": "output", **names}]}


def further(beside: dict[str, host.OutputFile], report: Report) -> dict[str, object]:
    """List the files next to the video, and the report as text: the host counts every record in a
    list as another output file.
    """
    files = [entry(role, file) for role, file in beside.items()]
    return {"longtake_files": files, "longtake_report": [report.to_json()]}
