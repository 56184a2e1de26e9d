"""`longtake bench speed`: our engine and what a user would pick instead, paired in one run.

The same weights, noise, prompt and length go through each of these, at CFG 1 and three sizes. The
peers know no camera, so all of them run the demo's transformer without one:

Longtake            a rollout over a journal on disk, decoded as it comes
straight loop       Self-Forcing's published loop and forward over a KV cache, each chunk decoded
recompute           our transformer without a cache: every step passes over the whole past
diffusers           the same loop over diffusers' block-causal Wan transformer, if installed
ComfyUI's sampler   the core's own AR sampler in a real checkout, if COMFYUI_PATH names one

First the bench proves that all make the same latents. Then they take turns, round by round. Part
`breakdown` says where the time of our own runs goes.

    python -m longtake.benchmarks.speed --size 96x64 --only pace --rounds 5 --json out.json

makes a part of it.
"""

from .suite import main

__all__ = ["main"]
