"""`longtake bench cascade`: a second stage behind the demo as one shot, and after the fact.

\b
base alone   the demo's own frames, which a screen enlarges
one shot     each chunk is enlarged when it is there
afterwards   the finished shot is enlarged as one batch

Quality on rendered and on generated frames; whole runs for the first small and the first large
frame, and for frames a second, taking turns; peaks of memory by the length of a shot.

    python -m longtake.benchmarks.cascade --stage flashvsr --chunks 4 --json out.json

also measures another stage, here FlashVSR with random weights. `suite.CascadePlan` holds the usual
amounts of work.
"""

from .suite import main

__all__ = ["main"]
