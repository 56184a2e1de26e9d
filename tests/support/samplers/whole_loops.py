"""The sampling loops of families that are no few-step ones, by diffusers' models and solver: all
latent frames of a pass together, nothing kept from one pass to the next.

Sources: Wan-Video/Wan2.1 `wan/text2video.py`; SkyworkAI/SkyReels-V2
`pipelines/diffusion_forcing_pipeline.py`, whose matrix is taken from diffusers' port. Both round
timesteps down to whole numbers for the model alone; here, as in ComfyUI, they are as the noise is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Latents (f, c, h, w), timesteps (f) and a prompt (l, c) to velocities."""


@dataclass(frozen=True)
class Guided:
    """Both prompts and how strongly the first is followed."""

    velocity: Velocity
    text: Tensor
    negative: Tensor
    cfg: float

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Classifier-free guidance."""
        without = self.velocity(x, t, self.negative)
        return without + self.cfg * (self.velocity(x, t, self.text) - without)


def unipc(steps: int, shift: float) -> Any:
    """diffusers' solver at the levels of Wan's own, `wan/utils/fm_solvers_unipc.py`: even ones from
    .999 on, shifted; timesteps are rounded down to whole numbers.
    """
    made = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2
    )
    made.set_timesteps(steps)
    even = torch.linspace(0.999, 0, steps + 1, dtype=torch.float64)
    sigmas = shift * even / (1 + (shift - 1) * even)
    made.sigmas, made.timesteps = sigmas.float(), (1000 * sigmas[:-1]).floor()
    return made


def full_sequence_loop(guided: Guided, noise: Tensor, steps: int, shift: float) -> Tensor:
    """All latent frames (f, c, h, w) from noise, by one solver."""
    solver, x = unipc(steps, shift), noise
    for t in solver.timesteps:
        x = solver.step(guided(x, t.expand(len(x))), t, x).prev_sample
    return x


@dataclass(frozen=True)
class Blocks:
    """SkyReels-V2's settings; latent frames. `base` is the most that a pass takes."""

    steps: int
    shift: float
    ar_step: int
    size: int = 5
    base: int = 25


def skyreels_pass(
    guided: Guided,
    blocks: Blocks,
    noise: Tensor,
    prefix: Tensor,
    told: float = 0.0,
    drawn: Tensor | None = None,
) -> Tensor:
    """Latents (f, c, h, w) that begin with `prefix`: every frame has a solver of its own, and takes
    its steps where the matrix says so. The prefix is shown with noise `drawn` at timestep `told`
    (`addnoise_condition`). The published code gives a solver a view of the latents that it then
    writes over, which spoils the solver's first correction; here it is a copy.
    """
    x, given = noise.clone(), len(prefix)
    x[:given] = prefix
    solvers, base = [unipc(blocks.steps, blocks.shift) for _ in x], min(blocks.base, len(x))
    _, index, update, intervals = (
        diffusers.SkyReelsV2DiffusionForcingPipeline.generate_timestep_matrix(
            None, len(x), solvers[0].timesteps, base, blocks.ar_step, given, blocks.size
        )
    )
    template = torch.cat([torch.tensor([999.0]), solvers[0].timesteps, torch.zeros(1)])
    for row, moves, (start, stop) in zip(index, update, intervals, strict=True):
        t, shown = template[row], x.clone()
        if drawn is not None:
            shown[:given] = (1 - told / 1000) * prefix + told / 1000 * drawn
            t[:given] = told
        v = guided(shown[start:stop], t[start:stop])
        for i in range(start, stop):
            if moves[i]:
                step = solvers[i].timesteps[row[i] - 1]
                x[i] = solvers[i].step(v[i - start], step, x[i].clone()).prev_sample
    return x
