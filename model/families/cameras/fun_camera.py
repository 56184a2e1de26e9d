"""Fun-Camera: Wan image to video with a camera, bidirectional."""

from __future__ import annotations

from dataclasses import replace

from ...preset import EULER
from ..family import APACHE, Family
from ..presets import ONE_OF_TWO, PLAIN

NOTE = (
    "it takes a camera: connect a start picture and a camera path; not causal: it wants the "
    "full-sequence schedule, and long shots in windows"
)
CODE = "aigc-apps/VideoX-Fun examples/"

FIRST = replace(
    PLAIN, shift=3.0, guidance_scale=6.0, begins=1000.0, solver=EULER, whole_timesteps=False,
    note=NOTE,
)  # fmt: skip
SECOND = replace(FIRST, shift=5.0, boundary=0.9, note=f"{NOTE}; {ONE_OF_TWO}")

FUN_CAMERA = (
    Family(
        "wan21-fun-camera", "Wan 2.1 Fun-Camera", "i2v-fun-camera", APACHE,
        f"{CODE}wan2.1_fun/predict_v2v_control_camera.py 27866a8", FIRST, causal=False,
    ),
    Family(
        "wan22-fun-camera", "Wan 2.2 Fun-Camera A14B", "i2v-fun-camera-2", APACHE,
        f"{CODE}wan2.2_fun/predict_v2v_control_camera.py 28e60b1", SECOND, causal=False,
    ),
)  # fmt: skip
"""The rows of the table."""
