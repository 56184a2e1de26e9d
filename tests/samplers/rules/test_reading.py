"""Memory rules: each equals a loop over plain lists, and changes nothing at its neutral value."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention import weights
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.placed_windows import DistantSink, SharedWindow
from longtake.attention.cache.policy import CachePolicy, MostAttended, RebuiltWindow, WindowSink
from longtake.attention.layout import AttentionInputs, attend_inputs
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import SINK, Guidance, cfg, vanilla
from longtake.samplers.loop import generate
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import (
    FarReading,
    FramePlace,
    NewestFrames,
    PastWeight,
    ReadingMoment,
    RecencyBias,
)
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks, pipeline, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.ruled_loop import Rules, ruled_loop
from longtake.tests.support.tiny_model import TINY, random_dit, settings, timeline

LADDER, LENGTH = flow_ladder(3, 3.0), 17
DIT = random_dit()
WINDOW = WindowSink(8, 2)
DENSE_BLOCKS = Sparsity(SparseSelf(1.0, 0.0, (), 0.0, min_keys=0))


def shot(memory: MemoryRules = MemoryRules(), **changes: Any) -> RolloutSettings:  # noqa: B008
    chosen = {"prompts": timeline(0, 6), "cache": WINDOW, "memory": memory, **changes}
    return settings(causal_chunks(LADDER, 3), LENGTH, **chosen)


def shot_of(
    steps: int,
    memory: MemoryRules = MemoryRules(),  # noqa: B008
    **changes: Any,
) -> RolloutSettings:
    chosen = shot(memory, **changes)
    return dataclasses.replace(chosen, schedule=causal_chunks(flow_ladder(steps, 3.0), 3))


def latents(chosen: RolloutSettings) -> Tensor:
    chunks = generate(chosen, local_denoiser(DIT, TINY))
    return torch.cat([chunk.latents for chunk in chunks])


def naive(**rules: Any) -> Tensor:
    return ruled_loop(DIT, timeline(0, 6), [*LADDER], Rules(8, 2, **rules), LENGTH)


@pytest.mark.each_value
@pytest.mark.parametrize("frames", [None, 0, 2, 4, 6])
@pytest.mark.parametrize("sparsity", [Sparsity(), DENSE_BLOCKS], ids=["dense", "blocks"])
def test_a_commit_sees_only_the_newest_frames(frames: int | None, sparsity: Sparsity) -> None:
    rule = None if frames is None else NewestFrames(frames)
    video = latents(shot(MemoryRules(commit=rule), sparsity=sparsity))
    torch.testing.assert_close(video, naive(commit_sees=frames), rtol=1e-4, atol=1e-4)
    assert frames is None or not torch.allclose(video, naive(), atol=1e-2)


def test_a_commit_without_a_sink_that_sees_the_window_sees_everything() -> None:
    cache = WindowSink(6)
    everything = latents(shot(cache=cache))
    ruled = latents(shot(MemoryRules(commit=NewestFrames(6)), cache=cache))
    assert torch.equal(ruled, everything)


def test_a_commit_may_see_all_but_the_sink() -> None:
    video = latents(shot(MemoryRules(commit=NewestFrames())))
    assert torch.equal(video, latents(shot(MemoryRules(commit=NewestFrames(LENGTH)))))
    assert not torch.allclose(video, latents(shot()), atol=1e-3)


def test_a_rebuilt_window_commits_under_the_rule_too() -> None:
    """Each chunk alone: the keys remember nothing, so a rebuild gives the same ones."""
    rules = MemoryRules(commit=NewestFrames(0))
    chosen = shot(rules, prompts=timeline(0), cache=WindowSink(9, 3))
    rebuilt = dataclasses.replace(chosen, cache=RebuiltWindow(9, 3))
    torch.testing.assert_close(latents(rebuilt), latents(chosen), rtol=1e-4, atol=1e-4)


@pytest.mark.each_value
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("sparsity", [Sparsity(), DENSE_BLOCKS], ids=["dense", "blocks"])
def test_a_recency_bias_weighs_older_chunks_less(steps: int, sparsity: Sparsity) -> None:
    ladder, long = flow_ladder(steps, 3.0), WindowSink(16, 2)
    video = latents(
        shot_of(steps, MemoryRules(recency=RecencyBias()), cache=long, sparsity=sparsity)
    )
    expected, plain = (
        ruled_loop(DIT, timeline(0, 6), [*ladder], Rules(16, 2, recency=depth), LENGTH)
        for depth in (4.0, 0.0)
    )
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(video, plain, atol=1e-2)


def test_the_published_biases() -> None:
    """-4 dt^gamma: 0 for the sink and the newest chunk, -4 from the fifth chunk on."""

    def bias(chunk: int, step: int, *, in_sink: bool = False) -> float:
        place = FramePlace(3 * chunk, in_sink, layer=0, layers=1)
        return RecencyBias().log_weight(place, ReadingMoment(3, step, 4))

    assert [bias(1, step) for step in range(4)] == [0] * 4
    assert [bias(5, step) for step in range(4)] == [bias(9, 0)] * 4 == [-4] * 4
    assert [bias(9, step, in_sink=True) for step in range(4)] == [0] * 4
    expected = [-4 * 0.5 ** (0.1 * 2**t) for t in (1, 2, 3, 4)]
    assert [bias(3, step) for step in range(4)] == pytest.approx(expected)


def test_a_single_frame_ahead_of_the_newest_chunk_counts_as_the_second() -> None:
    """Chunks of one frame: the newest frame is not biased, the three before it are one chunk."""
    moment = ReadingMoment(1, 0, 4)
    ages = [RecencyBias().log_weight(FramePlace(age, False, 0, 1), moment) for age in range(1, 7)]
    assert ages[0] == 0 > ages[1] == ages[2] == ages[3] > ages[4] == ages[5]


def test_a_joint_window_counts_distances_from_each_chunk() -> None:
    """What the newest chunk of the history is to the first active one is two away for the next."""
    ladder = flow_ladder(3, 3.0)
    seen = dict[tuple[int, int], float]()

    @dataclasses.dataclass(frozen=True)
    class Note(RecencyBias):
        def log_weight(self, place: FramePlace, moment: ReadingMoment) -> float:
            seen[place.age, moment.step] = super().log_weight(place, moment)
            return seen[place.age, moment.step]

    chosen = shot(MemoryRules(recency=Note()), cache=WindowSink(3))
    latents(dataclasses.replace(chosen, schedule=rolling(ladder)))
    ages_by_step = [sorted({age for age, step in seen if step == i}) for i in range(3)]
    assert ages_by_step[2] == [1, 2, 3]
    assert set(ages_by_step[1]) >= {4, 5, 6} and set(ages_by_step[0]) >= {7, 8, 9}


@pytest.mark.each_value
@pytest.mark.parametrize("last_steps", [0, 1, 3])
@pytest.mark.parametrize(("share", "layers"), [(1 / 3, (1,)), (0.5, (1,)), (1.0, (0, 1))])
def test_the_far_past_is_read_in_the_last_steps_and_layers(
    last_steps: int, share: float, layers: tuple[int, ...]
) -> None:
    far = FarReading(3, last_steps, share)
    video = latents(shot(MemoryRules(far=far)))
    expected = naive(near=3, far_steps=last_steps, far_layers=layers)
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-4)
    everywhere = last_steps == 3 and share == 1.0
    assert torch.equal(video, latents(shot())) == everywhere


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_layers_that_read_far_are_counted_as_in_whole_numbers(stride: int) -> None:
    """.28 of 25 layers are 7, which floating point takes for a little more."""
    for percent in range(1, 101):
        reading = FarReading(6, last_layers=percent / 100, layer_stride=stride)
        for layers in (1, 5, 25, 30, 40):
            last = -(-percent * layers // 100)
            assert [*reading.reading_layers(layers)] == [*range(layers)][::-1][:last:stride]


def test_a_near_past_as_long_as_the_window_reads_everything() -> None:
    assert torch.equal(latents(shot(MemoryRules(far=FarReading(8, 0)))), latents(shot()))


def test_passes_over_the_near_past_compute_on_it_alone() -> None:
    """Keys that are not read are left out, not hidden: only the last pass has them all."""
    keys = list[int]()

    def count(inputs: AttentionInputs) -> Tensor:
        keys.append(inputs.keys.shape[2])
        return attend_inputs(inputs)

    chosen = shot(MemoryRules(far=FarReading(3, 1, 0.5)), cache=WindowSink(12, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "attend_inputs", count)
        latents(chosen)
    frames = [number // 6 for number in keys[-6:]]  # 6 tokens a frame; the last chunk has 2 frames
    assert frames == [2 + 3 + 2] * 5 + [12 + 2]


def test_the_published_places_where_the_far_past_is_read() -> None:
    """The last of 4 steps and layers 20 to 29 of 30; everywhere for the sink and the near past."""
    far = FarReading(6)
    read = [
        (step, layer)
        for step in range(4)
        for layer in range(30)
        if far.log_weight(FramePlace(7, False, layer, 30), ReadingMoment(3, step, 4)) == 0
    ]
    assert read == [(3, layer) for layer in range(20, 30)]
    for place in (FramePlace(6, False, 0, 30), FramePlace(99, True, 0, 30)):
        assert far.log_weight(place, ReadingMoment(3, 0, 4)) == 0


@pytest.mark.parametrize("values", [(0, 1, 0.5), (1, -1, 0.5), (1, 1, 0.0), (1, 1, 1.5)])
def test_a_far_past_that_cannot_be_read_so_is_refused(values: tuple[int, int, float]) -> None:
    with pytest.raises(BadInput, match="past"):
        FarReading(*values)


ALL_RULES = MemoryRules(NewestFrames(4), RecencyBias(2.0), PastWeight(0.3), FarReading(5, 1, 0.5))
WHOLE_HISTORIES = [
    WindowSink(LENGTH, 2),
    TempCache(LENGTH, 1.01, 0.0, 2),
    MostAttended(LENGTH, 2),
    MostAttended(LENGTH, 2, per_head=True),
    TetherCache(LENGTH, 2),
    DistantSink(LENGTH, 2),
    SharedWindow(LENGTH + 3, 2),
]


@pytest.mark.each_value
@pytest.mark.parametrize("cache", WHOLE_HISTORIES, ids=str)
@pytest.mark.parametrize("sparsity", [Sparsity(), DENSE_BLOCKS], ids=["dense", "blocks"])
def test_all_rules_hold_of_every_way_to_keep_a_history(
    cache: CachePolicy, sparsity: Sparsity
) -> None:
    rules = Rules(LENGTH, 2, 4, 2.0, (0.3, 1), 6, 5, 1, (1,))
    expected = ruled_loop(DIT, timeline(0, 6), [*LADDER], rules, LENGTH)
    video = latents(shot(ALL_RULES, cache=cache, sparsity=sparsity))
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance", [vanilla(1.5, SINK), cfg(2.0)], ids=["views", "prompts"])
def test_branches_in_one_pass_read_as_they_do_alone(guidance: Guidance) -> None:
    together = latents(shot(ALL_RULES, guidance=guidance))
    alone = dataclasses.replace(guidance, in_one_pass=False)
    torch.testing.assert_close(latents(shot(ALL_RULES, guidance=alone)), together)


@pytest.mark.each_value
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("chunks", [1, 2])
def test_the_past_weighs_otherwise_after_a_change_of_prompt(weight: float, chunks: int) -> None:
    video = latents(shot(MemoryRules(past=PastWeight(weight, chunks))))
    expected = naive(past=(weight, chunks), change=6)
    torch.testing.assert_close(video, expected, rtol=1e-4, atol=1e-4)
    plain = latents(shot())
    assert torch.equal(video[:6], plain[:6])
    assert torch.equal(video, plain) == (weight == 1)
    assert not torch.allclose(video[6:9], plain[6:9], atol=1e-3) or weight == 1


def test_the_past_is_weighed_once_after_each_change() -> None:
    """Under a timeline of three prompts, in the first chunk of the second and of the third."""
    rules = MemoryRules(past=PastWeight(0.5))
    moments = dict[int, float]()
    for since in (None, 0, 3, 6):
        place = FramePlace(7, False, 0, 1)
        moments[-1 if since is None else since] = sum(
            rule.log_weight(place, ReadingMoment(3, 0, 3, since)) for rule in rules.of_denoising
        )
    assert moments == {-1: 0, 0: pytest.approx(-0.6931472), 3: 0, 6: 0}
    three = timeline(0, 6, 12)
    assert three.entries and [
        settings(prompts=three, length=18).active_prompts(f, f + 1).frames_since_change(f)
        for f in range(0, 18, 3)
    ] == [None, None, 0, 3, 0, 3]


@pytest.mark.parametrize(("weight", "chunks"), [(-0.1, 1), (1.0, 0), (1.0, 65)])
def test_a_past_that_cannot_be_weighed_is_refused(weight: float, chunks: int) -> None:
    with pytest.raises(BadInput, match="(?i)the past"):
        PastWeight(weight, chunks)


def test_a_recency_bias_has_a_depth() -> None:
    with pytest.raises(BadInput, match="above 0"):
        RecencyBias(0.0)


def test_a_schedule_that_bounds_the_reach_has_no_rules_on_reading() -> None:
    bounded = dataclasses.replace(pipeline(LADDER, 3, 2), reach=(2, 1))
    with pytest.raises(BadInput, match="The schedule bounds how far back"):
        dataclasses.replace(shot(MemoryRules(recency=RecencyBias())), schedule=bounded)
    dataclasses.replace(shot(MemoryRules(commit=NewestFrames(0))), schedule=bounded)


def test_a_commit_cannot_see_fewer_than_no_frames() -> None:
    with pytest.raises(BadInput, match="0 latent frames or more"):
        NewestFrames(-1)
