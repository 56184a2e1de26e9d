"""Camera poses from a file: matrices in JSON, NumPy or text, or minWM's string of moves."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import BadInput
from ...samplers.camera.rigid import from_twist

MAX_BYTES = 256 * 2**20
MAX_POSES = 1_000_000
POSE_NAMES = "poses", "c2w", "c2ws", "extrinsics", "camera_poses"
FORMS = (
    "camera-to-world matrices (n, 4, 4) or (n, 3, 4) as .json, .npy, .npz or .txt, or a text such "
    "as w*10,j*5"
)

# minWM df522a2 (Apache-2.0), Wan21/wan_utils/camera_trajectory.py: one step per latent frame
STEP, STEP_TURN = 0.08, math.radians(3.0)
KEYS: Mapping[str, tuple[int, float]] = {
    "w": (2, STEP), "s": (2, -STEP), "d": (0, STEP), "a": (0, -STEP), "u": (1, -STEP),
    "dn": (1, STEP), "l": (4, STEP_TURN), "j": (4, -STEP_TURN), "i": (3, STEP_TURN),
    "k": (3, -STEP_TURN),
}  # fmt: skip
_KEY_RUN = re.compile(r"\s*(dn|[wsadujlik])\s*(?:[*-]\s*(\d{1,6}))?\s*")


def read_poses(path: Path) -> tuple[Tensor, bool]:
    """Poses (n, 4, 4), camera to world, and whether the file has one per latent frame.

    Matrices are one per frame of video unless the file says otherwise; a string of keys is one per
    latent frame. BadInput says what cannot be read.
    """
    if not path.is_file():
        raise BadInput(f"{path} is not there; give a file of {FORMS}.")
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path} is larger than {MAX_BYTES // 2**20} MB, too much for camera poses.")
    try:
        content = _reader(path)(path.read_bytes())
    except Exception as error:  # decompressors and parsers have errors of their own
        raise BadInput(f"{path} cannot be read as camera poses ({error}); give {FORMS}.") from error
    if isinstance(content, str):
        return poses_of_keys(content), True
    return _matrices(content, path), False


def _reader(path: Path) -> Callable[[bytes], Any]:
    readers = {".json": _json, ".npy": _numpy, ".npz": _numpy, ".txt": _text}
    if path.suffix.lower() not in readers:
        raise ValueError(f"its name ends in {path.suffix or 'nothing'}")
    return readers[path.suffix.lower()]


def _json(content: bytes) -> Any:
    value = json.loads(content)
    if isinstance(value, dict):
        value = _named(value)
    return value if isinstance(value, str) else np.asarray(value, dtype=np.float64)


def _numpy(content: bytes) -> Any:
    loaded = np.load(io.BytesIO(content), allow_pickle=False)
    return _named(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded


def _text(content: bytes) -> Any:
    text = content.decode("utf-8-sig")
    if _KEY_RUN.match(text):
        return text
    lines = [line.replace(",", " ").split() for line in text.splitlines()]
    rows = [[*map(float, line)] for line in lines if line and not line[0].startswith("#")]
    numbers = np.asarray([number for row in rows for number in row], dtype=np.float64)
    return numbers.reshape(-1, _numbers_per_pose(rows, numbers) // 4, 4)


def _numbers_per_pose(rows: Sequence[Sequence[float]], numbers: np.ndarray[Any, Any]) -> int:
    """12 or 16: what each line holds, else by whether fourth rows of 0 0 0 1 are there."""
    widths = {len(row) for row in rows}
    if widths in ({12}, {16}):
        return widths.pop()
    if len(numbers) % 16 or not np.allclose(numbers.reshape(-1, 16)[:, 12:], [0, 0, 0, 1]):
        return 16 if len(numbers) % 12 else 12
    return 16


def _named(values: Any) -> Any:
    """The poses of a mapping: under one of their usual names, or its only entry."""
    names = [name for name in POSE_NAMES if name in values] or list(values)
    if not names or (len(names) != 1 and names[0] not in POSE_NAMES):
        raise ValueError(f"it names {', '.join(map(str, names[:4])) or 'nothing'}, not `poses`")
    return values[names[0]]


def _matrices(content: Any, path: Path) -> Tensor:
    table = np.asarray(content)
    numbers = table.dtype.kind in "fiu"
    if not numbers or table.ndim != 3 or table.shape[1:] not in ((4, 4), (3, 4)) or not len(table):
        raise BadInput(f"{path} holds {table.dtype} {[*table.shape]}; give {FORMS}.")
    if len(table) > MAX_POSES:
        raise BadInput(f"{path} holds {len(table):,} poses; give at most {MAX_POSES:,}.")
    poses = torch.from_numpy(table.astype(np.float64))
    if poses.shape[1] == 4:
        return poses
    last = poses.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(poses), 1, 4)
    return torch.cat([poses, last], 1)


def poses_of_keys(text: str) -> Tensor:
    """Poses (n, 4, 4) of minWM's string, such as `w*10,j*5`: one key per latent frame.

    w, s: forward, back. a, d: left, right. u, dn: up, down. j, l: turn. i, k: look up, down.
    """
    poses = [torch.eye(4, dtype=torch.float64)]
    for part in text.strip().split(","):
        match = _KEY_RUN.fullmatch(part)
        if match is None:
            raise BadInput(
                f"The keys {part.strip()[:20]!r} cannot be read; write keys with their number of "
                "latent frames, such as w*10,j*5 (w s a d u dn move, j l i k turn)."
            )
        axis, amount = KEYS[match[1]]
        twist = torch.zeros(6, dtype=torch.float64)
        twist[axis] = amount
        for _ in range(int(match[2] or 1)):
            poses.append(poses[-1] @ from_twist(twist))
        if len(poses) > MAX_POSES:
            raise BadInput(f"The keys give more than {MAX_POSES:,} poses; write fewer.")
    return torch.stack(poses)
