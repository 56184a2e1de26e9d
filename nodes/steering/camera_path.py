"""Camera Path: how the camera moves, as moves at times or as poses of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from .. import categories, host, sockets
from ..schema import build
from ..validation import refuses
from .camera_lines import read_moves
from .camera_poses import read_poses
from .camera_spec import CameraSpec

EXAMPLE = """0: forward
4 (smooth 1): forward, turn right 20
8: still"""


def _check_file(pose_file: str) -> None:
    """Refuse (BadInput) a file that is not there."""
    if pose_file.strip():
        _file(pose_file.strip())


def _check_moves(moves: str, pose_file: str) -> None:
    """Refuse (BadInput) lines that cannot be read, unless a file takes their place."""
    if not pose_file.strip():
        read_moves(moves)


@refuses(_check_file, _check_moves)
class CameraPathNode(io.ComfyNode):
    """Text or a file to CAMERA_PATH."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeCameraPath",
            display_name="Camera Path",
            category=categories.PROMPT,
            description="Moves the camera of a model that takes one: lines of moves with their "
            "start times, or poses from a file.",
            search_aliases=["camera control", "camera motion", "camera trajectory", "pan", "dolly",
                            "orbit", "zoom", "plucker", "pose"],
            inputs=[*_inputs()],
            outputs=[sockets.CameraPath.Output(display_name="camera")],
        )  # fmt: skip

    @classmethod
    def execute(cls, moves: str, pose_file: str = "", poses_per: str = "frame") -> io.NodeOutput:
        """Read the moves, or the file if one is named."""
        name = pose_file.strip()
        if not name:
            return io.NodeOutput(CameraSpec(read_moves(moves)))
        poses, per_latent = read_poses(_file(name))
        per_latent = per_latent or poses_per == "latent frame"
        return io.NodeOutput(CameraSpec((), poses, per_latent, name))

    @classmethod
    def fingerprint_inputs(cls, **widgets: Any) -> tuple[int, ...]:
        """Time and size of the file, so that another content runs the node again."""
        name = str(widgets.get("pose_file") or "").strip()
        return host.saved_stamp(name and _placed(name))


def _file(name: str) -> Path:
    """Where a file lies; BadInput if it is missing."""
    return host.saved_file(_placed(name))


def _placed(name: str) -> str:
    """The name of a file of the input folder, unless it ends in `[output]`."""
    return name if name.endswith("]") else f"{name} [input]"


def _inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "moves",
            multiline=True,
            default=EXAMPLE,
            tooltip="Lines `SECONDS: moves`, such as `4: forward, turn right 20`. A move: pan, "
            "turn, tilt, roll, orbit, zoom with a side; forward, back, left, right, up, down; "
            "still. A number is a speed: degrees, units or per cent a second. `4 (over 2): left` "
            "changes the speed over 2 seconds, `(smooth 2)` gently. The last line goes on.",
        ),
        io.String.Input(
            "pose_file",
            default="",
            optional=True,
            advanced=True,
            tooltip="A file of camera poses in ComfyUI's input folder, instead of `moves`: "
            "camera-to-world matrices as .json, .npy, .npz or .txt, or a text such as w*10,j*5. "
            "Empty: `moves` counts. After the last pose the camera stays still.",
        ),
        io.Combo.Input(
            "poses_per",
            options=["frame", "latent frame"],
            default="frame",
            optional=True,
            advanced=True,
            tooltip="What each matrix of the file belongs to: a frame of video, or a latent frame "
            "(4 frames of video). Not used for moves and keys.",
        ),
    ]
