"""Live keys of a run: what is held as a chunk begins becomes the camera's path of its frames.

With re-plan, keys change a chunk until its driver is about to see it.
"""

from __future__ import annotations

from ....model.vae.latent_format import frame_count
from ....samplers.camera.live import drive_path
from ...drive.timing import DriveTiming, Motions
from ..run_record import RunRecord
from ..run_state import RunState
from ..spec import RolloutSpec
from .controls import Controls


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
        self._has_driven = False
        self._motions: Motions | None = None  # of the newest chunk, if it is driven
        self._timing = DriveTiming(controls.drive, spec.fps)
        settings = spec.settings
        if settings.camera is not None and not settings.known_frames.max_lookahead:
            controls.drive.open(spec.fps)

    def admit(self, index: int) -> bool:
        """Read the keys for chunk `index`; True if they change what the chunk would have been."""
        self._motions = None
        self._timing.note_begin()
        camera, count = self._state.settings.camera, self._new_count(index)
        if camera is None or not count:
            return False
        motions = self._controls.drive.read(count, camera.frame_s)
        return motions is not None and self._steer(index, motions)

    def replan(self, index: int) -> bool:
        """Keep chunk `index`, which is made, back until it is due for its driver.

        True if keys change it before, so that the settings are other ones and it is made again.
        """
        count = self._new_count(index)
        if not index or self._state.settings.camera is None or not count:
            return False
        frame = frame_count(self._state.chain.span(index).first)
        while True:
            with self._controls.work_clock.pause():
                motions = self._timing.other_motions(frame, count, self._motions, self._goes_on)
            if motions is None:
                return False
            if self._steer(index, motions):
                self._controls.drive.count_replanned()
                return True

    def _steer(self, index: int, motions: Motions) -> bool:
        """Put motions into the settings from chunk `index` on; True if that changes the chunk."""
        drive, camera = self._controls.drive, self._state.settings.camera
        assert camera is not None
        start, stop = self._new_frames(index)
        self._motions = motions
        path, frames = drive_path(camera, start, drive.note(start, motions)), range(start, stop)
        self._state.steer(index, path)
        if self._has_driven:  # one record for a whole drive
            self._record.follow(self._state.chain, index)
        self._has_driven = True
        return path.digest_of(frames) != camera.digest_of(frames)

    def _new_count(self, index: int) -> int:
        """How many latent frames of chunk `index` keys may drive."""
        if self._controls.edit_queue.is_early(index):
            return 0
        start, stop = self._new_frames(index)
        return max(0, stop - start)

    def _new_frames(self, index: int) -> tuple[int, int]:
        """The latent frames that chunk `index` is the first to begin."""
        chain = self._state.chain
        return chain.span(index - 1).until if index else 0, chain.span(index).until

    def wait_for_viewer(self, index: int) -> None:
        """While somebody drives, begin a chunk just in time, and not before they see the last one.

        With re-plan it begins at once: later keys have it made again.
        """
        self._timing.note_arrival()
        if not index:
            return
        before, first = (frame_count(self._state.chain.span(i).first) for i in (index - 1, index))
        with self._controls.work_clock.pause():
            self._timing.wait_to_begin(first, before, self._goes_on)

    def _goes_on(self) -> bool:
        """Whether a wait may last: nobody pauses, stops or interrupts the run."""
        self._spec.model.host.check_interrupted()
        return self._controls.state == "running"
