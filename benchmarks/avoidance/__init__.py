"""`longtake bench avoidance`: whether a negative prompt keeps things out of pictures, and the cost.

A prompt leaves out one of the demo's attributes, such as the time of day. What the fast demo then
shows most often by itself becomes the negative prompt. The same shot (prompt and seed) is made with
CFG and with NAG at several strengths. For each way: the share of pictures that still show what the
negative prompt names, right readings of the rest of the prompt, and evaluations of the model.

    python -m longtake.benchmarks.avoidance --shots 4 --workers 2 --json out.json

makes a part of them.
"""

from .suite import main

__all__ = ["main"]
