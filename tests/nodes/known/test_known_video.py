"""Known videos and the lengths around them: of the VAE that encodes them, and of shots made longer
that were too short to show all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.headless.hosts.stand_in.modules import VideoFromFile
from longtake.model.vae.taehv_streaming import TAEHVStreamingEncoder
from longtake.tests.support.clips import write_clip
from longtake.tests.support.model.taehv_tree import taehv_tree, taehv_vae, with_encoder
from longtake.tests.support.node_bench import Bench


def known_video(bench: Bench, folder: Path, frames: int, **inputs: Any) -> Any:
    """A clip of so many frames of 32x32 as KNOWN_FRAMES, encoded by the demo's VAE or another."""
    write_clip(folder / "x.mkv", frames, size=(32, 32), codec="ffv1")
    given = VideoFromFile(str(folder / "x.mkv"))
    read, _ = bench.run("LongtakeVideoToFrames", video=given)
    chosen = {"vae": bench.run("LongtakeLoadDemoModel")[2], "level": 0.6, **inputs}
    return bench.run("LongtakeKnownVideo", frames=read, **chosen)[0]


def keys(rollout: Any) -> list[str]:
    return [rollout.spec.key(index) for index in range(rollout.chunk_count)]


@pytest.mark.parametrize(("frames", "latents"), [(16, 4), (17, 5), (18, 5)])
def test_a_tiny_vae_makes_four_frames_a_latent_and_the_shot_ends(
    bench: Bench, tmp_path: Path, frames: int, latents: int
) -> None:
    vae = taehv_vae(with_encoder(taehv_tree()))
    known = known_video(bench, tmp_path, frames, vae=vae)
    assert len(known[0].latents) == latents
    rollout, _ = bench.rollout(known_frames=known, length=1.0, length_unit="seconds")
    assert len(list(rollout.chunks)) == 2


def test_a_video_that_gives_too_few_latents_is_refused(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TAEHVStreamingEncoder, "latent_frames", lambda coder, pictures: 9)
    known = known_video(bench, tmp_path, 16, vae=taehv_vae(with_encoder(taehv_tree())))
    assert known[0].latents[3].read().shape == (16, 4, 4)
    for _ in range(2):
        with pytest.raises(BadInput, match="fewer than 9 latent frames of the video's 16 frames"):
            known[0].latents[8].read()


@pytest.mark.parametrize(("level", "more"), [(0.6, 1.0), (0.0, 1.0), (0.0, 2.5)])
def test_a_shot_that_goes_on_shows_the_rest_of_its_video(
    bench: Bench, tmp_path: Path, level: float, more: float
) -> None:
    """The same as a greater length in the sampler; what is made of what is known stays the same."""
    known = known_video(bench, tmp_path, 48, level=level)
    text = "0: a red ball"
    source, _ = bench.rollout(text=text, known_frames=known, length=21.0)
    before = source.settings
    [longer] = bench.run("LongtakeEditRollout", action="continue", rollout=source, more=more)
    assert longer.frames > source.frames == 21 and source.settings is before
    direct, _ = bench.rollout(text=text, known_frames=known, length=float(longer.frames))
    assert direct.frames == longer.frames and longer.id == direct.id
    assert keys(longer) == keys(direct)


def test_pictures_of_an_odd_size_are_told_what_to_do_without_a_video_node(bench: Bench) -> None:
    """An IMAGE has not passed Video to Frames, so that node's width cannot be the advice."""
    vae = bench.run("LongtakeLoadDemoModel")[2]
    with pytest.raises(BadInput, match="The frames are 33x47; scale or crop them to multiples of"):
        bench.run("LongtakeKnownVideo", frames=torch.zeros(9, 47, 33, 3), vae=vae)


def test_a_video_that_begins_after_the_end_is_refused(bench: Bench, tmp_path: Path) -> None:
    known = known_video(bench, tmp_path, 16, start=1.9)
    with pytest.raises(BadInput, match=r"begins at 1\.8 s, after the end of the shot; make"):
        bench.rollout(known_frames=known, length=21.0)
    bench.rollout(known_frames=known, length=33.0)


def test_forks_of_any_length_show_as_much_of_the_video(bench: Bench, tmp_path: Path) -> None:
    known = known_video(bench, tmp_path, 48)
    text = "0: a red ball"
    source, _ = bench.rollout(text=text, known_frames=known, length=33.0)
    for frames in (21, 33, 57):
        [forked] = bench.run(
            "LongtakeEditRollout", action="fork", rollout=source, at=0.6, length=frames / 16
        )
        direct, _ = bench.rollout(text=text, known_frames=known, length=float(frames))
        assert keys(forked) == keys(direct)
        source = forked  # what a shorter one leaves out comes back in a longer one


def test_an_endless_shot_with_a_video_goes_on_from_where_it_is_rewound_to(
    bench: Bench, tmp_path: Path
) -> None:
    known = known_video(bench, tmp_path, 48)
    endless, _ = bench.rollout(known_frames=known, length=0.0)
    [rewound] = bench.run("LongtakeEditRollout", action="rewind", rollout=endless, at=1.3)
    [longer] = bench.run("LongtakeEditRollout", action="continue", rollout=rewound, more=0.5)
    assert (rewound.frames, longer.frames) == (21, 33)
    assert keys(longer) == keys(bench.rollout(known_frames=known)[0])
