"""A camera in the loop: each chunk sees its own part of the path, and no chunk more than that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import FullHistory, RebuiltWindow, WindowSink
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import Unsupported
from longtake.model.camera.frames import CameraFrames
from longtake.model.camera.modules import CAMERA_MODULES
from longtake.model.config import PATCH, Camera
from longtake.model.hooks import Hooks
from longtake.samplers import steering
from longtake.samplers.camera.implied import implied_motion
from longtake.samplers.camera.moves import STILL, CameraMotion, read_motion
from longtake.samplers.camera.path import STILL_PATH, CameraPath
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.guidance import NOISE
from longtake.samplers.guidance.presets import temporal, vanilla
from longtake.samplers.loop import generate
from longtake.samplers.planning.memory import max_bytes, rollout_memory
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import NewestFrames
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import rolling
from longtake.samplers.settings import RolloutSettings
from longtake.samplers.steering import Steering
from longtake.stream.journal.chain import Chain
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.fork import Fork
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.tiny_model import (
    KEYS,
    TINY,
    embedding,
    random_dit,
    settings,
    timeline,
    with_camera,
)

LENGTH, CHUNK, TURN_AT = 10, 3, 6
KINDS: tuple[Camera, ...] = ("action", "columns", "plucker", "prope", "fun", "keys")


def model(camera: Camera, seed: int = 0) -> Denoiser:
    """A random model that takes a camera; all its layers are random."""
    config = with_camera(camera)
    return local_denoiser(random_dit(config, seed), config)


def path(*entries: tuple[int, str]) -> CameraPath:
    """A path of moves at latent frames."""
    return path_of_motions([TimedMotion(f, read_motion(t, 1)) for f, t in entries], 0.25)


def shot(**changes: Any) -> RolloutSettings:
    """Ten latent frames of three a chunk, in a short window."""
    return settings(**{"length": LENGTH, "cache": WindowSink(4, 1), **changes})


def latents(made: RolloutSettings, engine: Denoiser) -> torch.Tensor:
    """All latent frames of a shot."""
    return torch.cat([chunk.latents for chunk in generate(made, engine)])


@pytest.mark.parametrize("camera", KINDS)
def test_a_turn_changes_the_video_from_its_chunk_on_and_not_before(camera: Camera) -> None:
    engine = model(camera)
    straight = latents(shot(camera=path((0, "pan left"))), engine)
    turned = latents(shot(camera=path((0, "pan left"), (TURN_AT, "pan right"))), engine)
    assert torch.equal(straight[:TURN_AT], turned[:TURN_AT])
    assert not torch.allclose(straight[TURN_AT:], turned[TURN_AT:], atol=1e-3)


@pytest.mark.parametrize("camera", KINDS)
def test_addresses_share_what_the_camera_shares(camera: Camera) -> None:
    one = Chain(shot(camera=path((0, "pan left"))), "m")
    two = Chain(shot(camera=path((0, "pan left"), (TURN_AT, "pan right"))), "m")
    same = [one.key(i) == two.key(i) for i in range(4)]
    assert same == [True, True, False, False]
    assert one.id != two.id


def test_a_shot_without_a_camera_keeps_its_addresses() -> None:
    plain = Chain(shot(), "m")
    steered = Chain(shot(camera=STILL_PATH), "m")
    assert plain.key(0) != steered.key(0)
    assert "camera" not in str(plain._steering(plain.span(0), ()))


WAYS: dict[str, dict[str, Any]] = {
    "chunks": {},
    "rolling": {"schedule": rolling(flow_ladder(3, 3.0), 2)},
    "guided by noise": {"guidance": vanilla(2.0, NOISE)},
}


@pytest.mark.parametrize("camera", KINDS)
@pytest.mark.parametrize("kind", WAYS)
def test_resumed_equals_uninterrupted(camera: Camera, kind: str, tmp_path: Path) -> None:
    made = shot(camera=path((0, "forward"), (4, "orbit left, zoom in")), **WAYS[kind])
    engine = model(camera)
    whole = latents(made, engine)
    journal = Journal(tmp_path)
    for count in (1, 2, None):
        rollout = Rollout(RolloutSpec(made, engine, "m", journal))
        chunks = []
        for chunk in rollout.chunks:
            chunks.append(chunk.latents)
            if count is not None and len(chunks) > count:
                break
    assert torch.equal(torch.cat(chunks), whole)


def test_a_fork_keeps_the_camera() -> None:
    made = shot(camera=path((0, "pan left"), (TURN_AT, "pan right")))
    assert Fork(frame=3, seed=9).apply(made).camera == made.camera


@pytest.mark.parametrize("camera", KINDS)
def test_no_path_is_a_camera_that_stands_still(camera: Camera) -> None:
    engine = model(camera)
    assert torch.equal(latents(shot(), engine), latents(shot(camera=STILL_PATH), engine))


def test_a_model_without_a_camera_ignores_none() -> None:
    engine = local_denoiser(random_dit(), TINY)
    assert torch.equal(latents(shot(), engine), latents(shot(camera=path((0, "up"))), engine))


def _timeline(*texts: tuple[int, str]) -> PromptTimeline:
    plain = timeline(*(start for start, _ in texts))
    entries = tuple(
        replace(entry, text=text, embedding=embedding(1))
        for entry, (_, text) in zip(plain.entries, texts, strict=True)
    )
    return replace(plain, lines=entries)


def test_the_words_of_the_prompt_move_the_camera_of_the_demo() -> None:
    engine = model("action")
    words = _timeline((0, "a hill, the camera pans left"), (TURN_AT, "a hill, panning right"))
    plain = _timeline((0, "a hill"), (TURN_AT, "a hill at night"))
    turning = (TURN_AT, "pan left 5.625"), (TURN_AT + 1, "pan right 9.375")
    by_path = path((0, "pan left"), *turning, (TURN_AT + 2, "pan right"))
    by_words = latents(shot(prompts=words), engine)
    assert torch.equal(by_words, latents(shot(prompts=plain, camera=by_path), engine))
    assert not torch.allclose(by_words, latents(shot(prompts=plain), engine), atol=1e-3)


def test_a_path_overrules_the_words() -> None:
    engine, words = model("action"), _timeline((0, "the camera pans left"), (3, "moving left"))
    plain = _timeline((0, "a hill"), (3, "a ball"))
    drive = path((0, "pan right 4"))
    assert torch.equal(
        latents(shot(prompts=words, camera=drive), engine),
        latents(shot(prompts=plain, camera=drive), engine),
    )


@pytest.mark.parametrize("camera", ["action", "columns"])
def test_the_words_of_a_fork_do_not_move_frames_in_flight_before_it(
    camera: Camera, tmp_path: Path
) -> None:
    """Behind the chunks of its source, or made from its start, a fork has the same bits."""
    engine, words = model(camera), _timeline((0, "panning left"), (TURN_AT, "fixed view"))
    made = shot(prompts=words, schedule=rolling(flow_ladder(3, 3.0), 2))
    fork = Fork(4, TimedPrompt(0, embedding(2), "panning right")).apply(made)
    source = latents(made, engine)
    list(Rollout(RolloutSpec(made, engine, "m", Journal(tmp_path))).chunks)
    behind = Rollout(RolloutSpec(fork, engine, "m", Journal(tmp_path)))
    assert behind.spec.stored_chunks() == 2
    forked = torch.cat([chunk.latents for chunk in behind.chunks])
    assert torch.equal(forked[:4], source[:4]) and not torch.equal(forked[4:], source[4:])
    assert torch.equal(latents(fork, engine), forked)


@pytest.mark.parametrize(
    ("text", "motion"),
    [("the camera pans left, a ball", read_motion("pan left", 1)),
     ("moving right: hills", read_motion("right", 1)),
     ("a ball moving right over hills", STILL),
     ("a dog turning left", STILL), ("a road, the camera moves forward", CameraMotion(forward=1)),
     ("The camera slowly tilts up and a view rolling right", read_motion("tilt up, roll right", 1)),
     ("static camera", STILL)],
)  # fmt: skip
def test_only_words_about_the_camera_move_it(text: str, motion: CameraMotion) -> None:
    assert implied_motion(text) == motion


def test_hooks_are_made_once_for_all_steps_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    from longtake.model.camera import plucker

    calls = []
    original = plucker.ray_features
    monkeypatch.setattr(
        plucker, "ray_features", lambda camera, *rest: calls.append(1) or original(camera, *rest)
    )
    made = shot(length=6, camera=path((0, "forward")))
    list(generate(made, model("plucker")))
    steps, commits = 2, 1  # chunks; the commit of the first one follows the next claim
    assert len(calls) == steps + commits


def test_the_plan_counts_the_scales_and_shifts_of_every_layer() -> None:
    made = shot(camera=path((0, "forward")))
    plain, steered = (
        rollout_memory(made, replace(TINY, num_layers=3, camera=camera), torch.float32)
        for camera in ("none", "plucker")
    )
    tokens = made.active_frames * made.rows * made.columns // PATCH**2
    kept = 2 * 3 * tokens * TINY.dim * 4  # scale and shift, layers, float32
    assert steered.kv_bytes == plain.kv_bytes
    assert steered.working_bytes >= plain.working_bytes + kept
    assert max_bytes(made, replace(TINY, camera="plucker"), torch.float32) >= steered.total_bytes


PAST = {  # the six latent frames before the one at 9, or what the history keeps of them
    "window": ({"cache": WindowSink(6)}, [*range(3, 9)]),
    "sink": ({"cache": WindowSink(6, 2)}, [0, 1, 5, 6, 7, 8]),
    "full": ({"cache": FullHistory()}, [*range(9)]),
    "rebuilt": ({"cache": RebuiltWindow(6, 1)}, [0, 4, 5, 6, 7, 8]),
    "int8": ({"cache": WindowSink(6), "storage": Packed(INT8, 3)}, [*range(3, 9)]),
    "re-cache": ({"cache": WindowSink(6), "prompts": timeline(0, 9),
                  "on_prompt_change": "re-cache"}, [*range(3, 9)]),
    "flush": ({"cache": WindowSink(6, 1), "prompts": timeline(0, 9),
               "on_prompt_change": "flush"}, [0, 8]),
    "noise": ({"cache": WindowSink(6), "guidance": vanilla(2.0)}, [*range(3, 9)]),
    "short": ({"cache": WindowSink(6), "guidance": temporal(0.5, scale=2.0)}, [*range(3, 9)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", PAST)
def test_the_second_attention_knows_the_frames_of_every_history(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caches number their frames themselves; their cameras are those of the rollout's frames."""
    changes, past = PAST[kind]
    asked: list[tuple[int, ...]] = []
    original = CameraPath.placed

    def placed(self: CameraPath, frames: tuple[int, ...], origin: int) -> torch.Tensor:
        asked.append((*sorted(frames[: frames.index(origin)]), *frames[frames.index(origin) :]))
        return original(self, frames, origin)

    monkeypatch.setattr(CameraPath, "placed", placed)
    list(generate(shot(length=12, camera=path((0, "forward")), **changes), model("prope")))
    active = (9, 10, 11)
    reads = {frames[: -len(active)] for frames in asked if frames[-len(active) :] == active}
    assert tuple(past) in reads
    for read in reads - {tuple(past)}:  # a part of it that the guidance compares with
        assert set(read) <= set(past)
    for frames in asked:  # whichever pass: the past lies before what is made
        assert [*frames] == sorted({*frames})


def test_the_plan_counts_a_second_attention_and_no_second_cache() -> None:
    made = shot(camera=path((0, "forward")), cache=WindowSink(6))
    plain, steered = (
        rollout_memory(made, replace(TINY, camera=camera), torch.float32)
        for camera in ("none", "prope")
    )
    assert steered.kv_bytes == plain.kv_bytes
    assert steered.working_bytes > plain.working_bytes
    assert max_bytes(made, replace(TINY, camera="prope"), torch.float32) >= steered.total_bytes


def test_the_plan_counts_the_keys_that_lie_beside_those_of_the_model() -> None:
    """One block of two: keys and values of 4 + 2 latent frames, and a buffer of its own."""
    made, config = shot(camera=path((0, "forward")), cache=WindowSink(6)), with_camera("keys")
    plain, steered = (rollout_memory(made, one, torch.float32) for one in (TINY, config))
    frame = 6 * KEYS.width * 4
    assert steered.kv_bytes - plain.kv_bytes == 3 * 6 * frame
    assert max_bytes(made, config, torch.float32) >= steered.total_bytes


REFUSED = {
    "camera-cache": {"cache": TempCache(6)},
    "camera-rules": {"memory": MemoryRules(commit=NewestFrames(3))},
    "camera-reach": {"schedule": replace(rolling(flow_ladder(3, 3.0), 2), reach=(2,))},
}


@pytest.mark.parametrize("camera", ["prope", "keys"])
@pytest.mark.parametrize("code", REFUSED)
def test_what_the_second_attention_cannot_follow_is_refused(code: str, camera: Camera) -> None:
    with pytest.raises(Unsupported) as refusal:
        list(generate(shot(**REFUSED[code]), model(camera)))
    assert refusal.value.code == code
    assert latents(shot(**REFUSED[code]), model("plucker")).isfinite().all()


def test_a_chunks_camera_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps, and its commit after the next claim, read the same one."""
    asked = list[tuple[int, ...]]()
    work_out = Steering._camera

    def watched(self: Steering, module: Any, frames: Any) -> Any:
        asked.append(tuple(frames))
        return work_out(self, module, frames)

    monkeypatch.setattr(Steering, "_camera", watched)
    chosen = settings(length=9, camera=path((0, "pan left")))
    list(generate(chosen, model("columns")))
    assert asked == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]


@pytest.mark.parametrize("camera", ["action", "columns"])
def test_small_hooks_serve_the_commit_of_their_frames_too(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a module that holds much are made anew, as the test of the plucker module says."""
    made = list[CameraFrames]()
    module = CAMERA_MODULES[camera]

    def counted(tree: Any, frames: CameraFrames) -> Hooks:
        made.append(frames)
        return module.hooks(tree, frames)

    monkeypatch.setitem(steering.CAMERA_MODULES, camera, replace(module, hooks=counted))
    list(generate(settings(length=9, camera=path((0, "pan left"))), model(camera)))
    assert len(made) == 3  # chunks
