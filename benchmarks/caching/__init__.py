"""`longtake bench caching`: feature caching against all steps, and against fewer steps.

Shots of the demo at 20 and at 50 steps are the references. The same shots (prompts and seeds) are
made with feature caching at several thresholds, and plainly with fewer steps. Each is compared with
its reference: evaluations, time, likeness of the pictures, and right readings of the prompt.

    python -m longtake.benchmarks.caching --shots 2 --steps 20 --json out.json

makes a part of them.
"""

from .suite import main

__all__ = ["main"]
