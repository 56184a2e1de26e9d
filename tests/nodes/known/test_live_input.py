"""Live Input on the canvas: a real address drives a shot, which then needs it no more."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.tests.support.clips import write_clip
from longtake.tests.support.model.taehv_tree import taehv_tree, taehv_vae, with_encoder
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.server_process import free_port
from longtake.tests.support.stream.live_servers import (
    fault_server,
    ffmpeg,
    jpeg,
)
from longtake.tests.support.stream.live_site import needs_ffmpeg

LASTS = 2000
"""Frames of a clip that lasts half a minute: a busy machine makes a shot before its end."""


def live_input(bench: Bench, url: str, **inputs: Any) -> Any:
    """KNOWN_FRAMES of an address, encoded by the demo's VAE."""
    vae = bench.run("LongtakeLoadDemoModel")[2]
    return bench.run("LongtakeLiveInput", url=url, **{"vae": vae, **inputs})[0]


def latents(rollout: Any) -> torch.Tensor:
    return torch.cat([chunk.latents for chunk in rollout.chunks])


def shot(bench: Bench, known: Any, **inputs: Any) -> Any:
    return bench.rollout(text="0: a red ball", known_frames=known, **inputs)[0]


def clip(folder: Path, frames: int, fps: int = 64) -> bytes:
    """A video file that plays faster than life."""
    write_clip(folder / "x.mp4", frames, fps=fps, size=(48, 48))
    return (folder / "x.mp4").read_bytes()


def test_a_file_by_http_drives_a_shot_and_its_second_run_needs_no_server(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    with fault_server(clip(tmp_path, LASTS)) as server:
        url = server.url("/ranges")
        first = shot(bench, live_input(bench, url))
        made = latents(first)
    assert torch.equal(latents(shot(bench, live_input(bench, url))), made)
    assert caplog.text.count("Waiting for the first picture of the live source.") == 1
    for changes in ({"take": 2}, {"level": 0.8}):
        with pytest.raises(BadInput, match="cannot be read"):
            latents(shot(bench, live_input(bench, url, **changes)))
    plain = latents(shot(bench, None))
    assert plain.shape == made.shape and not torch.allclose(plain, made, atol=1e-2)
    known = first.run.state.whole_settings(3).known_frames.frames
    assert [frame.frame for frame in known] == [*range(9)]


def test_a_source_that_ends_leaves_the_rest_to_the_prompt(bench: Bench, tmp_path: Path) -> None:
    with fault_server(clip(tmp_path, 48)) as server:
        rollout = shot(bench, live_input(bench, server.url("/ranges")), length=57.0)
        seen = []
        for chunk in rollout.chunks:
            seen.append(chunk.index)
            time.sleep(0.4)
    assert seen == [*range(5)]
    assert rollout.controls.message == "The live source has ended; the shot goes on without it."
    known = rollout.run.state.whole_settings(5).known_frames.frames
    assert 3 <= len(known) < 15


def test_any_size_fits_the_shot_and_a_tiny_vae_encodes_too(bench: Bench, tmp_path: Path) -> None:
    vae = taehv_vae(with_encoder(taehv_tree()))
    with fault_server(clip(tmp_path, LASTS)) as server:
        known = live_input(bench, server.url("/ranges"), vae=vae)
        assert latents(shot(bench, known, width=64, height=32)).shape == (9, 16, 4, 8)


@needs_ffmpeg
def test_ffmpeg_by_udp_drives_a_shot(bench: Bench) -> None:
    url = f"udp://127.0.0.1:{free_port()}"
    picture = ("-re", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-pix_fmt", "yuv420p")
    with ffmpeg(*picture, "-c:v", "mpeg2video", "-g", "5", "-f", "mpegts", url):
        rollout = shot(bench, live_input(bench, url))
        assert latents(rollout).isfinite().all()
    assert len(rollout.run.state.whole_settings(3).known_frames.frames) == 9


def test_without_a_page_a_camera_of_one_is_refused_at_once(bench: Bench) -> None:
    with pytest.raises(BadInput, match="none follows this run; add --watch"):
        latents(shot(bench, live_input(bench, "", source="webcam")))


def test_a_page_that_watches_gives_its_camera(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever watches sends pictures while the run asks for them, and none for its second run."""
    from longtake.nodes import host

    monkeypatch.setattr(host, "has_page", lambda: True)
    rollout = shot(bench, live_input(bench, "", source="webcam"))
    inlet, wishes = rollout.controls.inlet, list[Any]()

    def page() -> None:
        for number in range(10_000):
            wish = inlet.wish
            wishes.append(wish)
            colour = (number * 8 % 256, 40, 200)
            if not inlet.put(jpeg(colour)) and any(wishes):
                break
            time.sleep(0.02)

    thread = threading.Thread(target=page)
    thread.start()
    made = latents(rollout)
    thread.join()
    asked = next(wish for wish in wishes if wish)
    assert (asked.kind, asked.width, asked.height, asked.fps) == ("webcam", 32, 32, 16.0)
    assert inlet.wish is None
    monkeypatch.setattr(host, "has_page", lambda: False)
    again = shot(bench, live_input(bench, "", source="webcam"))
    assert torch.equal(latents(again), made) and again.controls.inlet.wish is None


def test_a_first_picture_stays_as_it_is(bench: Bench, tmp_path: Path) -> None:
    vae = bench.run("LongtakeLoadDemoModel")[2]
    [latent] = bench.run("LongtakeVAEEncode", pixels=torch.rand(1, 32, 32, 3), vae=vae)
    [picture] = bench.run("LongtakeKnownFrames", latent=latent)
    with fault_server(clip(tmp_path, LASTS)) as server:
        known = live_input(bench, server.url("/ranges"), known_frames=picture)
        rollout = shot(bench, known)
        first, *_ = rollout.chunks
    assert torch.allclose(first.latents[0], picture[0].latents[0])
    levels = [frame.level for frame in rollout.run.state.settings.known_frames.frames]
    assert levels[0] == 0 and {*levels[1:]} == {0.7}


def test_what_cannot_be_received_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="not a file of this machine"):
        live_input(bench, "file:///etc/passwd")
    url = "http://127.0.0.1:9/x"
    monkeypatch.setattr("longtake.stream.ndi.library.PACKAGE", "no_such_package")
    with pytest.raises(BadInput, match="NDI needs the package .* pip install no_such_package"):
        latents(shot(bench, live_input(bench, "ndi://PC (OBS)")))
    twice = live_input(bench, url, known_frames=live_input(bench, url))
    with pytest.raises(BadInput, match="takes one live input, and 2 are connected"):
        shot(bench, twice)
    wide = taehv_vae(with_encoder(taehv_tree()))
    wide.latent_channels = 48
    with pytest.raises(BadInput, match="has 48 latent channels, but the model has 16"):
        shot(bench, live_input(bench, url, vae=wide))


def test_a_shot_with_live_input_is_not_followed_by_another(bench: Bench) -> None:
    from longtake.nodes.known.rollout_pictures import RolloutPictures

    frames = bench.frames(known_frames=live_input(bench, "http://127.0.0.1:9/x"))
    with pytest.raises(BadInput, match="has a live input"):
        RolloutPictures(frames)
