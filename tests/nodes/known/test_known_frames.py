"""Known Frames and the sampler's input for them: where pictures land, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import randn


def latent(frames: int = 1, rows: int = 4) -> dict[str, Tensor]:
    return {"samples": randn(1, 16, frames, rows, 4)}


def collect_latents(bench: Bench, **inputs: Any) -> Tensor:
    """The latents (f, c, h, w) of a shot, as the host's raw LATENT."""
    rollout, _ = bench.rollout(**inputs)
    samples: Tensor = bench.collect(rollout, "latent")["samples"]
    return samples[0].transpose(0, 1)


def is_at(made: Tensor, clip: dict[str, Tensor], *places: int) -> bool:
    given = clip["samples"][0].transpose(0, 1)
    return all(
        torch.allclose(made[at], one, atol=1e-5) for at, one in zip(places, given, strict=True)
    )


def test_a_picture_encoded_here_is_the_first_frame_of_the_shot(bench: Bench) -> None:
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    [encoded] = bench.run("LongtakeVAEEncode", pixels=torch.rand(1, 32, 32, 3), vae=vae)
    made = collect_latents(bench, known_frames=encoded)
    assert len(made) == 10 and is_at(made, encoded, 0)  # a picture, then whole chunks


@pytest.mark.parametrize(
    ("pictures", "count", "start", "warns"),
    [("a video", 1, 0.0, False), ("a video", 1, 0.5, True), ("a video", 5, 0.5, False),
     ("keyframes", 2, 0.5, True), ("later keyframes", 1, 0.5, False)],
)  # fmt: skip
def test_a_picture_encoded_to_begin_a_shot_is_not_put_later_without_a_word(  # noqa: PLR0913
    bench: Bench, caplog: pytest.LogCaptureFixture, pictures: str, count: int, start: float,
    *, warns: bool,
) -> None:  # fmt: skip
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    pixels = torch.rand(count, 32, 32, 3)
    [encoded] = bench.run("LongtakeVAEEncode", pixels=pixels, vae=vae, pictures=pictures)
    bench.run("LongtakeKnownFrames", latent=encoded, start=start)
    assert ("set `pictures` of VAE Encode (Stream) to `later keyframes`" in caplog.text) == warns


@pytest.mark.parametrize(
    ("start", "unit", "spacing", "places"),
    [
        (0.0, "seconds", 1, (0, 1)), (0.0, "seconds", 4, (0, 4)), (0.5, "seconds", 1, (2, 3)),
        (8.0, "frames", 1, (2, 3)), (9.0, "frames", 2, (3, 5)), (1.0, "frames", 1, (1, 2)),
    ],
)  # fmt: skip
def test_frames_land_where_their_time_is_shown(
    bench: Bench, start: float, unit: str, spacing: int, places: tuple[int, ...]
) -> None:
    clip = latent(2)
    [known] = bench.run(
        "LongtakeKnownFrames", latent=clip, start=start, start_unit=unit, spacing=spacing
    )
    assert is_at(collect_latents(bench, known_frames=known), clip, *places)


def with_mask(*, flat: bool = True) -> dict[str, Tensor]:
    """As Wan22ImageToVideoLatent gives it: a start picture, then flat frames to make."""
    mask = torch.ones(1, 1, 9, 4, 4)
    mask[:, :, 0] = 0
    side = 1 if flat else 4
    later = randn(1, 16, 8, side, side, seed=7).expand(-1, -1, -1, 4, 4)
    return {"samples": torch.cat([latent()["samples"], later], 2), "noise_mask": mask}


def test_a_mask_tells_a_start_picture_from_empty_frames(bench: Bench) -> None:
    made = collect_latents(bench, known_frames=with_mask())
    assert torch.equal(made, collect_latents(bench, known_frames=latent()))


@pytest.mark.parametrize("changed", [(slice(None), 0, 0), (0, slice(1), 0.5), (3, slice(1), 0)])
def test_a_mask_inside_frames_is_refused(bench: Bench, changed: tuple[Any, Any, float]) -> None:
    frames, columns, value = changed
    given = with_mask()
    given["noise_mask"][:, :, frames, :, columns] = value
    with pytest.raises(BadInput, match="may only tell a start picture"):
        bench.rollout(known_frames=given)


def test_a_mask_leaves_no_pictures_out(bench: Bench) -> None:
    """KSampler hands the mask on with the clip that it made."""
    with pytest.raises(BadInput, match="may only tell a start picture"):
        bench.rollout(known_frames=with_mask(flat=False))


def test_frames_may_be_seen_ahead(bench: Bench) -> None:
    """What is made before them changes, and they stay."""
    clip, made = latent(), list[Tensor]()
    for ahead in (0, 8):
        [known] = bench.run("LongtakeKnownFrames", latent=clip, start=1.0, ahead=ahead)
        made.append(collect_latents(bench, known_frames=known))
    assert all(is_at(one, clip, 4) for one in made)
    assert not torch.equal(made[0][:3], made[1][:3])


def test_first_last_frames_stay_and_all_between_is_made_to_both(bench: Bench) -> None:
    """Two pictures given, the rest of the shot made between them: seen from its first chunk on."""
    pictures = [{"samples": randn(1, 16, 1, 4, 4, seed=seed)} for seed in range(3)]

    def between(first: int, last: int, ahead: int = 8) -> Tensor:
        [start] = bench.run("LongtakeKnownFrames", latent=pictures[first])
        [both] = bench.run(
            "LongtakeKnownFrames", latent=pictures[last], start=33.0, start_unit="frames",
            ahead=ahead, known_frames=start,
        )  # fmt: skip
        made = collect_latents(bench, known_frames=both)
        assert len(made) == 10
        assert is_at(made, pictures[first], 0) and is_at(made, pictures[last], 9)
        return made[1:9]

    made = between(0, 1)
    assert torch.equal(made, between(0, 1))
    for other in (between(2, 1), between(0, 2), between(0, 1, ahead=0)):
        assert all(not torch.allclose(*pair, atol=1e-3) for pair in zip(made, other, strict=True))
    blind = [between(0, last, ahead=0)[:6] for last in (1, 2)]
    assert torch.equal(*blind)  # the last picture is then seen beside its own chunk alone


def test_chained_known_frames_are_all_there(bench: Bench) -> None:
    clips = [latent(), latent(2)]
    [first] = bench.run("LongtakeKnownFrames", latent=clips[0])
    [both] = bench.run(
        "LongtakeKnownFrames", latent=clips[1], start=1.0, level=0.0, known_frames=first
    )
    made = collect_latents(bench, known_frames=both)
    assert is_at(made, clips[0], 0) and is_at(made, clips[1], 4, 5)


def test_a_level_leaves_the_frames_open(bench: Bench) -> None:
    clip = latent(9)
    [known] = bench.run("LongtakeKnownFrames", latent=clip, level=0.5)
    made = collect_latents(bench, known_frames=known)
    assert len(made) == 9 and not is_at(made[:1], {"samples": clip["samples"][:, :, :1]}, 0)


def test_prompts_change_where_chunks_begin_after_a_picture(bench: Bench) -> None:
    rollout, _ = bench.rollout(text="0: a red ball\n1.1: a blue ball", known_frames=latent())
    starts = [entry.start_frame for entry in rollout.settings.prompts.entries]
    assert starts == [0, 4] and [rollout.span(i).first for i in range(4)] == [0, 1, 4, 7]
    assert rollout.plan.chunks == rollout.chunk_count == 4


def test_a_longer_shot_shares_what_a_shorter_one_made_of_a_picture(bench: Bench) -> None:
    picture = latent()
    made = collect_latents(bench, known_frames=picture)
    longer, _ = bench.rollout(known_frames=picture, length=60.0)
    assert longer.spec.stored_chunks() == 4
    assert bench.rollout(known_frames=latent(1))[0].id == bench.rollout(known_frames=picture)[0].id
    assert len(made) == 10


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (latent(rows=6), "32x48 pixels and the shot is 32x32"),
        (latent(20), "reach 4.8 s and the shot ends at 2.1 s; raise `length`, or set an earlier"),
        ({"samples": torch.zeros(1, 4, 8, 8)}, "from another kind of model"),
        ({"samples": torch.ones(1, 48, 1, 8, 8)}, "have 48 latent channels, but the model has 16"),
        ({"samples": torch.zeros(2, 16, 1, 4, 4)}, "a batch of 2 videos"),
        ({"samples": torch.zeros(1, 16, 3, 4, 4)}, "is empty: all its values are zero"),
        (
            {"samples": torch.cat([latent()["samples"][:, :, :1], torch.zeros(1, 16, 2, 4, 4)], 2)},
            "Latent frame 1 of the known frames is empty: all its values are zero",
        ),
        ({**latent(), "noise_mask": torch.zeros(1)}, "has a mask, which may only"),
        ({"samples": latent()["samples"] / 0}, "not finite"),
        ({"samples": torch.zeros(1, 16, 0, 4, 4)}, r"frames is empty, \(1, 16, 0, 4, 4\); connect"),
    ],
)
def test_latents_that_do_not_fit_are_refused(bench: Bench, given: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        bench.rollout(known_frames=given)
