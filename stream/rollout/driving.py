"""Live keys of a run: what is held as a chunk begins becomes the camera's path of its frames."""

from __future__ import annotations

from dataclasses import replace

from ...model.vae.latent_format import frame_count
from ...samplers.camera.live import drive_path
from ...samplers.camera.path import CameraPath
from .controls import POLL_S, Controls
from .run_record import RunRecord
from .run_state import RunState
from .spec import RolloutSpec


class Driving:
    """Puts a drive into the settings of a run, one chunk at a time.

    Only frames that no chunk has begun can be driven, so a schedule with chunks in flight answers
    later. Known frames ahead read the path beyond the chunk; such a shot is not driven.
    """

    def __init__(
        self, spec: RolloutSpec, state: RunState, controls: Controls, record: RunRecord
    ) -> None:
        self._spec, self._state, self._controls = spec, state, controls
        self._record = record
        self._base: CameraPath | None = None  # the path before the first key
        settings = spec.settings
        if settings.camera is not None and not settings.known_frames.max_lookahead:
            controls.drive.open(spec.fps)

    def admit(self, index: int) -> bool:
        """Read the keys for chunk `index`; True if they change what the chunk would have been."""
        drive, camera = self._controls.drive, self._state.settings.camera
        if camera is None or self._controls.edit_queue.is_early(index):
            return False
        start, stop = self._new_frames(index)
        motions = drive.read(stop - start, camera.frame_s) if stop > start else None
        if motions is None:
            return False
        drive.note(start, motions)
        path, frames = drive_path(self._base or camera, drive.timeline), range(start, stop)
        self._state.branch(index, replace(self._state.settings, camera=path))
        if self._base is not None:  # one record for a whole drive
            self._record.follow(self._state.chain)
        self._base = self._base or camera
        return path.digest_of(frames) != camera.digest_of(frames)

    def _new_frames(self, index: int) -> tuple[int, int]:
        """The latent frames that chunk `index` is the first to begin."""
        chain = self._state.chain
        return chain.span(index - 1).until if index else 0, chain.span(index).until

    def wait_for_viewer(self, index: int) -> None:
        """While somebody drives, begin a chunk only once they see the one before it."""
        if not index:
            return
        drive, controls = self._controls.drive, self._controls
        seen = frame_count(self._state.chain.span(index - 1).first)
        while controls.state == "running" and drive.is_ahead(seen):
            self._spec.model.host.check_interrupted()
            drive.wait(POLL_S)
