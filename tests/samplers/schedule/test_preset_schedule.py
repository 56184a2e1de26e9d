"""Every family's preset as the sampler runs it, against the published figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.attention.cache.placed_windows import WaveWindow
from longtake.attention.cache.policy import FullHistory, MemoryBank, WindowSink
from longtake.model.families.table import BY_KEY, FAMILIES
from longtake.model.preset import DEMO
from longtake.model.preset_cache import preset_cache
from longtake.samplers.schedule.options import ScheduleOptions, preset_schedule, preset_solver

PUBLISHED = [  # levels of a chunk, chunk, window, sink: models.md of each repository
    ("self-forcing", (1, 0.9375, 0.83333, 0.625, 0), 3, 18, 0),
    ("causvid", (1, 0.75676, 0.52174, 0), 3, 18, 0),
    ("krea-realtime", (1, 0.9375, 0.83333, 0.625, 0.00498, 0), 3, 3, 0),
    ("longlive", (1, 0.9375, 0.83333, 0.625, 0), 3, 9, 3),
    ("longlive2", (0.9998, 0.93727, 0.83306, 0.62469, 0), 8, 24, 8),
    ("reward-forcing", (1, 0.9375, 0.83333, 0.625, 0), 3, 6, 3),
    ("causal-forcing-framewise", (1, 0.9375, 0.83333, 0.625, 0), 1, 20, 0),
]


def test_the_demo_takes_more_steps_where_it_has_no_past() -> None:
    schedule = preset_schedule(DEMO)
    assert (len(schedule.first_ladder) - 1, len(schedule.ladder) - 1) == (8, 3)
    assert preset_schedule(replace(DEMO, steps=9)).first_ladder == ()


@pytest.mark.parametrize(("key", "levels", "chunk", "window", "sink"), PUBLISHED)
def test_published_levels_window_and_sink(
    key: str, levels: tuple[float, ...], chunk: int, window: int, sink: int
) -> None:
    preset = BY_KEY[key].preset
    schedule = preset_schedule(preset)
    assert schedule.ladder == pytest.approx(levels, abs=1e-5) and schedule.chunk_frames == chunk
    cache = preset_cache(preset)
    assert isinstance(cache, WindowSink)
    assert (cache.window_frames, cache.sink_frames) == (window, sink)


def test_memflow_has_a_bank_of_three_of_every_third_chunk() -> None:
    """configs/interactive_inference.yaml: bank_size, record_interval."""
    assert preset_cache(BY_KEY["memflow"].preset) == MemoryBank(9, 3, bank_frames=3, every=3)


@pytest.mark.parametrize("key", ["causvid", "krea-realtime", "streamdiffusionv2"])
def test_a_final_list_is_told_as_it_is_at_the_tables_nearest_noise(key: str) -> None:
    """Timestep 0 has noise too: the table's last entry."""
    preset = BY_KEY[key].preset
    told = preset_solver(preset).process.timestep
    levels = preset_schedule(preset).ladder
    assert tuple(told(level) for level in levels[:-1]) == preset.timesteps
    assert told(0.0) == 0 and told(0.25) == 250
    assert max(abs(1000 * s - t) for s, t in zip(levels, preset.timesteps, strict=False)) < 5


def test_even_steps_of_wans_own_solver_begin_at_999() -> None:
    """wan/utils/fm_solvers_unipc.py; with shift 5, .9998 of noise."""
    assert preset_schedule(BY_KEY["wan21-t2v"].preset).ladder[0] == pytest.approx(0.9998, abs=1e-6)
    assert preset_schedule(DEMO).ladder[0] == 1


def test_few_step_models_open_with_four_steps() -> None:
    schedule = preset_schedule(BY_KEY["causal-forcing-1step"].preset)
    assert (len(schedule.ladder), len(schedule.first_ladder)) == (2, 5)


def test_rolling_forcing_denoises_five_chunks_together() -> None:
    schedule = preset_schedule(BY_KEY["rolling-forcing"].preset)
    assert schedule.active_frames(None) == 15


def test_wave_forcings_chunks_see_no_noisier_ones() -> None:
    """--kv-context causal of its published command; another attention can still be chosen."""
    preset = BY_KEY["wave-forcing"].preset
    schedule = preset_schedule(preset)
    assert schedule.active_frames(None) == 15
    assert schedule.visible(range(3, 12)) == (3, 3, 3, 6, 6, 6, 9, 9, 9)
    assert preset_cache(preset) == WaveWindow(24, 3)
    chosen = ScheduleOptions(attention="bidirectional").schedule(preset)
    assert chosen.visible(range(3, 12)) == (9,) * 9
    assert ScheduleOptions(kind="causal chunks").schedule(preset).visibility == "bidirectional"


def test_plain_models_take_the_whole_sequence_and_all_of_the_past() -> None:
    preset = BY_KEY["wan21-t2v"].preset
    assert preset_schedule(preset).active_frames(21) == 21
    assert preset_cache(preset) == FullHistory()


def test_every_row_can_be_run() -> None:
    for row in FAMILIES:
        assert preset_schedule(row.preset).ladder[-1] == 0
        preset_solver(row.preset)
