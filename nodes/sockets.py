"""The socket types that are our own. Their values: see the module named after each."""

from __future__ import annotations

from comfy_api.latest import io

Rollout = io.Custom("ROLLOUT")  # stream/rollout/rollout.py
Frames = io.Custom("FRAMES")  # stream/rollout/rollout.py
KVCache = io.Custom("KV_CACHE")  # nodes/asked_cache.py
Guidance = io.Custom("GUIDANCE")  # nodes/asked_guidance.py
KnownFrames = io.Custom("KNOWN_FRAMES")  # nodes/known_frames.py
Schedule = io.Custom("NOISE_SCHEDULE")  # nodes/asked_schedule.py
Timeline = io.Custom("PROMPT_TIMELINE")  # nodes/timeline.py

CATEGORY = "longtake"
