"""`--camera FILE`: put a drive, or poses, into the camera of a workflow's samplers."""

from __future__ import annotations

from pathlib import Path

from ...errors import BadInput, StorageError
from ...machine.temporary_files import write_whole
from ...nodes.steering.camera_lines import drive_start_s, read_moves, with_drive
from ...nodes.steering.camera_poses import MAX_BYTES, read_poses
from ...timed_lines import match_time
from .graph import Link, Node, Workflow

SAMPLER, CAMERA = "LongtakeSampler", "LongtakeCameraPath"


def with_camera(workflow: Workflow, file: Path, out_dir: Path) -> Workflow:
    """The workflow whose camera moves as FILE says, with a Camera Path where it has none.

    Lines of moves replace those of the workflow from their first time on. Poses are copied to
    `out_dir`, where the node finds them.
    """
    samplers = [node for node in workflow.nodes.values() if node.class_type == SAMPLER]
    if not samplers:
        raise BadInput(f"--camera: {workflow.name} has no {SAMPLER}, whose camera it could move.")
    drive = _drive(file)
    poses = "" if drive else _copy(file, out_dir)
    for sampler in samplers:
        workflow, camera = _camera_of(workflow, sampler)
        if drive:
            before = camera.inputs.get("moves", "")
            if not isinstance(before, str):
                raise BadInput(f"--camera: another node writes `moves` of {camera.label}.")
            _check_poses(camera, drive)
            workflow = workflow.with_input(camera.id, "moves", with_drive(before, drive))
        workflow = workflow.with_input(camera.id, "pose_file", poses)
    return workflow


def _camera_of(workflow: Workflow, sampler: Node) -> tuple[Workflow, Node]:
    """The Camera Path of a sampler, and the workflow with it."""
    link = sampler.inputs.get("camera")
    if not isinstance(link, Link):
        node = Node(f"camera of {sampler.id}", CAMERA, "", {"moves": ""})
        workflow = workflow.with_nodes({**workflow.nodes, node.id: node})
        return workflow.with_input(sampler.id, "camera", Link(node.id, 0)), node
    camera = workflow.nodes.get(link.node_id)
    if camera is None or camera.class_type != CAMERA:
        raise BadInput(f"--camera: the camera of {sampler.label} does not come from a {CAMERA}.")
    return workflow, camera


def _check_poses(camera: Node, drive: str) -> None:
    """Refuse a drive that goes on from poses: a Camera Path takes poses or lines, not both."""
    poses, start_s = camera.inputs.get("pose_file", ""), drive_start_s(drive)
    if start_s > 0 and (not isinstance(poses, str) or poses.strip()):
        raise BadInput(
            f"--camera: {camera.label} reads a pose file, and lines that begin at {start_s:g} s "
            "cannot go on from poses; give lines from second 0 on, or clear pose_file with --set."
        )


def _drive(file: Path) -> str:
    """The lines of a drive; empty if FILE holds poses."""
    if file.suffix.lower() != ".txt":
        return ""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise BadInput(f"--camera: {file} has more than {MAX_BYTES // 2**20} MB.")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadInput(f"--camera: {file} cannot be read ({reason}); check the path.") from error
    if not any(match_time(line) for line in text.splitlines()):
        return ""
    try:
        read_moves(text)
    except BadInput as error:
        raise BadInput(f"--camera: {file}: {error}") from error
    return text.strip()


def _copy(file: Path, out_dir: Path) -> str:
    """Copy poses to the output folder; the name under which the node knows them."""
    try:
        read_poses(file)
    except BadInput as error:
        raise BadInput(f"--camera: {error}") from error
    name = f"longtake/camera{file.suffix.lower()}"
    target = out_dir / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.resolve() != target.resolve():
            write_whole(target, file.read_bytes())
    except OSError as error:
        raise StorageError(
            f"--camera: the poses cannot be copied to {target} ({error.strerror}); free some space "
            "or choose another --out."
        ) from error
    return f"{name} [output]"
