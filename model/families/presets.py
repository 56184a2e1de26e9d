"""Settings that several families share; the table's rows say what differs."""

from __future__ import annotations

from dataclasses import replace

from ..preset import EULER, RENOISE, UNIPC, Preset

FOUR = (1000.0, 750.0, 500.0, 250.0)
WAN_TEXT = 512
ANY_CHUNK = tuple(range(1, 9))  # all sizes that a schedule of chunks can have
BEFORE_DMD = "a stage before the last one, made to train others from: expect softer pictures"
ONE_OF_TWO = (
    "one of two models that take turns in every chunk: join both on the canvas, or half of the "
    "noise levels get the wrong one"
)

FEW_STEP = Preset(
    chunk_frames=3, steps=4, shift=5.0, guidance_scale=1.0, window_frames=18, sink_frames=0,
    context_noise=0.0, text_len=WAN_TEXT, fps=16.0, width=832, height=480,
    timesteps=FOUR, solver=RENOISE,
)  # fmt: skip
PLAIN = Preset(
    chunk_frames=21, steps=50, shift=5.0, guidance_scale=5.0, window_frames=0, sink_frames=0,
    context_noise=0.0, text_len=WAN_TEXT, fps=16.0, width=832, height=480, begins=999.0,
    solver=UNIPC, whole_timesteps=True,
    note="not causal: it wants the full-sequence schedule, and long shots in windows",
)  # fmt: skip
FRAMEWISE = replace(FEW_STEP, chunk_frames=1, window_frames=20)
SKYREELS = replace(
    PLAIN, chunk_frames=5, steps=30, shift=8.0, guidance_scale=6.0, window_frames=20,
    rebuilt=True, context_noise=0.02, fps=24.0, width=960, height=544, noisy_history=True,
    chunk_sizes=ANY_CHUNK,
    note="trained by Diffusion Forcing: any schedule fits; its authors take shift 5 and cfg 5 with "
    "a first picture",
)  # fmt: skip

AR_FRAMEWISE = replace(
    PLAIN, chunk_frames=1, guidance_scale=3.0, window_frames=20,
    note="the stage before distillation: it takes many steps, and its authors show it 81 frames",
)  # fmt: skip
STEP_DISTILL = replace(
    PLAIN, steps=4, guidance_scale=1.0, timesteps=FOUR, solver=EULER, begins=1000.0,
    whole_timesteps=False,
    note="bidirectional, not causal: Self-Forcing's loss trained it, but each frame sees the whole "
    "clip, so it has no KV cache; it makes one clip, and long shots in windows",
)  # fmt: skip
