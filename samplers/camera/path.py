"""The path of a camera: how it moves from each latent frame to the next, without an end.

A path belongs to no model. Each family's own module turns it into what that model reads.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from operator import lt, mul

import torch
from torch import Tensor

from ...errors import BadInput
from .rigid import fault, fractions, inverse

MAX_ZOOM = 20.0  # times, in or out; a lens that grows for an hour would overflow
MOVING = 1e-6  # a shorter step, in a file's units, counts as none
SMALLEST_STEP = 1e-9  # of a path at full speed


@dataclass(frozen=True, slots=True)
class Lens:
    """Focal lengths and optical centre, in parts of the picture's width and height.

    The default is the lens of LingBot-World's and minWM's examples, 53 degrees wide.
    """

    focal_x: float = 0.5050505
    focal_y: float = 0.89786756
    centre_x: float = 0.5
    centre_y: float = 0.5

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.values)) or min(self.focal_x, self.focal_y) <= 0:
            raise BadInput(
                "The camera's focal lengths must be positive numbers, in parts of the picture's "
                f"width and height; got {self.focal_x:g} and {self.focal_y:g}."
            )

    @property
    def values(self) -> tuple[float, float, float, float]:
        """Focal lengths, then centre, x before y."""
        return self.focal_x, self.focal_y, self.centre_x, self.centre_y

    def grown(self, factor: float) -> Lens:
        """The lens with `factor` times the focal length."""
        return Lens(self.focal_x * factor, self.focal_y * factor, self.centre_x, self.centre_y)


@dataclass(frozen=True, slots=True)
class PathEntry:
    """The motion `step` (4, 4) of every latent frame from `start` on, and the focal length's
    logarithmic growth per latent frame.
    """

    start: int
    step: Tensor = field(repr=False, compare=False)
    growth: float = 0.0


@dataclass(frozen=True, slots=True)
class CameraPath:
    """Steps of a camera: entry k holds from latent frame `starts[k]` until the next entry.

    `steps` (k, 4, 4), float64, is the motion from one latent frame to the next, camera to world,
    in the earlier frame's axes. Frame 0 does not move. `growths` (k,) is the logarithm by which
    the focal length grows per latent frame. `full_step` is the length of a step at full speed,
    `frame_s` the seconds of a latent frame. The last entry goes on without end.
    """

    starts: tuple[int, ...]
    steps: Tensor = field(repr=False, compare=False)
    growths: tuple[float, ...]
    lens: Lens = Lens()
    full_step: float = 1.0
    frame_s: float = 0.25
    digest: str = field(init=False)
    _grown: tuple[float, ...] = field(init=False, repr=False, compare=False)  # before each entry
    _poses: dict[int, Tensor] = field(  # before each entry, in the axes of frame 0; as far as asked
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        if self.starts[:1] != (0,) or not all(map(lt, self.starts, self.starts[1:])):
            raise BadInput(f"A camera path's entries must begin at 0 and increase: {self.starts}.")
        if self.steps.shape != (len(self.starts), 4, 4) or len(self.growths) != len(self.starts):
            raise BadInput("A camera path needs one 4 x 4 step and one growth per entry.")
        object.__setattr__(self, "steps", self.steps.double())
        problem = fault(self.steps)
        if problem or not all(map(math.isfinite, (*self.growths, self.frame_s))):
            raise BadInput(f"A camera path cannot be used: {problem or 'it is not finite'}.")
        if min(self.full_step, self.frame_s) < SMALLEST_STEP:
            raise BadInput(f"A camera's steps cannot be {self.full_step:g} in {self.frame_s:g} s.")
        object.__setattr__(self, "_grown", self._growth_before() if self._zooms else ())
        object.__setattr__(self, "digest", self._identify())

    def _identify(self) -> str:
        """A short hash of the whole path: when each entry begins, and what it does from there."""
        steps = self.steps.clone()
        if self.starts[1:2] == (1,):  # the first entry has frame 0 alone, which does not move
            steps[0] = torch.eye(4, dtype=torch.float64)
        acting = self._hash((1, *self.starts[1:]), steps)
        return hashlib.sha256(f"{self.starts} {acting}".encode()).hexdigest()[:16]

    @property
    def _zooms(self) -> bool:
        return any(self.growths)

    def _growth_before(self) -> tuple[float, ...]:
        """The logarithm by which the focal length has grown before each entry."""
        lengths = (b - max(a, 1) for a, b in pairwise(self.starts))
        return tuple(accumulate(map(mul, self.growths, lengths), initial=0.0))

    def steps_of(self, frames: Sequence[int]) -> Tensor:
        """The motions (f, 4, 4) to latent `frames` from the frames before them; none to frame 0."""
        steps = self.steps[[self._entry(frame) for frame in frames]]
        steps[[frame <= 0 for frame in frames]] = torch.eye(4, dtype=torch.float64)
        return steps

    def relative(self, frames: Sequence[int]) -> Tensor:
        """The steps (f, 4, 4) of `frames`, moves as parts of a full step, at most 1 long."""
        return self.in_full_steps(self.steps_of(frames))

    def in_full_steps(self, steps: Tensor) -> Tensor:
        """Motions (f, 4, 4), their moves as parts of a full step, at most 1 long."""
        moves, relative = steps[:, :3, 3] / self.full_step, steps.clone()
        relative[:, :3, 3] = moves / moves.norm(dim=-1, keepdim=True).clamp(min=1.0)
        return relative

    def placed(self, frames: Sequence[int], origin: int) -> Tensor:
        """Cameras (f, 4, 4) at `frames` in the axes of that at `origin`; moves as in `relative`."""
        home = torch.linalg.inv(self._pose(origin))  # many steps of a file may be a little skew
        return torch.stack([home @ self._pose(frame) for frame in frames])

    def placed_pictures(self, frames: Sequence[int], count: int) -> Tensor:
        """Cameras (f count, 4, 4) of the `count` pictures of each of `frames`, as in `placed`.

        The axes are those of the earliest picture. Frame 0 has one picture, again and again.
        """
        before = [max(frame - 1, 0) for frame in frames]
        starts = self.placed(before, min(before))
        parts = torch.stack([fractions(step, count) for step in self.relative(frames)])
        poses = (starts[:, None] @ parts).flatten(0, 1)
        earliest = min(range(len(frames)), key=frames.__getitem__)
        return inverse(poses[earliest * count]) @ poses

    def _pose(self, frame: int) -> Tensor:
        """The camera at a latent frame in the axes of frame 0 (4, 4)."""
        entry = self._entry(max(0, frame))
        return self._pose_before(entry) @ self._motion(entry, frame + 1)

    def _pose_before(self, entry: int) -> Tensor:
        """The camera before an entry's first motion (4, 4).

        Earlier ones are kept: a chunk of a long drive must not cost more than one of a short.
        """
        known = entry
        while known and known not in self._poses:
            known -= 1
        pose = self._poses.get(known, torch.eye(4, dtype=torch.float64))
        for following in range(known + 1, entry + 1):
            pose = pose @ self._motion(following - 1, self.starts[following])
            self._poses[following] = pose
        return pose

    def _motion(self, entry: int, stop: int) -> Tensor:
        """All motions (4, 4) of an entry to the latent frames before `stop`; frame 0 has none."""
        start = max(self.starts[entry], 1)
        step = self.relative([start])[0]
        motion: Tensor = torch.linalg.matrix_power(step, max(0, stop - start))
        return motion

    def turns_of(self, steps: Tensor) -> Tensor:
        """How fast motions (f, 4, 4) of a latent frame turn right (f,), in degrees a second."""
        return torch.atan2(steps[:, 0, 2], steps[:, 2, 2]).rad2deg() / self.frame_s

    def lens_at(self, frame: int) -> Lens:
        """The lens at a latent frame; it grows at most MAX_ZOOM times, either way."""
        if not self._grown:
            return self.lens
        entry = self._entry(frame)
        since = frame + 1 - max(self.starts[entry], 1)
        total = self._grown[entry] + self.growths[entry] * max(0, since)
        limit = math.log(MAX_ZOOM)
        return self.lens.grown(math.exp(min(limit, max(-limit, total))))

    def then(self, frame: int, entries: Iterable[PathEntry]) -> CameraPath:
        """This path up to latent frame `frame`, 1 or later, and from there on with other entries.

        Without any, the last entry before goes on.
        """
        count, later = bisect_left(self.starts, frame), [*entries]
        path = CameraPath(
            (*self.starts[:count], *(entry.start for entry in later)),
            torch.cat([self.steps[:count], *(entry.step[None] for entry in later)]),
            (*self.growths[:count], *(entry.growth for entry in later)),
            self.lens, self.full_step, self.frame_s,
        )  # fmt: skip
        path._poses.update((entry, pose) for entry, pose in self._poses.items() if entry < count)
        return path

    def digest_of(self, frames: Iterable[int]) -> str:
        """A short hash of all that a model reads of `frames`, for chunk addresses.

        Values are rounded to float32, so that the last bit of a machine's sine does not count.
        """
        listed = [*frames]
        return self._hash(listed, self.steps_of(listed))

    def _hash(self, frames: Sequence[int], steps: Tensor) -> str:
        if self._grown:
            lenses = torch.tensor([self.lens_at(frame).values for frame in frames])
        else:
            lenses = torch.tensor([self.lens.values]).repeat(len(frames), 1)
        parts = steps.float(), lenses, torch.tensor([self.full_step, self.frame_s])
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]

    def _entry(self, frame: int) -> int:
        return bisect_right(self.starts, frame) - 1


def runs_of_paths(
    paths: Iterable[CameraPath], frames: Iterable[int]
) -> Iterator[tuple[CameraPath, tuple[int, ...]]]:
    """Each path with the frames in a row that follow it; `paths` has one for every frame."""
    for _, run in groupby(zip(paths, frames, strict=True), key=lambda pair: id(pair[0])):
        [path, *_], together = zip(*run, strict=True)
        yield path, together


STILL_PATH = CameraPath((0,), torch.eye(4, dtype=torch.float64)[None], (0.0,))


def path_of_poses(
    poses: Tensor, frame_s: float = 0.25, lens: Lens | None = None, source: str = "the poses"
) -> CameraPath:
    """A path through cameras (f, 4, 4), camera to world, one per latent frame of `frame_s` seconds.

    After the last pose the camera stays still. Full speed is the longest step.
    """
    problem = fault(poses) if len(poses) else "there are none"
    if problem:
        raise BadInput(f"{source} cannot be a camera path: {problem}.")
    poses = poses.double()
    steps = inverse(poses[:-1]) @ poses[1:]
    rest = torch.eye(4, dtype=torch.float64)[None]
    longest = float(steps[:, :3, 3].norm(dim=-1).max()) if len(steps) else 0.0
    full_step = longest if longest > MOVING else 1.0
    starts = tuple(range(len(poses) + 1))
    still = (0.0,) * len(starts)
    steps = torch.cat([rest, steps, rest])
    return CameraPath(starts, steps, still, lens or Lens(), full_step, frame_s)
