"""Laws of live input: what came in makes the same shot again, and then needs no source."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput, StorageError
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import rolling
from longtake.stream.incoming.inlet import Inlet
from longtake.stream.journal.cleanup import collect, usage
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import records
from longtake.stream.rollout.fork import Fork
from longtake.stream.rollout.live_input import LiveInput, StoredInput
from longtake.stream.rollout.observer import SilentObserver
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.run import Run
from longtake.stream.rollout.spec import RolloutSpec
from longtake.stream.rollout_file.recipe import from_record, to_record
from longtake.tests.support.stream.rollouts import MODEL, assert_same_bits, cut_after
from longtake.tests.support.tiny_model import TINY, randn, settings

ROLLING = rolling(flow_ladder(3, 3.0), 2)


class Camera:
    """A source whose pictures tell how many were taken before."""

    def __init__(self) -> None:
        self.opened = self.dropped = 0
        self.counts: list[tuple[int, int]] = []
        self.is_lost = self.is_open = False

    def open(self, tell: Callable[[str], None], inlet: Inlet) -> Camera:
        """Count the openings."""
        self.opened, self.is_open = self.opened + 1, True
        return self

    def is_ready(self, count: int) -> bool:
        """There is a picture whenever the source is not lost."""
        return not self.is_lost

    def take(self, count: int, before: int = 0) -> Tensor:
        """Pictures of one number, which grows."""
        self.counts.append((count, before))
        return torch.full((count + before, 3, 32, 48), len(self.counts) / 10)

    def close(self) -> None:
        """Note the end."""
        self.is_open = False


def encode(pictures: Tensor) -> Tensor:
    """One latent frame of the first picture, then one of each four."""
    count = 1 + (len(pictures) - 1) // 4
    return randn(count, TINY.out_channels, 4, 6) + pictures[0].mean()


def live(camera: Camera, name: str = "camera 1") -> LiveInput:
    return LiveInput(name, 0.6, camera.open, encode)


def shot(folder: Path, camera: Camera, **changes: object) -> Rollout:
    own = {"length": 12, **changes}
    name = str(own.pop("name", "camera 1"))
    spec = RolloutSpec(settings(**own), MODEL, "model", Journal(folder), live=live(camera, name))
    return Rollout(spec)


@pytest.mark.parametrize("changes", [{}, {"schedule": ROLLING}])
def test_a_chunk_takes_the_newest_frames_and_an_equal_run_needs_no_source(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    camera, nobody = Camera(), Camera()
    made = [*shot(tmp_path, camera, **changes).chunks]
    first, *later = camera.counts
    assert first[1] == 0 and first[0] % 4 == 1
    assert all(before == 1 and count % 4 == 0 for count, before in later)
    assert sum(count for count, _ in camera.counts) == 45
    assert camera.opened == 1 and not camera.is_open
    again = shot(tmp_path, nobody, **changes)
    assert again.spec.stored_chunks() == len(made)
    assert_same_bits([*again.chunks], made)
    assert nobody.opened == 0 and again.resumed_from is None


@pytest.mark.parametrize("changes", [{}, {"schedule": ROLLING}])
def test_a_resumed_shot_has_the_bits_of_the_uninterrupted_one(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    made = [*shot(tmp_path, Camera(), **changes).chunks]
    journal, nobody = Journal(tmp_path), Camera()
    chain = shot(tmp_path, nobody, **changes).spec.stored_chain
    for index in range(2, len(made)):
        journal._path(chain.key(index)).unlink()
    resumed = shot(tmp_path, nobody, **changes)
    assert resumed.spec.stored_chunks() == 2
    assert_same_bits([*resumed.chunks], made)
    assert resumed.resumed_from == 2 and nobody.opened == 0


def test_users_are_told_of_a_wait_for_the_first_picture_and_of_no_later_one(
    tmp_path: Path,
) -> None:
    notes: list[str] = []

    class Page(SilentObserver):
        def on_receive(self) -> None:
            notes.append("waits")

        def on_received(self) -> None:
            notes.append("is there")

    class Slow(Camera):
        """Each chunk's pictures are there when somebody asks for the second time."""

        def is_ready(self, count: int) -> bool:
            notes.append("asked")
            return notes.count("asked") > 1

        def take(self, count: int, before: int = 0) -> Tensor:
            taken.append(list(notes))
            notes.clear()
            return super().take(count, before)

    taken: list[list[str]] = []
    made = shot(tmp_path, Slow(), length=6)
    assert len([*Run(made.spec, Page()).chunks]) == 2
    assert [[note for note in part if note != "asked"] for part in taken] == [
        ["waits", "is there"],
        [],
    ]
    assert taken[0][:4] == ["waits", "asked", "asked", "is there"]
    assert len([*Run(made.spec, Page()).chunks]) == 2
    assert not notes, "what the journal has needs no source"


def test_the_note_of_a_wait_ends_with_a_source_that_cannot_be_opened(tmp_path: Path) -> None:
    notes: list[str] = []

    class Page(SilentObserver):
        def on_received(self) -> None:
            notes.append("over")

    class Broken(Camera):
        def is_ready(self, count: int) -> bool:
            raise BadInput("No such camera.")

    with pytest.raises(BadInput, match="No such camera"):
        [*Run(shot(tmp_path, Broken()).spec, Page()).chunks]
    assert notes == ["over"]


def test_a_wait_for_frames_is_no_work(tmp_path: Path) -> None:
    waits: list[list[float]] = [[]]

    class Slow(Camera):
        """The pictures of a chunk are there when somebody asks for the third time."""

        def is_ready(self, count: int) -> bool:
            if len(waits[-1]) < 3:
                waits[-1].append(run.controls.work_clock())
            return len(waits[-1]) == 3

        def take(self, count: int, before: int = 0) -> Tensor:
            waits.append([])
            return super().take(count, before)

    run = shot(tmp_path, Slow()).run
    assert len([*run.chunks]) == 4
    times = [{*wait} for wait in waits[:-1]]
    assert [len(wait) for wait in times] == [1, 1, 1, 1] and len(set.union(*times)) == 4


@pytest.mark.parametrize("has_input", [False, True])
def test_controls_that_outlive_a_run_do_not_hold_it(tmp_path: Path, has_input: bool) -> None:
    """A page's take keeps the controls, and the host wants the run's memory back."""
    rollout = shot(tmp_path, Camera())
    if not has_input:
        rollout = Rollout(replace(rollout.spec, live=None))
    controls, receiving = rollout.run.controls, weakref.ref(rollout.run.receiving)
    assert [*rollout.chunks] and controls.ended
    del rollout
    gc.collect()
    assert receiving() is None


def test_after_a_cut_the_source_goes_on_where_the_record_ends(tmp_path: Path) -> None:
    begun = cut_after(shot(tmp_path, Camera()), 2)
    camera = Camera()
    whole = [*shot(tmp_path, camera).chunks]
    assert_same_bits(whole[:2], begun)
    assert camera.opened == 1 and len(camera.counts) == 2
    [record] = records(Journal(tmp_path))
    assert len(record.keys) == 4 and not record.replaced


def test_it_equals_the_shot_of_the_same_known_frames(tmp_path: Path) -> None:
    """Known frames that were given from the start give the same latents."""
    rollout = shot(tmp_path / "live", Camera())
    made = [*rollout.chunks]
    known = rollout.run.state.whole_settings(len(made)).known_frames
    assert [frame.frame for frame in known.frames] == [*range(12)]
    given = tuple(KnownFrame(k.frame, k.read(), k.level) for k in known.frames)
    plain = RolloutSpec(
        settings(length=12, known_frames=KnownFrames(given)), MODEL, "model",
        Journal(tmp_path / "plain"),
    )  # fmt: skip
    assert_same_bits([*Rollout(plain).chunks], made)
    without = Rollout(RolloutSpec(settings(length=12), MODEL, "m", Journal(tmp_path / "none")))
    assert not torch.equal([*without.chunks][0].latents, made[0].latents)


def test_a_fork_shares_what_came_in_before_it(tmp_path: Path) -> None:
    source = shot(tmp_path, Camera())
    made = [*source.chunks]
    camera = Camera()
    forked = replace(source.spec, settings=Fork(6, seed=9).apply(source.settings),
                     live=live(camera))  # fmt: skip
    chunks = [*Rollout(forked).chunks]
    assert_same_bits(chunks[:2], made[:2])
    assert len(camera.counts) == 1  # chunk 2 takes what came in for the source's chunk 2


def test_another_source_is_another_shot(tmp_path: Path) -> None:
    cut_after(shot(tmp_path, Camera()), 2)
    camera = Camera()
    other = shot(tmp_path, camera, name="camera 2")
    assert other.spec.stored_chunks() == 0
    [*_] = other.chunks
    assert len(camera.counts) == 4


def test_a_chunk_of_a_lost_source_is_made_without_it_and_again_so(tmp_path: Path) -> None:
    camera = Camera()
    rollout = shot(tmp_path, camera)
    chunks = []
    for chunk in rollout.chunks:
        chunks.append(chunk)
        camera.is_lost = chunk.index == 1
    known = rollout.run.state.whole_settings(4).known_frames
    assert [k.frame for k in known.frames] == [*range(6), *range(9, 12)]
    assert_same_bits([*shot(tmp_path, Camera()).chunks], chunks)


def test_a_source_that_is_lost_while_its_frames_are_taken_counts_as_lost(tmp_path: Path) -> None:
    class Breaking(Camera):
        def take(self, count: int, before: int = 0) -> Tensor:
            return torch.empty(0, 3, 32, 48)

    rollout = shot(tmp_path, Breaking())
    assert len([*rollout.chunks]) == 4
    assert not rollout.run.state.whole_settings(4).known_frames.frames


def test_a_source_that_is_back_just_too_late_for_a_chunk_does_not_end_the_run(
    tmp_path: Path,
) -> None:
    class Back(Camera):
        """Lost as often as somebody waits, and back with too few pictures as they are taken."""

        def is_ready(self, count: int) -> bool:
            self.is_lost = not self.is_lost
            return False

    rollout = shot(tmp_path, Back())
    assert len([*rollout.chunks]) == 4
    assert not rollout.run.state.whole_settings(4).known_frames.frames


def test_another_run_of_the_process_does_not_share_a_shot_that_a_camera_makes(
    tmp_path: Path,
) -> None:
    chunks, second = iter(shot(tmp_path, Camera()).chunks), shot(tmp_path, Camera())
    next(chunks)
    with pytest.raises(BadInput, match="is already running in process"):
        list(second.chunks)
    assert len(list(chunks)) == 3


def test_a_stop_before_the_first_picture_leaves_the_chunk_to_a_later_run(tmp_path: Path) -> None:
    class Late(Camera):
        """Its pictures come after a person has lost patience."""

        def is_ready(self, count: int) -> bool:
            rollout.controls.stop()
            return False

    rollout, camera = shot(tmp_path, Late()), Camera()
    with pytest.raises(BadInput, match="stopped before the live source"):
        list(rollout.chunks)
    made = [*shot(tmp_path, camera).chunks]
    assert camera.counts[0] == (9, 0)
    assert_same_bits([*shot(tmp_path / "anew", Camera()).chunks], made)


def test_a_source_that_does_not_open_ends_the_run_with_its_sentence(tmp_path: Path) -> None:
    class Broken(Camera):
        def is_ready(self, count: int) -> bool:
            raise BadInput("The camera is off.")

    camera = Broken()
    with pytest.raises(BadInput, match="The camera is off"):
        [*shot(tmp_path, camera).chunks]
    assert not camera.is_open


def test_given_frames_stay_and_the_rest_comes_in(tmp_path: Path) -> None:
    given = KnownFrames((KnownFrame(0, randn(TINY.out_channels, 4, 6)),))
    rollout = shot(tmp_path, Camera(), known_frames=given, length=10)
    [*_] = rollout.chunks
    whole = rollout.run.state.whole_settings(4)
    assert [known.level for known in whole.known_frames.frames] == [0.0, *[0.6] * 9]


def test_a_saved_shot_holds_what_came_in(tmp_path: Path) -> None:
    rollout = shot(tmp_path, Camera())
    made = [*rollout.chunks]
    loaded = from_record(*to_record(rollout.run.state.whole_settings(len(made))))
    spec = RolloutSpec(loaded, MODEL, "model", Journal(tmp_path / "elsewhere"))
    assert_same_bits([*Rollout(spec).chunks], made)


def test_what_came_in_belongs_to_the_record_and_goes_with_it(tmp_path: Path) -> None:
    [*_] = shot(tmp_path, Camera()).chunks
    journal = Journal(tmp_path)
    now = usage(journal)
    assert len(now.chunks) == 8 and not now.unknown
    collect(journal, 0)
    assert not usage(journal).chunks


@pytest.mark.parametrize("changes", [{}, {"schedule": ROLLING}])
def test_an_endless_shot_keeps_only_the_live_frames_that_it_will_read(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Counted among all objects of the process: a shot may last for days."""
    gc.freeze()  # other tests' objects need not be looked through
    rollout = shot(tmp_path, Camera(), length=None, **changes)
    counts = []
    for chunk in rollout.chunks:
        gc.collect()
        counts.append(sum(type(thing) is StoredInput for thing in gc.get_objects()))
        if chunk.index == 20:
            break
    assert max(counts) <= 2 * rollout.settings.active_frames and len(set(counts[8:])) == 1
    whole = rollout.run.state.whole_settings(20).known_frames.frames
    assert [known.frame for known in whole] == [*range(rollout.spec.chain.span(19).until)]


def test_a_file_of_a_shot_whose_input_is_lost_is_refused(tmp_path: Path) -> None:
    rollout = shot(tmp_path, Camera())
    [*_] = rollout.chunks
    state = rollout.run.state
    Journal(tmp_path)._path(state.chain.input_key(1)).unlink()
    with pytest.raises(StorageError, match="has just left the journal"):
        state.whole_settings(4)
