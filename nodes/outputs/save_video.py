"""Save Video (Stream): a terminal output beside others, chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...stream.metrics import Report
from ...stream.video.contact_sheet import ContactSheet
from ...stream.video.spec import (
    FRAME_NAME,
    Container,
    FragmentedMP4,
    LosslessMKV,
    PNGFrames,
    VideoSpec,
)
from ...stream.video.writer import open_video
from .. import categories, host, sockets
from ..frames.source import FrameSource, announce_file
from ..frames.video_frames import sound_of
from ..schema import build

FILE_EVENT = "longtake.file"
MP4, MKV, PNG = "mp4 (h264)", "mkv (lossless)", "png frames"
ROLE = {PNG: "frames"}
SUFFIX = {MP4: ".mp4", MKV: ".mkv", PNG: "frames"}


class SaveVideo(io.ComfyNode):
    """Frames into a file that grows while they are made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSaveVideo",
            display_name="Save Video (Stream)",
            category=categories.SAVE,
            description="Writes frames to a video file as they are made. The file can be watched "
            "while it grows, and whatever stops the run, it is whole up to there.",
            search_aliases=["export video", "video combine", "mp4"],
            is_output_node=True,
            inputs=[
                sockets.Frames.Input("frames", tooltip="From VAE Decode (Stream)."),
                io.String.Input(
                    "filename_prefix",
                    default="longtake/clip",
                    tooltip="Name in the output folder, subfolders allowed; a number is added. "
                    "Change it to sort your shots.",
                ),
                io.Combo.Input(
                    "format",
                    options=[MP4, MKV, PNG],
                    default=MP4,
                    tooltip="`mp4` plays everywhere; `mkv` keeps every pixel (FFV1, about ten "
                    "times the size); `png frames` is a folder of pictures.",
                ),
                io.Int.Input(
                    "crf",
                    default=18,
                    min=0,
                    max=51,
                    tooltip="Quality of mp4, 0 (best, largest) to 51. 18 looks like the source; "
                    "raise it for smaller files.",
                ),
                io.Boolean.Input(
                    "sheet_and_report",
                    default=True,
                    tooltip="Also write a contact sheet (PNG) and the measurements of the run "
                    "(JSON) beside the video.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Sound for the video, from its beginning and no longer than it: of "
                    "Video to Frames (Stream), Load Audio, or any other. Not for png frames.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(  # noqa: PLR0913
        cls,
        frames: FrameSource,
        filename_prefix: str,
        format: str,
        crf: int,
        sheet_and_report: bool,
        audio: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Write until the stream ends; the file is closed in every case."""
        if frames.plan_only:
            host.show_status(cls.hidden.unique_id, f"Nothing is saved: {frames.plan.text}")
            return io.NodeOutput()
        file, role = host.output_file(filename_prefix, SUFFIX[format]), ROLE.get(format, "video")
        progress = host.Progress(cls.hidden.unique_id, frames.chunk_count or 0)
        sheet = ContactSheet(fps=frames.fps)
        if audio is not None and format == PNG:
            host.warn(cls.hidden.unique_id, "A folder of pictures has no sound; choose mp4 or mkv.")
        container, sound = _container(format, crf), sound_of(audio)
        spec = VideoSpec(frames.width, frames.height, frames.fps, container, sound)
        with frames.chunks.subscribe() as reader, open_video(file.path, spec) as video:
            frames.counts(lambda: video.bytes_written)
            _tell(role, file)
            async for chunk in reader:
                video.write(chunk.frames)
                sheet.add(chunk.frames)
                progress.advance(chunk.index + 1)
        beside = _save_sheet(file, format, sheet) if sheet_and_report else {}
        report = frames.report([str(one.path) for one in (file, *beside.values())])
        if sheet_and_report:
            report.save(beside["report"].path)
            _tell("report", beside["report"])
        announce_file(frames, file, role)
        shown = _folder(file, video.frames_written) if format == PNG else _playable(file)
        return io.NodeOutput(ui={**shown, **_further(beside, report)})


def _container(format: str, crf: int) -> Container:
    lossless: dict[str, Container] = {MKV: LosslessMKV(), PNG: PNGFrames()}
    return lossless.get(format, FragmentedMP4(crf))


def _save_sheet(
    video: host.OutputFile, format: str, sheet: ContactSheet
) -> dict[str, host.OutputFile]:
    """Write the contact sheet; what lies beside the video and is named after it, by role."""
    beside = {
        "contact_sheet": _beside(video, format, "sheet.png"),
        "report": _beside(video, format, "report.json"),
    }
    sheet.save(beside["contact_sheet"].path)
    _tell("contact_sheet", beside["contact_sheet"])
    return beside


def _playable(video: host.OutputFile) -> dict[str, object]:
    """The video as the host's own nodes list one, so that the browser plays it in the node."""
    return {"images": [_entry("video", video)], "animated": (True,)}


def _folder(frames: host.OutputFile, count: int) -> dict[str, object]:
    """A folder of frames as one entry: an hour of video is 57,600 files."""
    folder = f"{frames.subfolder}/{frames.name}".removeprefix("/")
    names = {"subfolder": folder, "pattern": FRAME_NAME, "count": count}
    return {"longtake_frames": [{"role": "frames", "type": "output", **names}]}


def _further(beside: dict[str, host.OutputFile], report: Report) -> dict[str, object]:
    """What lies beside the video, and the report itself (as text: the host counts every record in
    a list as one more output file).
    """
    files = [_entry(role, file) for role, file in beside.items()]
    return {"longtake_files": files, "longtake_report": [report.to_json()]}


def _beside(video: host.OutputFile, format: str, ending: str) -> host.OutputFile:
    """A file named as the video is, up to the format's ending; a dot before it is the name's."""
    stem = video.name.removesuffix(SUFFIX[format])
    return host.OutputFile(video.path.with_name(f"{stem}{ending}"), video.subfolder)


def _entry(role: str, file: host.OutputFile) -> dict[str, str]:
    """A file in the output folder, as the host's /view takes it."""
    return {
        "role": role,
        "filename": file.name,
        "subfolder": file.subfolder,
        "type": "output",
    }


def _tell(role: str, file: host.OutputFile) -> None:
    host.emit(FILE_EVENT, _entry(role, file))
