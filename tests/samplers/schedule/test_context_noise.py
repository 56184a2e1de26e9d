"""The level of context noise by the age of a latent frame."""

from __future__ import annotations

import pytest

from longtake.samplers.schedule.context_noise import ContextNoise


def test_a_ramp_grows_evenly_from_the_newest_frame_to_its_end_and_stays() -> None:
    noise = ContextNoise(0.4, ramp_frames=4)
    assert [noise.at(age) for age in (1, 2, 3, 4, 5, 90)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    )
    assert {ContextNoise(0.4).at(age) for age in (1, 2, 90)} == {0.4}
