"""A picture that is finished before the first chunk is a known frame of the shot."""

from __future__ import annotations

import torch

from longtake.model.families.table import BY_KEY
from longtake.nodes.known.first_picture import begin_with_picture
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.conditioning.reference import Reference
from longtake.tests.support.tiny_model import randn

AVATAR, LIVETALK = (BY_KEY[key].preset for key in ("avatar-forcing", "livetalk"))
PICTURE = randn(16, 4, 6, seed=1)
SPEAKER = Reference(randn(2, 17, 4, 6, seed=2), start=PICTURE)


def test_the_picture_is_the_first_latent_frame_and_stays_beside_all() -> None:
    known, picture = begin_with_picture(KnownFrames(), SPEAKER, AVATAR)
    [first] = known.frames
    assert (first.frame, first.level, known.leading) == (0, 0.0, 1)
    assert torch.equal(first.read(), PICTURE)
    assert picture is not None and picture.start is None
    assert torch.equal(picture.channels, SPEAKER.channels)


def test_a_clip_that_is_given_goes_on_in_the_pictures_place() -> None:
    clip = KnownFrames(tuple(KnownFrame(i, randn(16, 4, 6, seed=3 + i)) for i in range(5)))
    known, picture = begin_with_picture(clip, SPEAKER, AVATAR)
    assert known == clip
    assert picture is not None and picture.start is None


def test_a_known_frame_later_in_the_shot_does_not_take_its_place() -> None:
    later = KnownFrames((KnownFrame(9, randn(16, 4, 6, seed=3)),))
    known, _ = begin_with_picture(later, SPEAKER, AVATAR)
    assert [frame.frame for frame in known.frames] == [0, 9]


def test_other_models_make_it_within_their_first_chunk() -> None:
    assert begin_with_picture(KnownFrames(), SPEAKER, LIVETALK) == (KnownFrames(), SPEAKER)
    assert begin_with_picture(KnownFrames(), None, AVATAR) == (KnownFrames(), None)
