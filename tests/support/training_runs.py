"""Training runs of the DiT that take a second: a random VAE, and clips of eight latent frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from longtake.model.config import DiTConfig
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.tiny_model import randomise
from longtake.training import train_dit
from longtake.training.batches import TASKS

WIDTHS = TinyVAEConfig((4, 4, 8), (4, 6, 8))
DIT = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=8)


def save_tiny_vae(folder: Path) -> Path:
    """Write a small random VAE into `folder` and return its file."""
    vae = TinyVAE(WIDTHS)
    randomise(vae, 0)
    save_file(vae.state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


def tiny_run(steps: int, config: DiTConfig = DIT, window: int = 3) -> train_dit.DiTTraining:
    """Settings of a run on clips of eight latent frames of 64 x 16 pixels."""
    tasks = {
        name: replace(
            task,
            pool=replace(task.pool, clips=2, latent_frames=8, width=16),
            batch=1,
            context=6,
            noisy=6,
            windows=(window,),
        )
        for name, task in TASKS.items()
    }
    return train_dit.DiTTraining(steps, config=config, tasks=tasks, probe=tasks["narrow"])
