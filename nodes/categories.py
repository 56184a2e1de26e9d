"""The folders of ComfyUI's node menu in which the nodes stand, in the order of a workflow."""

from __future__ import annotations

ROOT = "Longtake"
LOAD = "Longtake/Load"
PROMPT = "Longtake/Prompt"
SAMPLE = "Longtake/Sample"
GUIDE = "Longtake/Guide"
ROLLOUT = "Longtake/Rollout"
FRAMES = "Longtake/Frames"
SAVE = "Longtake/Save"
ALL = (LOAD, PROMPT, SAMPLE, GUIDE, ROLLOUT, FRAMES, SAVE, ROOT)
