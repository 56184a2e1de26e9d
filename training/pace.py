"""The camera's pace as a loss of its own: how much of each frame's movement a prediction lacks.

A camera that is a little slow changes every cell a little. A mean over cells hardly counts that,
but a rollout adds it up from frame to frame. So an error is compared with the movement itself: with
the truth's change from the frame before. Their projection is the share of a latent frame by which
all of the scenery lags behind.
"""

from __future__ import annotations

from torch import Tensor

from .batches import Batch

PACE_WEIGHT = 1.0
"""The weight of the squared lag beside the mean squared error of the velocity."""


def pace_loss(error: Tensor, batch: Batch) -> Tensor:
    """The mean squared lag of the denoised frames, for an `error` of the velocity (b, m, c, h, w).

    A frame counts by the square of its pan, and only where the frame before is denoised too. Cells
    with the ball or with scenery that enters do not count: they do not follow from that frame.
    """
    context = batch.x.shape[1] - len(batch.copied)
    level = batch.levels[:, context:, None, None, None]
    truth = batch.x[:, context:] - level * batch.target
    pairs = [i for i in range(1, len(batch.copied)) if batch.copied[i] == batch.copied[i - 1] + 1]
    if not pairs:
        return error.new_zeros(())
    usual = (batch.weight == batch.weight.min())[:, pairs, None]
    moved = (truth[:, pairs] - truth[:, [i - 1 for i in pairs]]) * usual
    lacks = (level * error)[:, pairs]
    lag = (lacks * moved).sum((2, 3, 4)) / moved.square().sum((2, 3, 4)).clamp(min=1e-6)
    pans = batch.pans[:, context:][:, pairs]
    return (pans * lag).square().mean()
