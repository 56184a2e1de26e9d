"""The shot of the examples for community files: its prompts, size and length."""

from __future__ import annotations

SUBJECT = "a woman in a red raincoat walks through a neon-lit street in the rain, cinematic"
LATER = "a woman in a red raincoat walks through a snowy forest at dawn, cinematic"
WIDTH, HEIGHT, SECONDS = 832, 480, 10.0
