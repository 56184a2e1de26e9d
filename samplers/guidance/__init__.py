"""History guidance: weighted sums of model evaluations (DFoT, arXiv 2502.06764).

The evaluations differ in their prompt and in the history that they see.
"""

from .normalized import NormalizedAttention, Push
from .presets import (
    cfg,
    extend,
    fractional,
    magi,
    skip_in_negative,
    stabilise,
    temporal,
    vanilla,
    without_layers,
)
from .prompt import OwnPrompt, Prompt
from .score import Score, WeightedScore
from .skipped_layers import SkippedLayers
from .terms import Branch, Guidance, GuidanceTiming, Limits, merge_branches
from .views import (
    ALL,
    DROP,
    NOISE,
    SINK,
    AgeRange,
    AllFrames,
    FrameSelection,
    NoFrames,
    SinkFrames,
    View,
    last,
    noisy,
)

__all__ = [
    "ALL",
    "AgeRange",
    "AllFrames",
    "Branch",
    "DROP",
    "Guidance",
    "Limits",
    "NOISE",
    "NoFrames",
    "NormalizedAttention",
    "OwnPrompt",
    "Prompt",
    "Push",
    "WeightedScore",
    "SINK",
    "Score",
    "FrameSelection",
    "SinkFrames",
    "SkippedLayers",
    "View",
    "GuidanceTiming",
    "cfg",
    "extend",
    "fractional",
    "last",
    "magi",
    "merge_branches",
    "noisy",
    "skip_in_negative",
    "stabilise",
    "temporal",
    "vanilla",
    "without_layers",
]
