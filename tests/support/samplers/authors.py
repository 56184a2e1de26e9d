"""Rollouts by a family's preset, and what its authors' own code made of the same inputs.

The files lie in `tests/data/authors`; its README says how they were made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.model.dit import WanDiT
from longtake.model.preset import Preset
from longtake.model.preset_cache import preset_cache
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.denoiser import (
    Commits,
    Denoiser,
    LowNoise,
    SecondWeights,
    local_denoiser,
)
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise
from longtake.samplers.rules.memory import preset_rules
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.options import preset_schedule, preset_solver
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.tiny_model import TINY

FOLDER = Path(__file__).resolve().parents[2] / "data" / "authors"
SEED = 7
RUNS = {
    "self-forcing": "self_forcing",
    "causvid": "causvid",
    "causal-forcing": "self_forcing",  # their code made the same latents to the bit
    "causal-forcing-framewise": "causal_forcing_framewise",
    "causal-forcing-1step": "causal_forcing_1step",
    "causal-forcing-2step": "causal_forcing_2step",
    "one-forcing": "causal_forcing_1step",  # the same bits
    "sgf-framewise": "sgf_framewise",
    "sgf": "sgf_chunkwise",
    "sgf-plus-framewise": "sgf_plus_framewise",
    "sgf-plus": "sgf_plus_chunkwise",
    "causal-forcing-cd": "self_forcing",  # run by the same code and the same settings
    "causal-forcing-cd-framewise": "causal_forcing_framewise",
    "causal-forcing-ode": "self_forcing",
    "causal-forcing-ode-framewise": "causal_forcing_framewise",
    "causal-forcing-ar": "causal_forcing_ar",
    "causal-forcing-ar-framewise": "causal_forcing_ar_framewise",
    "reward-forcing": "reward_forcing",
    "rolling-forcing": "rolling_forcing",
    "wave-forcing": "wave_forcing",
    "longlive": "longlive",
    "longlive-infinity": "longlive_infinity",
    "memflow": "memflow",
    "krea-realtime": "krea",
    "longlive2": "longlive2",
    "skyreels-df": "skyreels",
}
"""The file of each family's run."""


class ToyDecoder:
    """Four pictures of a latent frame, each with something of the latent frame before it."""

    def __init__(self) -> None:
        self.before: Tensor | None = None

    def feed(self, latents: Tensor) -> Tensor:
        """Pictures (4 f, c, h, w) of latents (f, c, h, w)."""
        pictures = []
        for now in latents:
            before = torch.zeros_like(now) if self.before is None else self.before
            pictures += [now * (i + 1) / 4 + before / 4 for i in range(4)]
            self.before = now
        return torch.stack(pictures)


class ToyEncoder:
    """A latent frame of every picture."""

    def feed(self, frames: Tensor) -> Tensor:
        """Latents (f, c, h, w) of pictures."""
        return frames * 0.75 + 0.125

    def drain(self) -> None:
        """Nothing is left."""


class ToyCodec:
    """What stood for the VAE in Krea's run."""

    device = torch.device("cpu")

    def open_decoder(self) -> ToyDecoder:
        """A new decoder."""
        return ToyDecoder()

    def open_encoder(self) -> ToyEncoder:
        """A new encoder."""
        return ToyEncoder()


@dataclass(frozen=True)
class AuthorsRun:
    """One run of published code: its inputs, and the latents (f, c, h, w) that it made.

    `noise` (step, f, c, h, w) is the start noise, then what was added after each step. `context`
    (f, c, h, w) is the noise of frames that are shown as history, where the code adds any.
    """

    noise: Tensor
    text: Tensor
    latents: Tensor
    context: Tensor | None = None

    @classmethod
    def read(cls, name: str) -> AuthorsRun:
        """The run in the file `name`."""
        tensors = load_file(FOLDER / f"{name}.safetensors")
        return cls(**tensors)

    def rollout(
        self, preset: Preset, passes: LowNoise | Commits | None = None, **changes: Any
    ) -> Tensor:
        """Ours on the same inputs, by `preset` and other settings.

        `passes` are those of the second weights.
        """
        self._check_noise()
        model = _model("weights")
        if passes is not None:
            model = replace(model, second=SecondWeights(_model("weights_twin"), passes))
        return preset_rollout(self.text, self.latents, model, preset, **changes)

    def _check_noise(self) -> None:
        """Our rollout draws its noise by address; it must be the noise that the authors got."""
        drawn = [(step, "renoise" if step else "start", of) for step, of in enumerate(self.noise)]
        if self.context is not None:
            drawn.append((0, "context", self.context))
        for step, purpose, by_frame in drawn:
            for frame, noise in enumerate(by_frame):
                ours = addressed_noise(SEED, frame, step, purpose, tuple(noise.shape))
                assert torch.equal(ours, noise), f"{purpose}, step {step}, latent frame {frame}"


def preset_rollout(
    text: Tensor, latents: Tensor, model: Denoiser, preset: Preset, **changes: Any
) -> Tensor:
    """Ours with the authors' text and of the size of their `latents` (f, c, h, w).

    By `preset` and other settings.
    """
    settings = shot_settings(text, latents, preset, **changes)
    return torch.cat([chunk.latents for chunk in generate(settings, model)])


def shot_settings(text: Tensor, latents: Tensor, preset: Preset, **changes: Any) -> RolloutSettings:
    """The settings of `preset_rollout`."""
    prompts = PromptTimeline((TimedPrompt(0, text, "a"),), torch.zeros_like(text))
    cache = preset_cache(preset)
    of_family = {
        "cache": cache, "memory": preset_rules(preset, cache),
        "guidance": cfg(preset.guidance_scale), "context_noise": ContextNoise(preset.context_noise),
    }  # fmt: skip
    return RolloutSettings(
        prompts, *latents.shape[2:], preset_schedule(preset), length=len(latents), seed=SEED,
        solver=preset_solver(preset), **{**of_family, **changes},
    )  # fmt: skip


def _model(name: str) -> Denoiser:
    dit = WanDiT(TINY)
    dit.load_state_dict(load_file(FOLDER / f"{name}.safetensors"))
    return local_denoiser(dit.eval().requires_grad_(False), TINY)
