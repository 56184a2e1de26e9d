"""A MODEL is resolved once for a shot; the plan names what comes from it."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from longtake.attention.cache.policy import FullHistory
from longtake.errors import BadInput
from longtake.stream.journal.chain import Chain
from longtake.tests.support.node_bench import Bench


def test_a_model_is_resolved_once_for_a_shot(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from longtake.nodes.runtime import resolved_model

    calls = Counter[str]()

    def counted(name: str) -> None:
        function = getattr(resolved_model, name)

        def wrapper(model: object) -> object:
            calls[name] += 1
            return function(model)

        monkeypatch.setattr(resolved_model, name, wrapper)

    names = ("denoiser", "facts", "identity", "attention_spec_of", "ignored_patches")
    for name in names:
        counted(name)
    bench.rollout(plan_only=True)
    assert calls == dict.fromkeys(names, 1)


def test_planning_gives_the_settings_that_the_sampler_uses(bench: Bench) -> None:
    from longtake.nodes.runtime.resolved_model import ResolvedModel
    from longtake.nodes.sampling.request import RolloutRequest
    from longtake.nodes.sampling.resolve import plan_rollout

    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    inputs = {"prompts": prompts, "seed": 3, "width": 96, "height": 64, "length": 2.0,
              "length_unit": "seconds", "cfg": -1.0}  # fmt: skip
    resolved = ResolvedModel.of(model)
    planned = plan_rollout(resolved, RolloutRequest(**inputs))
    [rollout] = bench.run("LongtakeSampler", model=model, **inputs)
    assert Chain(planned.settings, resolved.identity).key(0) == rollout.spec.key(0)
    assert planned.values_from_preset["window_frames"] == 21
    assert planned.values_from_preset["cfg"] == 1.0 and planned.warnings == ()
    assert "window_frames 21" in rollout.provenance.from_model


def test_a_picture_for_a_model_without_one_is_said_to_have_no_effect(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    clip = bench.run("LongtakeLoadDemoModel")[1]
    picture = clip.encode_from_tokens_scheduled(clip.tokenize("a ball"))
    bench.rollout(plan_only=True)
    assert "`picture`" not in caplog.text
    bench.rollout(plan_only=True, picture=picture)
    assert "`picture` has no effect, because this model takes none; to begin with" in caplog.text


@pytest.mark.parametrize(
    ("attached", "sentence"),
    [
        ({"guidance": 3.5}, "The guidance of 3.5 from FluxGuidance has no effect"),
        ({"frame_rate": 25.0}, "frame_rate of the conditioning is for other models and has no"),
        ({"seconds_start": 0.0, "seconds_total": 9.0}, "seconds_start, seconds_total of the"),
    ],
)
def test_numbers_for_other_models_are_said_to_have_no_effect(
    bench: Bench, caplog: pytest.LogCaptureFixture, attached: dict[str, float], sentence: str
) -> None:
    """Wherever a node of ours takes a CONDITIONING; FluxDisableGuidance attaches None."""
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [[embedding, options]] = clip.encode_from_tokens_scheduled(clip.tokenize("a ball"))
    shot = {"model": model, "seed": 3, "width": 32, "height": 32, "length": 1.0,
            "length_unit": "seconds", "cfg": -1.0, "plan_only": True}  # fmt: skip
    plain = [[embedding, {**options, "guidance": None}]]
    numbers = [[embedding, {**options, **attached}]]
    for node, socket, inputs in (
        ("LongtakeSampler", "prompts", shot),
        ("LongtakeSampler", "picture", {**shot, "prompts": plain}),
        ("LongtakeGuidanceTerm", "own_prompt", {}),
        ("LongtakePromptTimeline", "mix_prompt", {"clip": clip, "text": "a ball", "mix": "0: 1"}),
    ):
        caplog.clear()
        bench.run(node, **{**inputs, socket: plain})
        assert sentence not in caplog.text
        bench.run(node, **{**inputs, socket: numbers})
        assert caplog.text.count(sentence) == 1


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("unclip_conditioning", "CLIP Vision Encode"),
        ("keyframe_idxs", "LTXVAddGuide"),
        ("time_dim_replace", "Kandinsky5ImageToVideo"),
    ],
)
def test_pictures_for_other_models_are_refused(bench: Bench, name: str, node: str) -> None:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [[embedding, options]] = clip.encode_from_tokens_scheduled(clip.tokenize("a ball"))
    prompts = [[embedding, {**options, name: torch.zeros(1)}]]
    with pytest.raises(BadInput, match=f"from {node}, which the sampler cannot use"):
        bench.run("LongtakeSampler", model=model, prompts=prompts, width=32, height=32)


def test_a_shot_of_known_frames_alone_is_said_to_make_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    latent = {"samples": torch.ones(1, 16, 9, 4, 4)}
    [redrawn] = bench.run("LongtakeKnownFrames", latent=latent, level=0.6)
    for changed in ({"length": 34.0}, {"known_frames": redrawn}, {"known_frames": None}):
        bench.rollout(plan_only=True, **{"known_frames": latent, **changed})
    assert "the model makes nothing" not in caplog.text
    bench.rollout(plan_only=True, known_frames=latent)
    assert "known frames fill the whole shot at level 0, so the model makes nothing" in caplog.text


def test_a_full_history_that_does_not_fit_is_not_told_to_lower_its_window(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`full` does not use window_frames."""
    from longtake.nodes import host
    from longtake.nodes.advice import less_memory

    monkeypatch.setattr(host, "usable_memory_bytes", lambda device: 1000)
    [full] = bench.run("LongtakeKVCacheSettings", policy="full")
    text = bench.rollout(kv_cache=full, plan_only=True)[0].plan.text
    assert less_memory(FullHistory()) in text and "window_frames" not in text


def test_a_length_beyond_a_day_is_told_as_it_was_written(
    bench: Bench,
) -> None:
    """And not as 1.3824e+06."""
    from longtake.nodes.length import SECONDS, snapped_length

    sentence = (
        r"^length is 1,382,400 seconds; set at most 86,400 seconds \(1,382,400 frames\), or 0 to "
        r"run until Stop\.$"
    )
    with pytest.raises(BadInput, match=sentence):
        snapped_length(1382400.0, SECONDS, 16.0, 3)
