"""Skip-layer guidance: against passes whose layers are undone, and against plain branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import CachePolicy, FullHistory, MostAttended, WindowSink
from longtake.attention.dense import WholeSequence
from longtake.attention.recall.window import RecallWindow
from longtake.attention.rope import rotation
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput, Unsupported
from longtake.model.dit import PassOptions, predict, project_text
from longtake.model.hooks import Hooks
from longtake.model.recurrent.config import RecurrentConfig
from longtake.samplers.branches import Branches
from longtake.samplers.current import CurrentSettings
from longtake.samplers.evaluator import Evaluator, PassInputs
from longtake.samplers.guidance import (
    DROP,
    Branch,
    Guidance,
    SkippedLayers,
    cfg,
    extend,
    skip_in_negative,
    vanilla,
    without_layers,
)
from longtake.samplers.loop import generate
from longtake.samplers.planning.cost import cost, describe_branches
from longtake.samplers.recurrent_rules import check_recurrent
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import rolling
from longtake.samplers.settings import TimedGuidance
from longtake.tests.support.samplers.brute_force import Guided, Terms, Way, rollout
from longtake.tests.support.samplers.guidance_cases import both, whole
from longtake.tests.support.samplers.guided_rollouts import (
    CLOSE,
    DIT,
    LENGTH,
    MODEL,
    PROMPTS,
    joined,
    of,
    ours,
)
from longtake.tests.support.stream.rollouts import cut_after
from longtake.tests.support.stream.rollouts import rollout as journalled
from longtake.tests.support.tiny_model import CHUNKS, TINY, embedding, randn, random_dit, settings

FIRST, LAST = SkippedLayers((0,)), SkippedLayers((1,))
STEPS = CHUNKS.ladder[:-1]
LADDER = flow_ladder(3, 2.0)


def skipping(weight: float, layers: Sequence[int], **other: Any) -> Terms:
    return whole(weight, skipped=layers, **other)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_pass_without_a_layer_is_that_of_a_model_without_it(layer: int) -> None:
    """No history, so that the model without the layer sees the same."""
    config = replace(TINY, num_layers=3)
    x, t = randn(1, 3, 4, 4, 6, seed=3), torch.tensor([[900.0, 500.0, 20.0]])
    dit, shorter = random_dit(config), random_dit(config)
    del shorter.blocks[layer]
    at = rotation(range(3), 2, 3, TINY.head_dim)
    text = embedding(4)[None, None]
    calls = list[int]()

    def after(index: int, tokens: Tensor) -> Tensor:
        calls.append(index)
        return tokens

    options = PassOptions(skipped=(layer,), hooks=Hooks(after_block=(after,)))
    ours = predict(dit, x, t, project_text(dit, text), WholeSequence(at), options).velocity
    expected = predict(shorter, x, t, project_text(shorter, text), WholeSequence(at)).velocity
    assert torch.equal(ours, expected)
    assert calls == [0, 1, 2], "a control module's hints are computed one after another"


@pytest.mark.parametrize("skipped", [FIRST, LAST], ids=str)
@pytest.mark.parametrize(
    ("guidance", "terms"),
    [
        (lambda s: without_layers(0.7, s), lambda s: both(whole(1.7), skipping(-0.7, s))),
        (lambda s: extend(cfg(2.0), without_layers(1.5, s)),
         lambda s: both(whole(3.5), whole(-1.0, negative=True, history_negative=True),
                        skipping(-1.5, s))),
        (lambda s: skip_in_negative(cfg(2.0), s),
         lambda s: both(whole(2.0), skipping(-1.0, s, negative=True, history_negative=True))),
    ],
    ids=["alone", "beside cfg", "in the negative prompt's pass"],
)  # fmt: skip
def test_shots_equal_the_sum_without_a_cache(guidance: Any, terms: Any,
                                             skipped: SkippedLayers) -> None:  # fmt: skip
    """The history passes through all layers: nothing that was committed is another."""
    made = ours(guidance(skipped))
    expected = rollout(DIT, PROMPTS, Way(CHUNKS.ladder), Guided(terms(skipped.layers)), LENGTH)
    torch.testing.assert_close(made, expected, **CLOSE)
    apart = replace(guidance(skipped), in_one_pass=False)
    torch.testing.assert_close(ours(apart), expected, **CLOSE)


@pytest.mark.parametrize("interval", [(0.0, 0.8), (0.7, 1.0), (0.6, 0.9)])
def test_layers_are_left_out_between_two_noise_levels(interval: tuple[float, float]) -> None:
    """The latent frames of a rolling row are of several levels, and so is each one's strength."""
    skipped = SkippedLayers((1,), interval)
    terms, schedule = both(whole(2.0), skipping(-1.0, (1,))), rolling(LADDER, 1)
    inside = [skipped.acts_at(level) for level in LADDER[:-1]]
    assert any(inside) and not all(inside)
    way = Way(LADDER, 1, lag=1)
    guided = Guided(terms, whole(1.0), lambda level, step, started: float(skipped.acts_at(level)))
    expected = rollout(DIT, PROMPTS, way, guided, LENGTH)
    made = ours(without_layers(1.0, skipped), schedule=schedule)
    torch.testing.assert_close(made, expected, **CLOSE)


def test_both_ends_of_the_levels_are_inside() -> None:
    skipped = SkippedLayers((1,), (0.2, 0.8))
    acts = [skipped.acts_at(level) for level in (0.1, 0.2, 0.5, 0.8, 0.9)]
    assert acts == [False, True, True, True, False]


def test_outside_its_levels_the_negative_prompts_pass_has_all_layers() -> None:
    never = SkippedLayers((1,), (0.0, 0.0))
    assert torch.equal(ours(skip_in_negative(cfg(2.0), never)), ours(cfg(2.0)))
    assert torch.equal(ours(without_layers(3.0, never)), ours(Guidance()))
    always = ours(skip_in_negative(cfg(2.0), LAST))
    assert not torch.allclose(always, ours(cfg(2.0)), atol=1e-2)


@pytest.mark.parametrize(
    ("guidance", "evaluations"),
    [
        (without_layers(1.0, LAST), [2] * len(STEPS)),
        (skip_in_negative(cfg(2.0), LAST), [2] * len(STEPS)),
        (extend(cfg(2.0), without_layers(1.0, LAST)), [3] * len(STEPS)),
        (without_layers(1.0, SkippedLayers((1,), (0.9, 1.0))), [2, *[1] * (len(STEPS) - 1)]),
        (without_layers(0.0, LAST), [1] * len(STEPS)),
    ],
    ids=["alone", "negative", "beside cfg", "first step", "off"],
)
def test_evaluations_are_those_of_the_plan(guidance: Guidance, evaluations: list[int]) -> None:
    """Where the layers are not left out, both branches are one."""
    chosen = of(guidance, length=LENGTH)
    chunk = [*generate(chosen, MODEL)][-1]
    planned = cost(chosen, TINY, torch.float32)
    assert planned.steps == sum(evaluations)
    assert chunk.model_evals == planned.evaluations


def test_its_strength_is_that_of_the_guidance() -> None:
    pushed = without_layers(1.0, LAST)
    assert torch.equal(ours(pushed.scale_by(0.0)), ours(Guidance()))
    half = ours(pushed.scale_by(0.5))
    torch.testing.assert_close(half, ours(without_layers(0.5, LAST)), **CLOSE)


def test_branches_that_skip_the_same_layers_share_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[object]] = []
    evaluate = Evaluator.evaluate

    def noting(self: Evaluator, inputs: PassInputs, *args: Any, **options: Any) -> Any:
        batches.append([inputs.skipped, *inputs.prompts])
        return evaluate(self, inputs, *args, **options)

    monkeypatch.setattr(Evaluator, "evaluate", noting)
    both_skip = skip_in_negative(extend(cfg(2.0), without_layers(1.0, LAST)), LAST)
    plain = extend(both_skip, Guidance((Branch(2.0), Branch(-1.0, "negative"))))
    ours(plain, length=3)
    assert batches == [[(), "positive", "negative"], [(1,), "positive", "negative"]] * len(STEPS)


@pytest.mark.parametrize(
    "cache",
    [WindowSink(6, 1), MostAttended(6, 1), MostAttended(6, 1, per_head=True), TetherCache(6, 1),
     DummyHeads(6, 1), TempCache(6, sink_frames=1), RecallWindow(6, 1, 3, by="content")],
    ids=lambda cache: type(cache).__name__,
)  # fmt: skip
@pytest.mark.parametrize("skipped", [FIRST, LAST], ids=str)
def test_what_a_cache_learns_of_steps_is_not_lost(
    cache: CachePolicy, skipped: SkippedLayers
) -> None:
    """A cache that judges its frames by attention goes on to do so, and the shot resumes alike."""
    made = {"guidance": extend(cfg(1.5), without_layers(0.5, skipped)), "cache": cache}
    whole_shot = [*generate(of(**made, length=18), MODEL)]
    assert torch.isfinite(joined(whole_shot)).all()
    again = [*generate(of(**made, length=18), MODEL, whole_shot[:3])]
    assert torch.equal(joined(again), joined(whole_shot[3:]))


def test_guidance_of_layers_is_told_in_words() -> None:
    skipped = SkippedLayers((1, 3, 9), (0.0, 0.95))
    said = describe_branches(extend(cfg(3.0), without_layers(2.0, skipped)))
    assert said.endswith("-2 x all, without layers 1, 3 and 9 up to noise 0.95.")
    assert str(SkippedLayers((4,), (0.1, 1.0))) == "without layer 4 from noise 0.1"
    assert str(SkippedLayers(())) == "in a pass of its own"


@pytest.mark.parametrize(
    ("layers", "interval"),
    [((2, 1), (0, 1)), ((1, 1), (0, 1)), ((-1,), (0, 1)), ((1,), (0.5, 0.2)), ((1,), (0, 1.5))],
)
def test_layers_out_of_order_and_levels_out_of_range_are_refused(
    layers: tuple[int, ...], interval: tuple[float, float]
) -> None:
    with pytest.raises(BadInput):
        SkippedLayers(layers, interval)


@pytest.mark.parametrize(("layers", "said"), [((1, 2), "2 layers, 0 to 1"), ((0, 1), "all 2")])
def test_layers_that_the_model_lacks_and_all_of_them_are_refused(
    layers: tuple[int, ...], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        next(generate(of(without_layers(1.0, SkippedLayers(layers))), MODEL))


def test_a_later_guidance_is_checked_before_the_first_chunk() -> None:
    later = TimedGuidance(6, without_layers(1.0, SkippedLayers((7,))))
    with pytest.raises(BadInput, match="leaves out layer 7"):
        next(generate(of(cfg(2.0), guidance_changes=(later,)), MODEL))


def test_without_a_negative_branch_no_pass_can_leave_out_layers() -> None:
    for guidance in (Guidance(), vanilla(1.5, DROP), cfg(0.5)):
        with pytest.raises(BadInput, match="negative prompt"):
            skip_in_negative(guidance, LAST)


@pytest.mark.parametrize("again", [FIRST, LAST], ids=str)
def test_the_negative_prompts_pass_leaves_out_layers_once(again: SkippedLayers) -> None:
    """A second node would take the place of the first, and no one would learn of it."""
    once = skip_in_negative(cfg(2.0), LAST)
    with pytest.raises(BadInput, match="name all layers together"):
        skip_in_negative(once, again)
    assert skip_in_negative(extend(cfg(2.0), without_layers(1.0, LAST)), again).text_scale == 2


def test_a_recurrent_model_has_no_such_layers() -> None:
    config = RecurrentConfig(dim=6, num_layers=2, text_dim=5)
    with pytest.raises(Unsupported, match="leave out skip-layer guidance"):
        check_recurrent(settings(guidance=without_layers(1.0, LAST), cache=FullHistory()), config)


def test_a_shot_resumes_with_the_same_bits(tmp_path: Path) -> None:
    guidance = without_layers(1.0, SkippedLayers((0,), (0.1, 0.9)))
    made = journalled(tmp_path / "a", guidance=guidance).chunks
    whole_shot = torch.cat([chunk.latents for chunk in made])
    cut_after(journalled(tmp_path / "b", guidance=guidance), 1)
    again = journalled(tmp_path / "b", guidance=guidance).chunks
    assert torch.equal(torch.cat([chunk.latents for chunk in again]), whole_shot)


def test_a_run_that_began_with_all_layers_goes_on_with_them() -> None:
    made = settings(guidance=cfg(2.0))
    branches = Branches(CurrentSettings(made), MODEL)
    with pytest.raises(BadInput, match="not other branches or prompts"):
        branches.use(replace(made, guidance=skip_in_negative(cfg(2.0), LAST)), 3)


def test_chunks_and_plans_without_it_are_others() -> None:
    skipping_one, other = (skip_in_negative(cfg(2.0), layers) for layers in (LAST, FIRST))
    assert len({guidance.inputs for guidance in (skipping_one, other, cfg(2.0))}) == 3
    assert len({guidance.work for guidance in (skipping_one, other, cfg(2.0))}) == 3
