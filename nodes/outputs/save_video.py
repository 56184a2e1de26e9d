"""Save Video (Stream): write frames to a file while they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import StorageError
from ...stream.metrics import Report
from ...stream.timecode import time_label
from ...stream.video.contact_sheet import ContactSheet
from ...stream.video.frame_rate import at_rate
from ...stream.video.piece_reader import PieceReader
from ...stream.video.pieces import PieceLog
from ...stream.video.spec import VideoSpec
from ...stream.video.writer import open_video
from ...units import count_of
from .. import categories, host
from ..frames.pictures import frames_input, to_frames
from ..frames.source import FrameSource, announce_file
from ..frames.video_frames import sound_of
from ..schema import build
from ..validation import check_name, refuses
from .listing import folder, further, playable, tell
from .unfinished import choose_file, note_whole, piece_keys, show_whole
from .video_formats import (
    AS_FRAMES,
    AUTO_BITS,
    FORMATS,
    PNG,
    USUAL,
    frame_rate,
    name_ending,
    unlike_the_stream,
    video_format,
)

ROLE = {PNG: "frames"}


@refuses(check_name, video_format)
class SaveVideo(io.ComfyNode):
    """FRAMES to a growing video file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSaveVideo",
            display_name="Save Video (Stream)",
            category=categories.SAVE,
            description="Writes frames to a video file while they are made. You can watch the file "
            "as it grows. After a cancel, Run adds to the same file. It also holds the workflow.",
            search_aliases=["export video", "video combine", "mp4"],
            is_output_node=True,
            not_idempotent=True,  # else the core takes one's result for that of another alike
            inputs=[*_file_inputs(), *_further_inputs()],
            outputs=[],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    async def execute(  # noqa: PLR0913
        cls,
        frames: Tensor | FrameSource,
        filename_prefix: str,
        format: str,
        crf: int,
        sheet_and_report: bool,
        audio: Mapping[str, Any] | None = None,
        bits: str = AUTO_BITS,
        fps: float = AS_FRAMES,
    ) -> io.NodeOutput:
        """Write until the stream ends; always close the file."""
        frames, node_id = to_frames(frames), cls.hidden.unique_id
        if frames.plan_only:
            host.show_status(node_id, f"Dry run, nothing is saved: {frames.plan.text}")
            return io.NodeOutput()
        spec = VideoSpec(
            frames.width, frames.height, frame_rate(fps, frames.fps),
            video_format(format, crf, bits), sound_of(audio),
            host.workflow_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo),
        )  # fmt: skip
        if differences := unlike_the_stream(format, spec):
            host.warn(node_id, *differences)
        facts, size = (node_id, sheet_and_report), (spec.width, spec.height)
        name = host.output_files(filename_prefix, name_ending(format), size)
        if shown := show_whole(name(), spec, frames, facts):
            return io.NodeOutput(ui=shown)
        file, log = choose_file(name, spec, frames)
        sheet = ContactSheet(fps=float(spec.rate)) if sheet_and_report else None
        saving = _Saving(node_id, frames, format, spec, file, log, sheet)
        try:
            shown = saving.finish(await saving.write())
        finally:
            host.remove_empty(file)
        note_whole(file.path, spec, facts, saving.keys, shown)
        return io.NodeOutput(ui=shown)


@dataclass(frozen=True, slots=True)
class _Saving:
    """One run of the node: `frames` to `file`, after the pieces of an earlier run in `log`.

    Without a `sheet` nothing is put beside the video.
    """

    node_id: str | None
    frames: FrameSource
    format: str
    spec: VideoSpec
    file: host.OutputFile
    log: PieceLog | None
    sheet: ContactSheet | None
    keys: list[str | None] = field(default_factory=list)  # of the chunks in the file

    @property
    def role(self) -> str:
        """What the file is to the browser."""
        return ROLE.get(self.format, "video")

    async def write(self) -> int:
        """Write every chunk as it comes, and return how many frames the file has."""
        frames, log, spec = self.frames, self.log, self.spec
        progress = host.Progress(self.node_id, frames.chunk_count or 0)
        key_of = piece_keys(frames, spec)
        own_rate = frame_rate(AS_FRAMES, frames.fps)
        self.keys.extend(piece.key for piece in (log.pieces if log else ()))
        first = len(self.keys)
        frames.hold_edits(first)
        path = self.file.path
        with (
            frames.chunks.subscribe(first) as reader,
            open_video(path, spec, log, self.sheet) as video,
        ):
            frames.count_file(lambda: video.bytes_written)
            if log and first:
                tell(self.role, self.file)
                _show_resume(self.node_id, self.file, log.frames, float(spec.rate))
                if self.sheet is not None:
                    self.sheet.add_earlier(log.frames, PieceReader(log, spec).picture)
            async for chunk in reader:
                if not self.keys:  # a shot that cannot begin has no file
                    tell(self.role, self.file)
                self.keys.append(key := key_of(chunk.index))
                assert log is None or key is not None, "no run finds a piece without a key"
                shown = at_rate(chunk.frames, chunk.first_frame, own_rate, spec.rate)
                for pictures, is_last in shown:
                    video.write(pictures, key if is_last else None)
                progress.advance(chunk.index + 1)
        return video.frames_written

    def finish(self, count: int) -> dict[str, object]:
        """Save what lies beside a file of `count` frames, and list all for the browser."""
        file = self.file
        announce_file(self.frames, file, self.role)
        width, height = self.spec.file_size
        report = replace(self.frames.report([str(file.path)]), width=width, height=height)
        report = replace(report, frames=count, fps_target=float(self.spec.rate))
        beside = self._save_beside(self.sheet, report) if self.sheet else {}
        shown = folder(file, count) if self.format == PNG else playable(file)
        return {**shown, **further(beside, _naming(report, file, *beside.values()))}

    def _save_beside(self, sheet: ContactSheet, report: Report) -> dict[str, host.OutputFile]:
        """Save report and contact sheet, and return those that the disk takes, by their roles.

        The video is complete, so a full disk only warns: else each further run would write all of
        the video again.
        """
        video, beside = self.file, dict[str, host.OutputFile]()
        sheet_file = _beside(video, self.format, "sheet.png")
        report_file = _beside(video, self.format, "report.json")
        try:
            _naming(report, video, report_file).save(report_file.path)  # the smaller
            beside = {"report": report_file}
            sheet.save(sheet_file.path, self.spec.metadata)
            beside = {"contact_sheet": sheet_file, **beside}
            _naming(report, video, sheet_file, report_file).save(report_file.path)
        except StorageError as error:
            host.warn(self.node_id, f"{error} The video {video.path} is complete.")
        for role, file in beside.items():
            tell(role, file)
        return beside


def _file_inputs() -> list[io.Input]:
    return [
        frames_input("frames", "From VAE Decode (Stream)."),
        io.String.Input(
            "filename_prefix",
            default="longtake/clip",
            tooltip="File name in the output folder, with subfolders; a number is added. "
            "Tokens are replaced as in Save Video: `%date:yyyy-MM-dd%`, `%Node.widget%`, "
            "`%width%`.",
        ),
        io.Combo.Input(
            "format",
            options=FORMATS,
            default=FORMATS[0],
            tooltip="`mp4 (h264)`: plays everywhere. `h265`, `av1`: smaller, newer players "
            "only. `webm`: for web pages. `mov`: ProRes, for editors. `mkv`: lossless, about "
            "ten times the size. `gif`, `webp`: short clips, complete only at the end. `png "
            "frames`: a folder of pictures.",
        ),
        io.Int.Input(
            "crf",
            default=USUAL,
            min=USUAL,
            max=63,
            advanced=True,
            tooltip="Quality, from 0 (best, largest) to 51, for AV1 and VP9 to 63. -1: the "
            "codec's usual one. ProRes, mkv and pictures have none.",
        ),
    ]


def _further_inputs() -> list[io.Input]:
    return [
        io.Boolean.Input(
            "sheet_and_report",
            display_name="contact sheet + report",
            default=True,
            advanced=True,
            tooltip="Also saves a contact sheet (PNG), from which the canvas loads the "
            "workflow, and the measurements of the run (JSON) next to the video.",
        ),
        io.Audio.Input(
            "audio",
            optional=True,
            tooltip="Sound for the video, from its start: from Video to Frames (Stream), "
            "Load Audio or another node. Cut to the video's length. Not for pictures.",
        ),
        io.Combo.Input(
            "bits",
            optional=True,
            options=[AUTO_BITS, "8", "10"],
            default=AUTO_BITS,
            advanced=True,
            tooltip="Bits of a colour value. `auto`: 8, and 10 for ProRes. 10 shows smooth skies "
            "without bands, in h264, h265, AV1 and ProRes. Some players cannot play h264 so.",
        ),
        io.Float.Input(
            "fps",
            optional=True,
            default=AS_FRAMES,
            min=0.0,
            max=240.0,
            step=0.01,
            advanced=True,
            tooltip="Frames per second of the file, up to 240. 0: as the stream. At another rate, "
            "frames are shown again or left out, and the speed stays.",
        ),
    ]


def _show_resume(node_id: str | None, file: host.OutputFile, count: int, fps: float) -> None:
    had = count_of(count, "frame")
    host.show_status(
        node_id, f"Resuming at {time_label(count / fps)}: {file.name} has {had} already."
    )


def _naming(report: Report, *files: host.OutputFile) -> Report:
    """The report with the paths of these files."""
    return replace(report, output_files=[str(file.path) for file in files])


def _beside(video: host.OutputFile, format: str, ending: str) -> host.OutputFile:
    """Name a file after the video, with another ending; dots inside the name stay."""
    stem = video.name.removesuffix(name_ending(format))
    return host.OutputFile(video.path.with_name(f"{stem}{ending}"), video.subfolder)
