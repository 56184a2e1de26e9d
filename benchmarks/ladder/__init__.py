"""`longtake bench ladder`: how few steps may a chunk have?

Shots of the demo at 8 guided steps are the reference. The same prompts and seeds are made with
other numbers of steps, without guidance and, where `--student` names a folder with distilled
weights, by these. The measures are right readings, a prompt switch, the first chunk, the ball,
sharpness, scenery that returns, a camera that keys drive, drift over 2,000 latent frames, and the
distance to rendered truth. A rung holds where no share is worse than the reference by more than two
points, on the interval's bound.

    python -m longtake.benchmarks.ladder --student FOLDER --rung "student 2" --record FILE

makes a part of them; the same record continues. Times are paired, a chunk of each rung in turn.
"""

from .suite import main

__all__ = ["main"]
