"""History guidance: weighted sums of model evaluations (DFoT, arXiv 2502.06764).

The evaluations differ in their prompt and in the history that they see.
"""

from .presets import cfg, extended, fractional, magi, stabilised, temporal, vanilla
from .prompt import OwnPrompt, Prompt
from .score import Score, WeightedScore
from .terms import Branch, Guidance, Limits, When, merged
from .views import ALL, DROP, NOISE, SINK, AgeRange, All, Nothing, Seen, Sink, View, last, noisy

__all__ = [
    "ALL",
    "AgeRange",
    "All",
    "Branch",
    "DROP",
    "Guidance",
    "Limits",
    "NOISE",
    "Nothing",
    "OwnPrompt",
    "Prompt",
    "WeightedScore",
    "SINK",
    "Score",
    "Seen",
    "Sink",
    "View",
    "When",
    "cfg",
    "extended",
    "fractional",
    "last",
    "magi",
    "merged",
    "noisy",
    "stabilised",
    "temporal",
    "vanilla",
]
