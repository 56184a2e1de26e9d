"""Our own socket types; the comment names the module of each type's value."""

from __future__ import annotations

from comfy_api.latest import io

AudioEncoder = io.Custom("AUDIO_ENCODER")  # of the host: nodes/host/audio_encoder.py
CameraPath = io.Custom("CAMERA_PATH")  # nodes/steering/camera_spec.py
ControlVideo = io.Custom("CONTROL_VIDEO")  # nodes/steering/control_spec.py
Mask = io.Custom("MASK")  # the host's: a tensor (n, H, W)
FlashVSR = io.Custom("FLASHVSR")  # nodes/models/flashvsr/objects.py
Rollout = io.Custom("ROLLOUT")  # stream/rollout/rollout.py
Frames = io.Custom("FRAMES")  # stream/rollout/rollout.py
InterpolationModel = io.Custom("INTERP_MODEL")  # of the host: nodes/host/interpolation.py
KVCache = io.Custom("KV_CACHE")  # nodes/memory/cache_spec.py
Guidance = io.Custom("GUIDANCE")  # nodes/guidance/guidance_spec.py
KnownFrames = io.Custom("KNOWN_FRAMES")  # nodes/known/known_frames.py
Schedule = io.Custom("NOISE_SCHEDULE")  # nodes/sampling/schedule_spec.py
Timeline = io.Custom("PROMPT_TIMELINE")  # nodes/conditioning/timeline.py
