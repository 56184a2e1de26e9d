"""How long the store of takes keeps the sound of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from longtake.stream.preview.messages import Ending, Origin, Shot
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Takes
from longtake.stream.video.sound.in_memory import SoundInMemory


def test_ended_takes_keep_no_sound_once_another_one_begins(tmp_path: Path) -> None:
    """Each run of a script may have a page of its own, and thirty minutes of sound."""
    takes = Takes(lambda: tmp_path)
    shown: list[Take] = []
    for number in range(4):
        origin = Origin("7", "7", f"prompt {number}", client_id=f"page {number}")
        take = takes.create(Shot(16, 8, 8), origin, lambda *_: None)
        take.sound = SoundInMemory(torch.zeros(1, 2, 1000), 48000)
        shown.append(take)
        if number != 1:  # which still runs
            take.finish(Ending("done"))
            take.join()
    assert [take.sound is not None for take in shown] == [False, True, False, True]
    takes.reset()
