"""AnyFlow: Wan 2.1 as flow maps, which make a step of any length, so any number of them."""

from __future__ import annotations

from dataclasses import replace

from ..preset import EULER
from .family import Family
from .presets import FEW_STEP, PLAIN

FLOW_MAPS = FAR_SHAPE, WHOLE_SHAPE = "t2v-far", "t2v-flow-map"
LICENCE = 'its model card (NVIDIA) says "other": read it; its code is Apache-2.0'
CODE = "NVlabs/AnyFlow 549236a options/test/anyflow; diffusers 0.42"
NOTE = "any number of steps: more give better pictures"

ANYFLOW = (
    Family(
        "anyflow-far", "AnyFlow FAR", FAR_SHAPE, LICENCE, f"{CODE} pipeline_anyflow_far.py",
        replace(FEW_STEP, timesteps=(), solver=EULER, first_frames=1, window_frames=19,
                sink_frames=1, fine_frames=6, note=NOTE),
    ),
    Family(
        "anyflow", "AnyFlow, all frames at once", WHOLE_SHAPE, LICENCE,
        f"{CODE} pipeline_anyflow.py",
        replace(PLAIN, steps=4, guidance_scale=1.0, solver=EULER, begins=1000.0,
                whole_timesteps=False,
                note=f"{NOTE}; not causal: it wants the full-sequence schedule, and long shots in "
                "windows"),
        causal=False,
    ),
)  # fmt: skip
"""The rows of the table. The models of 1.3B and of 14B have the same settings.

FAR was trained on 21 latent frames in chunks of 1, 3, 3, 3, 3, 3, 3 and 2, of which the last sees
the 19 before it. The sink keeps a first chunk of one latent frame in shots that are longer.
"""
