"""`longtake bench states`: a window, a state beside it, or a state alone?

window 21                 the demo as it is shipped
window 12                 the demo with a shorter memory
window 12 and a state     a window, and a gated delta state that holds what has left it
recurrent                 a convolutional recurrent network: all of the past in one state

The state and the recurrent network need weights of their own, trained by `train_dit --state delta`
and `train_recurrent`. Quality is that of the model's own shots; recall is the agreement of scenery
that returns after 16, 48 or 128 latent frames, in one chunk after a true history. Bytes are
planned; seconds a chunk are measured in turn, as ratios, after histories of three lengths.

    python -m longtake.benchmarks.states --delta FOLDER --recurrent FILE --record R --json F

measures all; a stopped run goes on from its record.
"""

from .suite import main

__all__ = ["main"]
