"""`longtake bench growth`: what a chunk costs as the work grows.

length      a shot of 64 to 4,096 latent frames, its chunks beside those of a shot that has begun
shots       1 to 4 shots at once, which take turns chunk by chunk as on the canvas
branches    1 to 8 branches of guidance, each with a view of the past that has a cache of its own

Seconds are processor time on one thread, which other programs hardly change. Cases take turns. The
shots are the demo's at 48x32, with a window of 21 latent frames, three steps and a journal on disk.

    python -m longtake.benchmarks.growth --only shots --rounds 5 --json out.json --plot out.png

measures a part.
"""

from .suite import main

__all__ = ["main"]
