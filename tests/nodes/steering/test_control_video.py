"""Control Video: what is encoded for each latent frame, and the shot that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput
from longtake.samplers.loop import generate
from longtake.stream.journal.chain import Chain
from longtake.stream.rollout_file.file import RolloutFile
from longtake.tests.support.model.taehv_tree import taehv_tree, taehv_vae, with_encoder
from longtake.tests.support.node_bench import CONFIG, Bench
from longtake.tests.support.nodes.vace_files import (
    controlled_shot,
    module_state,
    pictures,
    vace_bench,
    vace_model,
    write_module,
)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a VACE module for it."""
    with vace_bench(tmp_path, monkeypatch) as made:
        yield made


def latents(rollout: Any) -> Tensor:
    return torch.cat([chunk.latents for chunk in rollout.chunks])


def keys(rollout: Any) -> list[str]:
    return [rollout.spec.key(index) for index in range(rollout.chunk_count)]


def all_at_once(vae: Any, shown: Tensor) -> Tensor:
    """Latents (f, c, h, w) of pictures (n, H, W, 3), encoded in one go."""
    from longtake.nodes.models.streaming_vae import streaming_vae

    encoder = streaming_vae(vae).open_encoder()
    parts = encoder.feed(shown.movedim(-1, 1)), encoder.drain()
    return torch.cat([part for part in parts if part is not None])


def vae_of(bench: Bench, kind: str) -> Any:
    if kind == "demo":
        return bench.run("LongtakeLoadDemoModel")[2]
    return taehv_vae(with_encoder(taehv_tree()))


def folded(masks: Tensor) -> Tensor:
    """Masks (n, H, W) folded as the core's WanVaceToVideo does, (n, 64, h, w)."""
    count, height, width = masks.shape
    cells = masks.view(count, height // 8, 8, width // 8, 8).permute(2, 4, 0, 1, 3)
    return cells.reshape(64, count, height // 8, width // 8).movedim(0, 1)


@pytest.mark.parametrize("kind", ["demo", "tiny"])
@pytest.mark.parametrize("masked", ["none", "one", "each"])
def test_control_frames_equal_both_videos_encoded_at_once(
    bench: Bench, kind: str, masked: str
) -> None:
    from longtake.nodes.models.streaming_vae import streaming_vae
    from longtake.nodes.steering.control_video import _frames

    vae, shown = vae_of(bench, kind), pictures(61)
    drawn = torch.rand(61, 32, 32, generator=torch.Generator().manual_seed(1))
    masks = {"none": None, "one": drawn[:1], "each": drawn}[masked]
    inside = (torch.ones(61, 32, 32) if masks is None else masks.expand(61, -1, -1)) > 0.5
    frames = _frames(shown, masks, streaming_vae(vae))
    assert frames is not None and len(frames) >= 16
    part = inside[..., None]
    grey = torch.tensor(0.5)
    outside, changing = (
        all_at_once(vae, torch.where(where, shown, grey)) for where in (~part, part)
    )
    for index in (0, 1, 2, 15, 14, 7, 3):  # in any order
        of_mask = folded(inside.float())[max(0, 4 * index - 1)]
        expected = torch.cat([outside[index], changing[index], of_mask])
        torch.testing.assert_close(frames.read(index), expected, atol=1e-5, rtol=0)


def test_strength_0_is_the_shot_without_control(bench: Bench) -> None:
    plain = latents(controlled_shot(bench))
    off = controlled_shot(bench, control_frames=pictures(33), strength="0")
    assert torch.equal(latents(off), plain)
    followed = controlled_shot(bench, control_frames=pictures(33))
    assert not torch.allclose(latents(followed), plain, atol=1e-2)
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    without, _ = bench.rollout(text="0: a red ball")
    assert torch.equal(latents(without), plain)


def test_a_strength_holds_from_its_time_on(bench: Bench) -> None:
    frames = pictures(33)
    whole = controlled_shot(bench, control_frames=frames)
    ends = controlled_shot(bench, control_frames=frames, strength="0: 1\n0.6: 0")
    assert [a == b for a, b in zip(keys(whole), keys(ends), strict=True)] == [True, False, False]
    assert torch.equal(latents(whole)[:3], latents(ends)[:3])
    assert not torch.equal(latents(whole)[3:], latents(ends)[3:])


def test_a_longer_control_video_keeps_the_chunks_that_exist(bench: Bench) -> None:
    frames = pictures(49)
    short = controlled_shot(bench, control_frames=frames[:33])
    longer = controlled_shot(bench, length=45.0, control_frames=frames)
    assert keys(longer)[:3] == keys(short)
    other = frames.clone()
    other[30] = 0
    changed = controlled_shot(bench, control_frames=other[:33])
    assert [a == b for a, b in zip(keys(changed), keys(short), strict=True)] == [True, True, False]


def test_a_reference_is_cut_to_the_shots_size_and_changes_the_shot(bench: Bench) -> None:
    wide = torch.nn.functional.pad(pictures(1), (0, 0, 16, 16), value=0.25)
    cut = controlled_shot(bench, reference=wide)
    fits = controlled_shot(bench, reference=pictures(1))
    assert torch.equal(latents(cut), latents(fits))
    assert not torch.allclose(latents(fits), latents(controlled_shot(bench)), atol=1e-2)
    both = controlled_shot(bench, reference=pictures(1), control_frames=pictures(33))
    assert len(latents(both)) == 9


@pytest.mark.parametrize("wires", [{}, {"reference": pictures(1, 16)}, {"reference": pictures(1)}])
def test_frames_of_another_size_than_the_shot_are_named(bench: Bench, wires: Any) -> None:
    """A reference is cut to the shot's size, so only the frames can be at fault."""
    said = "The control frames are 16x16 pixels and the shot is 32x32 pixels; bring them to the"
    with pytest.raises(BadInput, match=said):
        controlled_shot(bench, control_frames=pictures(33, 16), **wires)


def test_other_lengths_and_rates_are_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    controlled_shot(bench, control_frames=pictures(17))
    ends = "The control video ends after 1.1 s; the rest of the shot is made without control."
    assert ends in caplog.text
    [frames] = bench.run("LongtakeImagesToFrames", images=pictures(33), fps=24.0)
    controlled_shot(bench, control_frames=frames)
    assert "play at 24 per second and the shot at 16" in caplog.text


def test_a_continued_shot_says_where_its_control_video_ends(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A file has the control frames up to its shot's end; a shot that was just made has more."""
    shot = controlled_shot(bench, control_frames=pictures(49))
    guided = controlled_shot(bench, control_frames=pictures(33), reference=pictures(1))
    entry = bench.shown("LongtakeSaveRollout", rollout=shot)["longtake_files"][0]
    name = f"{entry['subfolder']}/{entry['filename']} [output]"
    [loaded] = bench.run("LongtakeLoadRollout", file=name, model=vace_model(bench)[0])
    edit = {"more": 0.75, "at": 1.3, "length": 2.8}
    for action in ("continue", "fork"):
        for source, ends in ((shot, False), (guided, False), (loaded, True)):
            caplog.clear()
            bench.run("LongtakeEditRollout", rollout=source, action=action, **edit)
            assert ("The control video ends after 2.1 s; the rest" in caplog.text) == ends


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ({}, "nothing to follow"),
        ({"masks": torch.ones(1, 32, 32)}, "no control frames"),
        ({"control_frames": pictures(33, side=48)}, "48x48 pixels and the shot is 32x32"),
        ({"control_frames": pictures(33), "masks": torch.ones(1, 48, 48)}, "masks are 48x48"),
        ({"control_frames": pictures(33), "masks": torch.ones(5, 32, 32)}, "5 masks for 33"),
        ({"control_frames": pictures(33), "strength": "strong"}, "Line 1 of the strength"),
        ({"control_frames": pictures(33), "strength": "0: 1\n2 (in 3): 0"}, r"Line 2 .*\(in 3\)"),
        ({"control_frames": pictures(33), "strength": "11"}, "from 0 to 10"),
        ({"reference": pictures(4)}, "4 reference pictures"),
        ({"control_frames": pictures(33), "reference": pictures(0)}, "has no pictures"),
        ({"reference": pictures(1)[0]}, r"shape \(32, 32, 3\), and pictures are"),
        ({"reference": (255 * pictures(1)).to(torch.uint8)}, "has whole numbers"),
        ({"reference": torch.cat([pictures(1), pictures(1) / 0])}, "Picture 1 of the IMAGE"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    bench: Bench, control: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        if not control:
            bench.run("LongtakeControlVideo", vae=vae_of(bench, "demo"))
        controlled_shot(bench, **control)


def test_frames_that_are_changed_as_they_come_are_refused(bench: Bench) -> None:
    [both] = bench.run("LongtakeSpliceRollouts", first=bench.frames(), second=bench.frames())
    with pytest.raises(BadInput, match="connect VAE Decode .Stream. of their shot itself"):
        controlled_shot(bench, control_frames=both)


def test_a_model_without_a_module_says_where_it_comes_from(bench: Bench) -> None:
    vae = vae_of(bench, "demo")
    [control] = bench.run("LongtakeControlVideo", vae=vae, control_frames=pictures(33))
    with pytest.raises(BadInput, match="put Load VACE Module between"):
        bench.rollout(control=control)


def test_a_vae_of_another_model_is_refused_in_a_sentence(bench: Bench) -> None:
    model, clip, _ = vace_model(bench)
    other = vae_of(bench, "tiny")
    [control] = bench.run("LongtakeControlVideo", vae=other, control_frames=pictures(33))
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    with pytest.raises(BadInput, match="At Control Video: The model is the demo's, and the VAE"):
        bench.run("LongtakeSampler", model=model, prompts=prompts, width=32, height=32,
                  length=33.0, length_unit="frames", control=control)  # fmt: skip


def test_the_module_is_in_the_models_name_and_in_the_plan(bench: Bench, tmp_path: Path) -> None:
    from longtake.nodes.models.identity import identity

    model = bench.run("LongtakeLoadDemoModel")[0]
    carried = vace_model(bench)[0]
    other = module_state(replace(CONFIG))
    other["vace_blocks.0.after_proj.weight"] += 1
    write_module(tmp_path, other)
    assert len({identity(m)[0] for m in (model, carried, vace_model(bench)[0])}) == 3
    rollout = controlled_shot(bench, control_frames=pictures(33))
    plain = controlled_shot(bench)
    module_bytes = sum(tensor.nbytes for tensor in module_state().values())
    more = rollout.claim.weights.total_bytes - plain.claim.weights.total_bytes
    assert more == module_bytes


@pytest.mark.parametrize("masked", [False, True])
def test_a_shot_with_control_is_saved_and_goes_on(
    bench: Bench, tmp_path: Path, masked: bool
) -> None:
    """A saved shot, loaded again, has the addresses of its chunks, and makes the same bits."""
    masks = {"masks": (pictures(33)[..., 0] > 0.5).float()} if masked else {}
    given = {"control_frames": pictures(33), "reference": pictures(1), **masks}
    rollout = controlled_shot(bench, **given)
    whole = latents(rollout)
    bench.run("LongtakeSaveRollout", rollout=rollout, filename_prefix="x")
    [file] = (tmp_path / "out").rglob("*.rollout.safetensors")
    settings = RolloutFile(file).settings()
    assert Chain(settings, rollout.spec.identity).key(2) == keys(rollout)[2]
    made = generate(settings, rollout.model)
    assert torch.equal(torch.cat([chunk.latents for chunk in made]), whole)
    [fork] = bench.run("LongtakeEditRollout", action="fork", rollout=rollout, at=1.2, new_seed=9)
    assert keys(fork)[:1] == keys(rollout)[:1]
    assert fork.settings.control == rollout.settings.control
