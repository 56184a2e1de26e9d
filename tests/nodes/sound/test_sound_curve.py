"""The node Sound Curve: lines that other nodes read, and their picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from longtake.errors import BadInput
from longtake.nodes.conditioning.timed_numbers import TimedNumber, read_numbers
from longtake.nodes.sound.curve import curve, lines_of
from longtake.nodes.sound.curve_picture import HEIGHT, LEFT, LINE, RIGHT, WIDTH, picture_of
from longtake.tests.support.node_bench import Bench

RATE = 8000
PLAIN = {"follow": "loudness", "low": 0.0, "high": 1.0, "fall": 0.0, "every": 0.25}


def audio(*loudness: float) -> dict[str, Any]:
    """A second of a tone for each loudness."""
    times = torch.arange(RATE) / RATE
    tones = [loud * torch.sin(2 * torch.pi * 440 * times) for loud in loudness]
    return {"waveform": torch.cat(tones)[None, None], "sample_rate": RATE}


def lines(bench: Bench, sound: dict[str, Any], **changes: Any) -> str:
    [text] = bench.run("LongtakeSoundCurve", audio=sound, **{**PLAIN, **changes})
    return str(text)


def test_lines_follow_the_sound_and_end_low(bench: Bench) -> None:
    numbers = read_numbers(lines(bench, audio(0.0, 0.8, 0.2)), "strength", 1.0)
    values = {number.start_s: number.value for number in numbers}
    assert values[0.0] == 0 and values[1.25] == pytest.approx(1, abs=0.01)
    assert values[2.25] == pytest.approx(0.25, abs=0.02)
    assert (numbers[-1].start_s, numbers[-1].value) == (3.0, 0.0)


def test_low_and_high_are_its_ends_either_way_round(bench: Bench) -> None:
    for low, high in ((1.0, 4.0), (4.0, 1.0)):
        text = lines(bench, audio(0.0, 0.5), low=low, high=high)
        values = [number.value for number in read_numbers(text, "guidance", 30)]
        assert values[0] == values[-1] == low and high in values


def test_the_same_sound_gives_the_same_lines(bench: Bench) -> None:
    assert lines(bench, audio(0.1, 0.4)) == lines(bench, audio(0.1, 0.4))


def test_a_number_is_the_mean_of_its_seconds() -> None:
    numbers = curve(np.arange(100) / 100, 1, 3, 0.25)
    assert [number.start_s for number in numbers] == [0, 0.25, 0.5, 0.75, 1]
    assert [number.value for number in numbers] == pytest.approx([1.24, 1.74, 2.24, 2.74, 1])


def test_an_unchanging_sound_is_few_lines() -> None:
    assert len(curve(np.full(1000, 0.5), 0, 1, 0.1)) == 2


def test_a_silent_sound_is_one_number(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        lines(bench, audio(0.0))
    assert "1.0 s of sound, 1 number." in caplog.text


def test_an_empty_sound_is_refused(bench: Bench) -> None:
    with pytest.raises(BadInput, match="The sound is empty"):
        lines(bench, {"waveform": torch.zeros(1, 1, 0), "sample_rate": RATE})


@pytest.mark.parametrize("values", [[0.0, 1.0, 0.5], [0.3, 0.3]])
def test_the_picture_has_the_curve_over_the_whole_width(values: list[float]) -> None:
    numbers = curve(np.repeat(values, 100), 0, 1, 1.0)
    drawn = np.asarray(picture_of(numbers, len(values)))
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    columns = (drawn == LINE).all(-1).any(0)
    assert columns[LEFT : WIDTH - RIGHT].all()


def test_the_lines_of_a_very_long_sound_have_times_of_their_own() -> None:
    numbers = [TimedNumber(start, value) for start, value in ((10000.05, 0.2), (10000.1, 0.4))]
    assert list(read_numbers(lines_of(numbers), "mix", 1.0)) == numbers
