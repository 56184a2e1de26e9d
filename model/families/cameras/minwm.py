"""minWM: Wan 2.1 1.3B with a second attention by cameras, at each stage of its training."""

from __future__ import annotations

from dataclasses import replace

from ..family import APACHE, Family
from ..presets import AR_FRAMEWISE, BEFORE_DMD, FEW_STEP, PLAIN

SHAPE = "t2v-camera"
CODE = "shengshu-ai/minWM df522a2 Wan21/"
NOTE = "it takes a camera: connect a camera path"

# Its window of 20 latent frames includes the chunk.
FAST = replace(FEW_STEP, chunk_frames=4, window_frames=16, note=NOTE)
AR = replace(
    AR_FRAMEWISE, chunk_frames=4, window_frames=16,
    note=f"{NOTE}; the stage before distillation: it takes many steps",
)  # fmt: skip
WHOLE = replace(
    PLAIN, chunk_frames=20, guidance_scale=8.0,
    note=f"{NOTE}; not causal: it wants the full-sequence schedule, and long shots in windows",
)  # fmt: skip

MINWM = (
    Family(
        "minwm-cd", "minWM with a camera, consistency stage", SHAPE, APACHE,
        f"{CODE}configs/causal_cd_camera.yaml", replace(FAST, note=f"{NOTE}; {BEFORE_DMD}"),
        r"causal_cd",
    ),
    Family(
        "minwm-ode", "minWM with a camera, ODE stage", SHAPE, APACHE,
        f"{CODE}configs/causal_ode_camera.yaml", replace(FAST, note=f"{NOTE}; {BEFORE_DMD}"),
        r"causal_ode",
    ),
    Family(
        "minwm-ar", "minWM with a camera, diffusion stage", SHAPE, APACHE,
        f"{CODE}configs/ar_camera_tf.yaml; pipeline/causal_diffusion_inference.py", AR,
        r"ar_diffusion",
    ),
    Family(
        "minwm-bidirectional", "minWM with a camera, bidirectional", SHAPE, APACHE,
        f"{CODE}configs/bidirectional_camera.yaml", WHOLE, r"bidirectional", causal=False,
    ),
    Family(
        "minwm", "minWM with a camera", SHAPE, APACHE,
        f"{CODE}configs/causal_forcing_dmd_camera.yaml, wan_utils/camera_trajectory.py", FAST,
    ),
)  # fmt: skip
"""The rows of the table: the stages by their names, and the last one, DMD."""
