"""What a shot asks that its model was not trained for is a sentence before it runs."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from longtake.attention.temp_cache.policy import TempCache
from longtake.model.families.table import BY_KEY
from longtake.model.preset import DEMO, DEMO_FAST
from longtake.samplers.guidance import cfg
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.options import preset_schedule
from longtake.samplers.schedule.rows import StaggeredSchedule
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import demo_as
from longtake.tests.support.tiny_model import settings

HISTORY, TERM = "LongtakeHistoryGuidance", "LongtakeGuidanceTerm"
SCHEDULE, CONTEXT = "LongtakeSchedule", "LongtakeContextNoise"


@pytest.fixture
def warned(bench: Bench, caplog: pytest.LogCaptureFixture) -> Any:
    """The warnings with a word in them under the sampler of a shot of a family's model."""

    def warnings_with(
        key: str, word: str, text: str = "0: a red ball", curve: str | None = None, **inputs: Any
    ) -> list[str]:
        clip = bench.run("LongtakeLoadDemoModel")[1]
        [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text=text, guidance=curve)
        caplog.clear()
        size = {"width": 832, "height": 480, "length": 33.0, "length_unit": "frames"}
        bench.run("LongtakeSampler", model=demo_as(bench, key), prompts=prompts, plan_only=True,
                  **size, **inputs)  # fmt: skip
        said = [one.message for one in caplog.records if one.levelno == logging.WARNING]
        return [one for one in said if word in one]

    return warnings_with


@pytest.mark.usefixtures("bench")
def test_settings_unlike_a_distilled_models_own_are_said() -> None:
    from longtake.nodes.guidance.guidance_spec import GuidanceSpec
    from longtake.nodes.models.model_facts import ModelFacts
    from longtake.nodes.sampling.training_limits import out_of_distribution_warnings

    distilled, plain = (ModelFacts(BY_KEY[key], "") for key in ("self-forcing", "wan21-t2v"))
    assert out_of_distribution_warnings(distilled, settings(), (832, 480)) == []
    chain = {"guidance": GuidanceSpec()}
    assert out_of_distribution_warnings(distilled, settings(), (480, 832), **chain) == []
    [text] = out_of_distribution_warnings(distilled, settings(guidance=cfg(2.5)), (640, 480))
    [size] = out_of_distribution_warnings(plain, settings(guidance=cfg(5.0)), (96, 64))
    assert "trained for cfg 1" in text and "trained at 832x480" in size
    assert out_of_distribution_warnings(ModelFacts(BY_KEY["demo"], ""), settings(), (96, 64)) == []


@pytest.mark.usefixtures("bench")
def test_the_demos_student_says_what_it_has_not_learned_and_what_has() -> None:
    from longtake.nodes.models.model_facts import ModelFacts
    from longtake.nodes.sampling.training_limits import out_of_distribution_warnings

    student = ModelFacts(BY_KEY["demo-fast"], "")

    def warnings(schedule: StaggeredSchedule, **changed: Any) -> list[str]:
        used = settings(schedule=schedule, **changed)
        return out_of_distribution_warnings(student, used, (96, 64))

    own = preset_schedule(DEMO_FAST)
    assert warnings(own) == warnings(replace(own, chunk_frames=1)) == []
    assert warnings(replace(own, first_ladder=own.ladder)) == []
    for found in (
        warnings(own, guidance=cfg(2.5)),
        warnings(own, context_noise=ContextNoise(0.2)),
        warnings(preset_schedule(DEMO)),
        *(warnings(replace(own, lag=lag)) for lag in (0.0, 1.0)),
    ):
        [warning] = found
        assert warning.endswith(" The demo's quality full can do that.")


@pytest.mark.usefixtures("bench")
def test_the_demos_teacher_takes_guidance_noise_and_steps() -> None:
    from longtake.nodes.models.model_facts import ModelFacts
    from longtake.nodes.sampling.training_limits import out_of_distribution_warnings

    teacher = ModelFacts(BY_KEY["demo"], "")
    for changed in (
        {"guidance": cfg(2.5)}, {"context_noise": ContextNoise(0.2)},
        {"schedule": preset_schedule(DEMO_FAST)},
    ):  # fmt: skip
        used = settings(**changed)
        assert out_of_distribution_warnings(teacher, used, (96, 64)) == []


SEEN = {  # sizes whose pictures were looked at: whether they suffer
    (96, 64): False, (64, 64): False, (80, 64): False, (112, 64): False,
    (128, 64): True, (192, 128): True, (96, 80): True, (64, 96): True, (80, 48): True,
}  # fmt: skip


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("key", ["demo", "demo-fast"])
@pytest.mark.parametrize("size", SEEN, ids=str)
def test_the_demo_too_says_that_it_knows_one_size(key: str, size: tuple[int, int]) -> None:
    """At 128x64 there are two balls, at 96x80 two suns, at 64x96 bands above and below."""
    from longtake.nodes.models.model_facts import ModelFacts
    from longtake.nodes.sampling.training_limits import out_of_distribution_warnings

    demo, used = ModelFacts(BY_KEY[key], ""), settings(schedule=preset_schedule(DEMO_FAST))
    warnings = out_of_distribution_warnings(demo, used, size)
    said = f"was trained at 96x64; pictures of {size[0]}x{size[1]} suffer"
    assert [said in warning for warning in warnings] == [True] * SEEN[size]


@pytest.mark.parametrize(("key", "inputs", "trained"), [
    ("demo", {"chunk_frames": 2}, "1 and 3"),
    ("demo-fast", {"chunk_frames": 4}, "1 and 3"),
    ("self-forcing", {"schedule": "frame by frame"}, "3"),
    ("rolling-forcing", {"chunk_frames": 2}, "3"),
])  # fmt: skip
def test_chunks_of_another_size_than_trained_are_said(
    bench: Bench, warned: Any, key: str, inputs: dict[str, Any], trained: str
) -> None:
    [schedule] = bench.run(SCHEDULE, **inputs)
    [said] = warned(key, "chunks of", schedule=schedule)
    size = inputs.get("chunk_frames", 1)
    assert said.endswith(
        f" was trained with chunks of {trained} latent frames, so chunks of {size} may look worse; "
        "leave schedule and chunk_frames at from model."
    )


@pytest.mark.parametrize(("key", "inputs"), [
    ("demo", {}), ("demo", {"chunk_frames": 1}), ("demo", {"schedule": "pyramid"}),
    ("demo-fast", {"chunk_frames": 3, "steps": 4}),
    ("skyreels-df", {"chunk_frames": 2}), ("causal-ar", {"chunk_frames": 3}),
    ("wan21-t2v", {"chunk_frames": 4, "schedule": "causal chunks"}),  # which says it is not causal
])  # fmt: skip
def test_chunks_that_a_model_knows_are_not_warned_of(
    bench: Bench, warned: Any, key: str, inputs: dict[str, Any]
) -> None:
    [schedule] = bench.run(SCHEDULE, **inputs)
    assert warned(key, "trained with chunks", schedule=schedule) == []


@pytest.mark.parametrize("key", ["anyflow-far", "anyflow"])
@pytest.mark.parametrize("steps", [-1, 1, 2, 8, 32])
def test_a_flow_map_takes_any_number_of_steps(
    bench: Bench, warned: Any, key: str, steps: int
) -> None:
    [schedule] = bench.run(SCHEDULE, steps=steps)
    assert warned(key, "", schedule=schedule) == []


def test_a_flow_map_is_warned_of_solvers_but_eulers(bench: Bench, warned: Any) -> None:
    for solver in ("unipc 2", "re-noise"):
        [schedule] = bench.run(SCHEDULE, solver=solver)
        [said] = warned("anyflow-far", "mean velocity", schedule=schedule)
        assert said.endswith("; leave solver at from model.")
        assert not warned("self-forcing", "mean velocity", schedule=schedule)


def test_text_guidance_of_a_timelines_line_is_warned_of(bench: Bench, warned: Any) -> None:
    line = "0: a red ball\n1 (guidance 4): a blue ball"
    [said] = warned("self-forcing", "is distilled", line)
    assert said.endswith(
        "trained for cfg 1; cfg 4 takes twice the time and exaggerates contrast; remove "
        "(guidance 4) from the Prompt Timeline."
    )
    [said] = warned("self-forcing", "is distilled", line, cfg=6.0)
    assert "; cfg 6 takes twice" in said and said.endswith("cfg of Settings From Model.")
    assert not warned("skyreels-df", "is distilled", line)
    assert not warned("self-forcing", "is distilled", line.replace("guidance 4", "guidance 1"))


def test_strengths_from_the_beginning_on_replace_cfg_in_what_is_warned_of(warned: Any) -> None:
    for cfg_of_sampler in (1.0, 3.0, 6.0):
        [said] = warned("self-forcing", "is distilled", curve="0: 1\n1: 3", cfg=cfg_of_sampler)
        assert "; cfg 3 takes twice" in said
        assert said.endswith("; disconnect `guidance` of Prompt Timeline.")
        line = "0 (guidance 3): a red ball"
        [said] = warned("self-forcing", "is distilled", line, cfg=cfg_of_sampler)
        assert said.endswith("; remove (guidance 3) from the Prompt Timeline.")
        assert not warned("self-forcing", "is distilled", curve="1", cfg=cfg_of_sampler)


def test_a_strength_of_0_is_said_to_leave_out_the_prompt(bench: Bench, warned: Any) -> None:
    [said] = warned("self-forcing", "is distilled", cfg=0.0)
    assert said.endswith("; cfg 0 leaves out the prompt; connect the cfg of Settings From Model.")
    [text] = bench.run(HISTORY, preset="text only", text_scale=0.0)
    [said] = warned("self-forcing", "is distilled", guidance=text)
    assert "; text guidance of 0 leaves out the prompt; set text_scale" in said


def test_a_strength_below_1_is_said_to_weaken_the_prompt(warned: Any) -> None:
    [said] = warned("self-forcing", "is distilled", cfg=0.5)
    assert "; cfg 0.5 takes twice the time and weakens the prompt; connect the cfg" in said


def test_a_family_without_a_name_begins_a_sentence_too(warned: Any) -> None:
    [said] = warned("causal-ar", "is distilled", cfg=2.0)
    assert said.startswith("Causal Wan is distilled and was trained for cfg 1; cfg 2 takes twice")


def test_a_strength_of_guidance_counts_as_far_as_it_is_of_text(bench: Bench, warned: Any) -> None:
    line = "0: a red ball\n1 (guidance 3): a blue ball"
    [text] = bench.run(HISTORY, preset="text only", text_scale=2.0)
    [said] = warned("self-forcing", "is distilled", line, guidance=text)
    assert "text guidance of 4 takes more time" in said
    [past] = bench.run(HISTORY, preset="vanilla")
    assert not warned("self-forcing", "is distilled", line, guidance=past)


def test_a_noisy_past_is_warned_of_where_the_model_never_saw_one(bench: Bench, warned: Any) -> None:
    [guidance] = bench.run(HISTORY, preset="fractional", none_as="pure noise", stabilise=0.3)
    [schedule] = bench.run(SCHEDULE, context_noise=0.1)
    assert warned("self-forcing", "noisy", guidance=guidance, schedule=schedule) == [
        "Self-Forcing was not trained with noisy history, so history at noise 0.75, pure noise, "
        "stabilise 0.3 and context noise 0.1 may cause artefacts; use the preset `temporal`, "
        "the sink as no history, stabilise of at most 0.05 and context noise of at most 0.05."
    ]


def test_each_noisy_past_is_named_with_what_to_do(bench: Bench, warned: Any) -> None:
    [schedule] = bench.run(SCHEDULE)
    [context] = bench.run(CONTEXT, schedule=schedule, level=0.2, ramp_frames=4)
    [noisy] = bench.run(TERM, view="all", level=0.4)
    [noise] = bench.run(TERM, view="pure noise")
    [both] = bench.run(HISTORY, preset="fractional", level=0.4, none_as="sink", guidance=noisy)
    [pure] = bench.run(HISTORY, preset="vanilla", none_as="pure noise")
    [sinkless] = bench.run("LongtakeKVCacheSettings", first_latent="leave")
    for inputs, seen, instead in (
        ({"schedule": context}, "context noise 0.2", "context noise of at most 0.05"),
        ({"guidance": noisy}, "history at noise 0.4", "level 0 in Guidance Term"),
        ({"guidance": noise}, "pure noise", "the sink as view of Guidance Term"),
        (
            {"guidance": both},
            "history at noise 0.4",
            "level 0 in Guidance Term and the preset `temporal`",
        ),
        ({"guidance": pure}, "pure noise", "the sink as no history"),
        ({"guidance": pure, "kv_cache": sinkless}, "pure noise", "nothing as no history"),
    ):
        [said] = warned("self-forcing", "noisy", **inputs)
        assert said.endswith(f"history, so {seen} may cause artefacts; use {instead}.")
    [unseen] = bench.run(TERM, view="nothing", level=0.4)
    assert not warned("self-forcing", "noisy", guidance=unseen)


def test_a_past_as_noisy_as_it_was_trained_with_is_not_warned_of(bench: Bench, warned: Any) -> None:
    [guidance] = bench.run(HISTORY, preset="fractional", none_as="pure noise", stabilise=0.3)
    [schedule] = bench.run(SCHEDULE, context_noise=0.3)
    for key in ("demo", "skyreels-df", "causvid"):
        assert not warned(key, "noisy", guidance=guidance, schedule=schedule)
    [slight] = bench.run(HISTORY, preset="temporal and none", stabilise=0.05)
    [slightly] = bench.run(SCHEDULE, context_noise=0.05)
    assert not warned("self-forcing", "noisy", guidance=slight, schedule=slightly)


@pytest.mark.parametrize(("key", "trained"), [("demo", 64), ("self-forcing", 18)])
def test_a_reach_beyond_what_the_model_was_trained_with_is_said(
    bench: Bench, key: str, trained: int
) -> None:
    from longtake.nodes.models.model_facts import ModelFacts
    from longtake.nodes.sampling.training_limits import out_of_distribution_warnings

    known = ModelFacts(BY_KEY[key], "")
    for reach, warned in ((trained, False), (trained + 1, True)):
        cache = TempCache(48, reach_frames=reach)
        size = known.preset.width, known.preset.height
        said = out_of_distribution_warnings(known, settings(cache=cache), size)
        assert [f"trained to look back {trained}," in one for one in said] == [True] * warned
