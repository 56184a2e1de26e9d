"""IMAGE as FRAMES: by Images to Frames with a rate, or straight into every socket for FRAMES."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench

COUNT = 21


def pictures(count: int = COUNT, height: int = 32, width: int = 48, channels: int = 3) -> Tensor:
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(2))


def all_of(frames: Any) -> Tensor:
    """The pictures of a stream (n, H, W, 3)."""
    return torch.cat([chunk.frames for chunk in frames.chunks]).movedim(1, -1)


def test_images_to_frames_and_collect_are_inverse(bench: Bench) -> None:
    images = pictures()
    [frames] = bench.run("LongtakeImagesToFrames", images=images, fps=24.0)
    assert (frames.fps, frames.frame_total, frames.chunk_count) == (24.0, COUNT, 2)
    assert torch.equal(bench.collect(frames), images)
    first = [chunk.first_frame for chunk in frames.chunks.read_from(1)]
    assert first == [16]


@pytest.mark.parametrize(("channels", "expected"), [(4, 3), (1, 3)])
def test_alpha_is_dropped_and_grey_becomes_rgb(bench: Bench, channels: int, expected: int) -> None:
    images = pictures(channels=channels)
    [frames] = bench.run("LongtakeImagesToFrames", images=images, fps=16.0)
    shown = all_of(frames)
    assert shown.shape[-1] == expected
    assert torch.equal(shown, images[..., :3].expand(*images.shape[:3], 3))


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(0, 8, 8, 3), "no pictures"),
        (torch.zeros(8, 8, 3), r"of shape \(8, 8, 3\)"),
        (torch.zeros(1, 8, 8, 2), r"of shape \(1, 8, 8, 2\)"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), r"has whole numbers \(torch.uint8\)"),
    ],
)
def test_what_is_no_image_gets_a_sentence(bench: Bench, images: Tensor, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        bench.run("LongtakeImagesToFrames", images=images, fps=16.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("node", ["LongtakeSaveVideo", "LongtakePreview", "LongtakeVAEEncode"])
def test_a_picture_without_numbers_is_named(bench: Bench, node: str, value: float) -> None:
    images = pictures()
    images[17, 0, 0, 1] = value
    others = {"vae": bench.run("LongtakeLoadDemoModel")[2]} if node.endswith("Encode") else {}
    socket = "pixels" if others else "frames"
    with pytest.raises(BadInput, match="^Picture 17 of the IMAGE, counted from 0, has NaN or"):
        bench.run(node, **{socket: images}, **others)


def test_every_socket_for_frames_takes_an_image_too(bench: Bench) -> None:
    from longtake.nodes.extension import NODES

    schemas = [node.define_schema() for node in NODES]
    types = {
        (schema.node_id, socket.id): socket.get_io_type().split(",")
        for schema in schemas
        for socket in schema.inputs
    }
    found = {place: kinds for place, kinds in types.items() if "FRAMES" in kinds}
    assert {node for node, _ in found} == {
        "LongtakePreview", "LongtakeSaveVideo", "LongtakeUpscale", "LongtakeCollect",
        "LongtakeVAEEncode", "LongtakeKnownVideo", "LongtakeCompareRollouts",
        "LongtakeSpliceRollouts", "LongtakeControlVideo", "LongtakeInterpolate",
        "LongtakeSuperResolution",
    }  # fmt: skip
    assert len(found) == 17
    assert all("IMAGE" in kinds for kinds in found.values())


@pytest.mark.parametrize(("count", "said"), [(1, "1 frame of 32x16 "), (2, "2 frames of 32x16 ")])
def test_the_plan_of_images_counts_them_in_words(bench: Bench, count: int, said: str) -> None:
    [frames] = bench.run("LongtakeImagesToFrames", images=torch.zeros(count, 16, 32, 3))
    assert frames.plan.text.startswith(said)


def test_save_video_writes_an_image_at_16_a_second(bench: Bench) -> None:
    bench.run("LongtakeSaveVideo", frames=pictures())
    [report] = bench.state.folders["output"].rglob("*report.json")
    found = json.loads(report.read_text())
    assert (found["frames"], found["fps_target"]) == (COUNT, 16.0)


def test_the_preview_shows_an_image(bench: Bench) -> None:
    assert bench.shown("LongtakePreview", frames=pictures())


@pytest.mark.parametrize(("choice", "frames"), [("images", COUNT), ("video", COUNT)])
def test_collect_takes_an_image(bench: Bench, choice: str, frames: int) -> None:
    found = bench.collect(pictures(), choice)
    if choice == "images":
        assert torch.equal(found, pictures())
    else:
        assert found.get_stream_source()


def test_an_image_beside_a_shot_has_the_shots_rate(bench: Bench) -> None:
    images = pictures(5, 32, 32)
    [shot] = bench.run("LongtakeImagesToFrames", images=pictures(9, 32, 32), fps=24.0)
    for first, second in ((images, shot), (shot, images)):
        [both] = bench.run("LongtakeCompareRollouts", frames_a=first, frames_b=second)
        assert both.fps == 24.0 and len(all_of(both)) == 9
        [joined] = bench.run("LongtakeSpliceRollouts", first=first, second=second, overlap=0)
        assert joined.fps == 24.0 and len(all_of(joined)) == 14


@pytest.mark.parametrize("by_node", [True, False])
def test_an_image_is_known_video_and_equals_its_encoding(bench: Bench, by_node: bool) -> None:
    """The same shot as from VAE Encode (Stream) and Known Frames, and the same address."""
    images, vae = pictures(9, 32, 32), bench.run("LongtakeLoadDemoModel")[2]
    source: Any = images
    if by_node:
        [source] = bench.run("LongtakeImagesToFrames", images=images, fps=16.0)
    [known] = bench.run("LongtakeKnownVideo", frames=source, vae=vae)
    [latent] = bench.run("LongtakeVAEEncode", pixels=images, vae=vae)
    rollout, _ = bench.rollout(known_frames=known)
    expected, _ = bench.rollout(known_frames=latent)
    made, theirs = (bench.collect(shot, "latent")["samples"] for shot in (rollout, expected))
    torch.testing.assert_close(made, theirs, atol=1e-5, rtol=1e-5)
    other = images.clone()
    other[-1] = 0
    [changed] = bench.run("LongtakeKnownVideo", frames=other, vae=vae)
    assert bench.rollout(known_frames=changed)[0].id != rollout.id
    assert bench.rollout(known_frames=known)[0].id == rollout.id


def test_images_to_frames_of_another_rate_is_no_known_video(bench: Bench) -> None:
    vae = bench.run("LongtakeLoadDemoModel")[2]
    [frames] = bench.run("LongtakeImagesToFrames", images=pictures(9, 32, 32), fps=24.0)
    [known] = bench.run("LongtakeKnownVideo", frames=frames, vae=vae)
    with pytest.raises(BadInput, match="24 frames per second and the model makes 16; set fps"):
        bench.rollout(known_frames=known)
